import json
import re

import pytest

from cnnjax.config import Config, differences
from cnnjax.errors import UserError


def test_json_round_trip():
    config = Config(
        model="plain56",
        model_options={"width": 8, "stage_sizes": (1, 2)},
        boundaries=(5, 9),
        learning_rate=0.3,
    )
    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_differences_name_the_fields():
    old, new = Config().to_json(), Config(steps=9, seed=1).to_json()
    assert differences(old, new) == ["seed 0 there, 1 here", "steps 64000 there, 9 here"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 0}, "steps=0: must be at least 1"),
        ({"batch_size": -1}, "batch_size=-1: must be at least 1"),
        ({"learning_rate": float("nan")}, "learning_rate=nan: must be a positive number"),
        ({"momentum": 1.0}, "momentum=1.0: must be in [0, 1)"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0: must not be negative"),
        ({"mixup": -1.0}, "mixup=-1.0: must not be negative"),
        ({"mixup": 1.0, "loss": "map"}, "mixup=1.0: is for the cross-entropy, not for loss='map'"),
        ({"max_filter_rms": 0.0}, "max_filter_rms=0.0: must be a positive number"),
        ({"augment": "mixup"}, "must be one of none, flip, crop, crop_flip"),
        ({"model_options": {"dtype": float}}, "must be JSON values"),
        ({"boundaries": (9, 5)}, "must be rising steps"),
        ({"warmup_steps": -1}, "must not be negative"),
        ({"boundaries": (-5, 5)}, "must be rising steps"),
        ({"boundaries": (5, 2**31)}, "must be rising steps"),
        ({"rate_drop": 1.0}, "must be between 0 and 1"),
        ({"seed": 2**32}, "must be below 2**32"),
        ({"steps": "4"}, "steps='4': must be a whole number"),
        ({"steps": 4.5}, "must be a whole number"),
        ({"learning_rate": "0.1"}, "must be a number"),
        ({"model_options": {"name": "x"}}, "the network's name is the field model"),
    ],
)
def test_impossible_values_are_one_clear_line(fields, message):
    with pytest.raises(UserError, match=re.escape(message)):
        Config(**fields)


def test_unknown_fields_of_a_file():
    with pytest.raises(UserError, match="unknown field 'lr'"):
        Config.from_json({"lr": 0.1})
