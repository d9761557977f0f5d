import dataclasses
import json
import os
import re
from pathlib import Path

import pytest

from cnnjax.errors import UserError
from cnnjax.files import read_jsonl
from cnnjax.run_flags import Running
from experiments.degradation import Args, configs, main, networks
from experiments.runner import spread, text_table
from tests.experiments.pages import cells_of, study_of
from tests.sinks.mine import notes


def runs(**fields):
    return configs(Args(**fields), flips=True, side=28)


def test_quick_trains_four_small_nets():
    found = runs()
    assert list(found) == ["plain56_seed0", "resnet56_seed0", "plain20_seed0", "resnet20_seed0"]
    config = found["plain56_seed0"]
    assert (config.data, config.downsample) == ("fashion_mini", 2)
    assert (config.steps, config.warmup_steps) == (400, 50)
    for other in found.values():  # nothing but the network differs
        assert dataclasses.replace(other, model=config.model) == config


def test_paper_is_the_papers():
    """Section 4.2, in every field of every run."""
    papers = {
        "model_options": {}, "bn_group_size": None, "dtype": "float32", "data": "cifar10", "validation": 0,
        "downsample": 1, "augment": "crop_flip", "colour": 0.0,
        "normalize": "pixel_mean", "steps": 64_000,
        "batch_size": 128, "loss": "cross_entropy", "map_constant": 1.0, "label_smoothing": 0.0,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "schedule": "piecewise", "boundaries": [32_000, 48_000], "rate_drop": 0.1,
        "patience": 10, "momentum": 0.9,
        "nesterov": False, "weight_decay": 1e-4, "decay": "convolutions", "evaluate_every": 400,
        "checkpoint_every": 1_000, "data_seed": None, "initial": None, "freeze": [], "optimizer_options": {},
        "schedule_options": {}, "groups": {}, "clip_value": None, "clip_layer_norm": None, "clip_norm": None,
        "mixup": 0.0, "photometry": 0.0, "cutout": 0, "unreadable": "refuse",
        "fixed_norms": False, "max_filter_rms": None, "lookahead": 0, "accumulate": 1,
        "ema": 0.0, "metrics": [], "probes": [],
    }  # fmt: skip
    expected = {}
    for seed in range(3):
        for family, depths in (("plain", (20, 32, 44, 56)), ("resnet", (20, 32, 44, 56, 110))):
            for depth in depths:
                warmup = {"warmup_steps": 400, "warmup": "tenth"} if depth == 110 else {}
                own = {"model": f"{family}{depth}", "seed": seed, "warmup_steps": 0, "warmup": "linear"}
                own |= warmup
                expected[f"{family}{depth}_seed{seed}"] = papers | own
    assert {name: config.to_json() for name, config in runs(preset="paper").items()} == expected
    assert runs(preset="paper", validation=5_000)["plain20_seed0"].validation == 5_000


