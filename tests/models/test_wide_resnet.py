import pytest
from flax.traverse_util import flatten_dict

from cnnjax.errors import UserError
from cnnjax.models import build
from cnnjax.ops.init import INITS, he_normal_fan_in
from tests.counting import trace


@pytest.mark.parametrize("depth", [16, 22])
def test_the_depth_counts_projections_and_no_classifier(depth):
    kernels = [
        p for p in flatten_dict(trace(build(f"wrn{depth}_2"), (32, 32, 3))["params"]) if p[-1] == "kernel"
    ]
    assert len(kernels) - 1 == depth


def test_the_first_block_has_its_own_batchnorm_and_the_stem_has_none():
    params = trace(build("wrn10_1"), (32, 32, 3))["params"]
    assert "bn1" not in params
    assert "bn1" in params["stage1_block01"]
    assert "shortcut" not in params["stage1_block01"]
    assert INITS[build("wrn10_1").kernel_init] is he_normal_fan_in


@pytest.mark.parametrize(
    ("name", "message"), [("wrn15_2", "wrn10_2 and wrn16_2"), ("wide_resnet34_2", "50, 101, 152, 200")]
)
def test_other_depths_say_which_there_are(name, message):
    with pytest.raises(UserError, match=message):
        build(name)
