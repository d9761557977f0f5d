"""The experiment end to end, and that what it compares is the same network. Times are not judged."""

import json
import math

import pytest

from cnnjax import build, summary
from cnnjax.errors import UserError
from experiments.throughput.__main__ import main, table
from experiments.throughput.contestants import network
from experiments.throughput.settings import Args, Setting


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("throughput")
    main(Args(models=("plain8",), batch=(4,), image=8, turns=2, steps=1, trace=folder / "trace", out=folder))
    return folder


@pytest.mark.slow
def test_the_summary_holds_what_was_measured(out):
    (row,) = json.loads((out / "summary.json").read_text())["results"]
    assert row["contestant"] == "cnnjax"
    assert row["parameters"] == summary("plain8").parameters
    assert len(row["step_seconds"]["values"]) == 2
    median = row["step_seconds"]["median"]
    assert math.isclose(row["images_per_second"], 4 / median)
    assert math.isclose(row["macs_per_second"], 3 * 4 * summary("plain8", 8).macs / median)
    assert row["cnnjax_time_over_this"]["values"] == [1, 1]


@pytest.mark.slow
def test_figure_and_profile_are_written(out):
    assert (out / "throughput.png").stat().st_size > 1000
    assert list(out.glob("trace/plain8/**/*.xplane.pb"))


def test_the_table_has_the_ratio_and_its_spread():
    row = {
        "model": "resnet20",
        "batch": 128,
        "contestant": "torch",
        "step_seconds": {"median": 0.5, "values": [0.5]},
        "cnnjax_time_over_this": {"median": 1.1, "values": [1.0, 1.1, 1.3]},
        "images_per_second": 256.0,
        "fraction_of_matmul_peak": 0.4,
        "compile_seconds": None,
        "peak_host_bytes": 2**30,
    }
    _, ((*_, ratio),) = table([row])
    assert ratio == "1.10 (1.00 to 1.30)"


def test_bad_input_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"--turns 0: must be at least 1"):
        main(Args(turns=0, out=tmp_path))
    with pytest.raises(UserError, match=r"--image 0: must be at least 1"):
        main(Args(image=0, out=tmp_path))
    with pytest.raises(UserError, match=r"--batch 0: must be at least 1"):
        main(Args(batch=(128, 0), out=tmp_path))
    with pytest.raises(UserError, match="nothing to time"):
        main(Args(models=(), out=tmp_path))
    with pytest.raises(UserError, match="did you mean resnet56"):
        main(Args(models=("resnet_56",), out=tmp_path))


@pytest.mark.parametrize(
    "name", ["resnet20", "plain20", "resnet50_torchvision", "preresnet20", "preresnet164", "wrn16_4"]
)
def test_the_twin_in_pytorch_has_as_many_parameters(name):
    pytest.importorskip("torch")
    from experiments.throughput.torch_twin import step

    assert step(build(name), 1, build(name).input_shape).parameters == summary(name).parameters


def test_the_plain_contestant_has_xlas_convolution_and_no_loop():
    setting = Setting("resnet20", 4, None, "float32", "scan")
    model, options, image = network(setting, "flax")
    assert (model.convolution, model.loop, image) == ("native", "unrolled", (32, 32, 3))
    assert options == {"convolution": "native", "loop": "unrolled"}
    assert network(setting, "cnnjax")[0].loop == "scan"
    without_a_loop = Setting("vgg11", 4, None, "float32", "scan")
    assert network(without_a_loop, "in_loop")[1] == {}