def test_networks_of_ones_own_are_compared(tmp_path):
    """From a file, by the command's own parts; the figure's panel has a curve for each."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from flax import linen as nn\n"
        "class Shallow(nn.Module):\n"
        "    num_classes: int = 10\n"
        "    depth: int = 1\n"
        "    @nn.compact\n"
        "    def __call__(self, x):\n"
        "        for _ in range(self.depth):\n"
        "            x = nn.relu(nn.Conv(2, (3, 3))(x))\n"
        "        return nn.Dense(self.num_classes)(x.mean((1, 2)))\n"
        "class Deep(Shallow):\n"
        "    depth: int = 3\n"
    )
    models = tuple(f"{file}:{name}" for name in ("Shallow", "Deep"))
    args = Args(preset="smoke", steps=2, models=models, workers=1, out=tmp_path / "out")
    main(args)
    rows = json.loads((tmp_path / "out" / "summary.json").read_text())["results"]
    assert [row["model"] for row in rows] == ["Shallow", "Deep"]
    assert (tmp_path / "out" / "degradation.png").exists()
    assert (tmp_path / "out" / "Deep_seed0" / "result.json").exists()


def test_digits_are_not_flipped():
    config = configs(Args(data="mnist"), flips=False, side=28)["plain20_seed0"]
    assert config.augment == "none"


@pytest.mark.parametrize("fields", [{"depths": (21,)}, {"depths": (2,)}, {"seeds": 0}, {"steps": 0}])
def test_impossible_requests(fields):
    with pytest.raises(UserError):
        networks(Args(**fields))


def test_spread():
    assert spread([1.0, 2.0, 3.0]) == {"mean": 2.0, "std": 1.0, "values": [1.0, 2.0, 3.0]}
    assert spread([0.5])["std"] == 0.0


def test_text_table():
    assert (
        text_table(["net", "error"], [["plain20", "9.5"]]) == "net      error\n--------------\nplain20    9.5"
    )


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    out = tmp_path_factory.mktemp("smoke") / "runs"
    running = Running(sinks=("tests.sinks.mine:Notes",))
    args = Args(preset="smoke", depths=(8,), seeds=2, steps=4, workers=1, out=out, running=running)
    main(args)
    return args


def test_the_folder(smoke):
    (plain, residual) = json.loads((smoke.out / "summary.json").read_text())["results"]
    assert [plain["model"], plain["family"], plain["depth"], plain["seeds"]] == ["plain8", "plain", 8, 2]
    assert residual["model"] == "resnet8"
    for seed in range(2):
        lines = read_jsonl(smoke.out / f"plain8_seed{seed}" / "metrics.jsonl")
        train = [line for line in lines if "train_loss" in line]
        assert plain["train_loss"]["values"][seed] == train[-1]["train_loss"]
        assert plain["test_error"]["values"][seed] == lines[-1]["test_error"]
    assert plain["train_loss"]["values"][0] != plain["train_loss"]["values"][1]
    settings = json.loads((smoke.out / "config.json").read_text())
    assert settings["experiment"]["preset"] == "smoke"
    assert {"versions", "device", "command", "git_commit"} <= set(settings["environment"])
    assert (smoke.out / "degradation.png").read_bytes().startswith(b"\x89PNG")


def test_sinks_get_the_numbers_of_each_run_and_the_figure(smoke):
    written = [words for words in notes(smoke.out / "plain8_seed0") if words[0] == "write"]
    assert [words[1] for words in written] == [1, 1, 2, 2, 3, 3, 4, 4]  # each step was tested
    assert notes(smoke.out) == [
        ["start", None, 0],
        ["figure", 0, "degradation", "degradation.png"],
        ["close"],
    ]


def test_the_page_needs_nothing_else(smoke):
    study = study_of(smoke.out)
    assert len(study["figures"]) == 1
    assert "plain8" in cells_of(study)
    assert not [name for name in os.listdir(smoke.out) if name.endswith(".tmp")]


def test_a_second_start_trains_nothing_and_draws_the_same(smoke, monkeypatch, capsys):
    monkeypatch.setattr("experiments.runner.train_many", lambda *_, **__: pytest.fail("trained again"))
    before = {name: (smoke.out / name).read_bytes() for name in ("summary.json", "degradation.svg")}
    main(smoke)
    assert before == {name: (smoke.out / name).read_bytes() for name in before}
    out = capsys.readouterr().out
    assert "4 of 4 runs are finished" in out
    assert str(smoke.out / "report.html") in out


def test_a_folder_of_another_experiment_is_refused(smoke):
    with pytest.raises(UserError, match="steps 4 there, 5 here"):
        main(dataclasses.replace(smoke, steps=5))


def test_the_paper_preset_prints_published_errors(smoke, monkeypatch, capsys):
    metrics = {"train_loss": 0.1, "train_error": 0.01, "test_loss": 0.3, "test_error": 0.08}
    monkeypatch.setattr("experiments.runner.run_all", lambda runs, *_, **__: dict.fromkeys(runs, metrics))
    monkeypatch.setattr(
        "cnnjax.report.curves.error_curves",
        lambda *_, **__: {kind: smoke.out / f"degradation.{kind}" for kind in ("png", "json")},
    )
    out = smoke.out.parent / "paper"
    main(Args(preset="paper", data="synthetic", depths=(20, 56), out=out))
    table = capsys.readouterr().out
    assert re.search(r"plain56 +3 +1.00 ± 0.00 +8.00 ± 0.00 .* about 13.5", table)
    assert re.search(r"resnet20 .* 8.75", table)


@pytest.mark.slow
def test_cifar10_end_to_end_from_an_archive_in_the_genuine_format(write_cifar, tiny, cache, tmp_path):
    """The paper's preset on a tiny archive: read here, and prepared by tensorflow-datasets first."""
    from cnnjax.data import fetch

    arrays = tiny((32, 32, 3), 10)
    archives = tmp_path / "archives"
    write_cifar(archives, "cifar10", "binary", arrays)

    def losses(folder):
        args = Args(
            preset="paper",
            data_dir=archives,
            verify=False,
            depths=(8,),
            families=("plain",),
            seeds=1,
            steps=2,
            out=tmp_path / folder,
        )
        main(args)
        (row,) = json.loads((args.out / "summary.json").read_text())["results"]
        assert row["test_error"]["mean"] * len(arrays[3]) % 1 == 0
        lines = read_jsonl(args.out / "plain8_seed0" / "metrics.jsonl")
        return [line["train_loss"] for line in lines if "train_loss" in line]

    read_here = losses("read_here")
    recorded = Path(__file__).with_name("cifar10_losses.json")
    # The first alone: after it a ReLU may have fallen to the other side on another processor.
    assert read_here[0] == pytest.approx(json.loads(recorded.read_text())[0], rel=1e-4)
    fetch("cifar10", archives, source="tfds", verify=False)
    assert losses("prepared") == read_here
