"""What `cnnjax plan` says, without any accelerator's compiler; those are in test_accelerators.py."""

import ctypes
import dataclasses
import gc
import importlib.util
import json
import os
import subprocess
import sys

import jax
import pytest

import cnnjax
from cnnjax.counting.exchanges import Exchange
from cnnjax.counting.flops import flops
from cnnjax.counting.plans import Comparison, compare_plans
from cnnjax.counting.roofline import roofline
from cnnjax.counting.topology import ACCELERATORS, Topology, open_topology
from cnnjax.data.stand_in import natural, stand_in
from cnnjax.data.synthetic import synthetic
from cnnjax.errors import UserError
from cnnjax.recipes import Objects, resolve
from cnnjax.training.program import Program
from tests.nets import TwoConvolutions

CONFIG = cnnjax.Config(model="resnet8", model_options={"width": 2, "stage_sizes": [1]}, batch_size=8)
KEYS = (
    "parameters state_bytes argument_bytes temporary_bytes device_memory_bytes fits largest_batch exchanges "
    "flops bytes_accessed bound_seconds bound_by compile_seconds topology"
)


@pytest.fixture(scope="module")
def planned():
    """Of a user's own module, on this machine's CPU."""
    config, data = cnnjax.Config(batch_size=8), synthetic(classes=3)
    return cnnjax.plan(config, model=TwoConvolutions(), data=data, topology="cpu:1")


def test_a_plan_has_what_was_compiled(planned):
    weights = 3 * 3 * 3 * 3 + 3 + 3 * 3 * 3 * 4 + 4 + 2 * (3 + 4) + 4 * 3 + 3
    assert planned.parameters == weights
    numbers = 2 * weights + 2 * (3 + 4) + 2  # momentum; averages of BatchNorm; the step, twice
    data = 2048 * (16 * 16 * 3 + 4)  # the images lie on the device
    assert planned.state_bytes == 4 * numbers
    assert planned.argument_bytes == planned.state_bytes + data + 4 * (8 + 2 + 2)
    assert planned.temporary_bytes > 8 * 16 * 16 * (3 + 4) * 4  # activations
    assert planned.fits
    assert planned.exchanges == {}
    assert planned.bound_seconds is planned.bound_by is None  # of a CPU no peak is published
    assert sum(planned.convolutions.values()) == 2 + 2 + 1
    limited = dataclasses.replace(
        planned, at_batch=lambda images: dataclasses.replace(planned, fits=images <= 100)
    )  # in the place of what would be compiled
    assert list(limited.to_json()) == KEYS.split()
    assert json.loads(json.dumps(limited.to_json())) == limited.to_json()
    for word in ("TwoConvolutions on synthetic, batch 8", "fits: of", "largest batch"):
        assert word in str(limited)


@pytest.mark.parametrize(
    ("most", "unit", "found"), [(100, 1, range(88, 101)), (7, 8, [0]), (512, 8, range(448, 513))]
)
def test_the_largest_batch_is_bisected(planned, most, unit, found):
    """To an eighth; memory need not grow in proportion."""

    def at_batch(images):
        assert images % unit == 0
        tried.append(images)
        config = dataclasses.replace(planned.config, batch_size=images)
        used = dict(argument_bytes=10, temporary_bytes=5 + 2 * images, usable_bytes=15 + 2 * most)
        return dataclasses.replace(
            planned, config=config, fits=images <= most, mesh={"data": unit}, at_batch=at_batch, **used
        )

    tried = []
    assert at_batch(64).largest_batch in found
    assert len(tried) <= 8


def test_operations_are_those_of_the_layers():
    """Forward and two gradients, but for the images'; whoever computes the convolutions."""
    counts = []
    for convolution in ("native", "canonical"):
        config = dataclasses.replace(
            CONFIG, model_options={**CONFIG.model_options, "convolution": convolution, "shortcut": "B"}
        )
        task = resolve(config, Objects(data=stand_in("cifar10")))
        traced = Program(task, cnnjax.make_mesh(data=1)).trace()
        counts.append(flops(traced.jaxpr.jaxpr))
    layers = cnnjax.summary("resnet8", width=2, stage_sizes=(1,), shortcut="B").layers
    forward, first = sum(layer.macs for layer in layers), layers[0].macs
    assert layers[0].name == "conv1"
    assert counts[0] == counts[1] == {"float32": 8 * 2 * (3 * forward - first)}


def test_the_bound_is_the_slowest_of_three():
    h100 = Topology("h100:8", (None,) * 8, ACCELERATORS["h100"], {})
    exchanged = {"all-reduce": Exchange(1, 100, 450e9)}
    found = roofline({"bfloat16": 989e12, "float32": 494e12}, 3352e9 * 3, exchanged, h100)
    assert found == {"compute": 2.0, "memory": 3.0, "network": 1.0}
    far = dataclasses.replace(h100, devices=(None,) * 16)  # two nodes
    assert roofline({}, 0, exchanged, far)["network"] == 9.0
    assert roofline({"int8": 1}, 0, {}, h100) == {}


def test_the_recommended_plan_fits_and_has_the_most_images_a_second(planned):
    bounds = [(16, 1.0, True), (64, 3.0, True), (128, 3.0, False)]
    plans = [
        dataclasses.replace(
            planned,
            config=dataclasses.replace(planned.config, batch_size=batch),
            seconds={"memory": s},
            fits=fits,
        )
        for batch, s, fits in bounds
    ]
    compared = Comparison([{"batch_size": batch} for batch, *_ in bounds], plans)
    assert compared.recommended == 1
    assert "recommended, by these bounds: batch_size=64" in str(compared)
    none = Comparison(compared.settings[2:], plans[2:])
    assert none.recommended is None
    assert "none of them fits" in str(none)


@pytest.mark.parametrize(
    ("topology", "message"),
    [
        ("z80:4", "must be one of v5e, v5p, v6e, a100, h100, h200, b200 or cpu"),
        (8, "must be one of v5e"),
        ("h100:9", "1 to 8 GPUs, or a multiple of 8"),
        ("cpu:4096", "jax_num_cpu_devices"),
        ("cpu:", "a number of devices"),
    ],
)
def test_an_unknown_topology_is_one_line(topology, message):
    with pytest.raises(UserError, match=message) as error:
        cnnjax.plan(CONFIG, topology=topology)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("topology", "extra"), [("v5e:2x2", "tpu"), ("h100:8", "cuda")])
def test_without_the_extras_a_line_says_what_to_install(monkeypatch, topology, extra):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"pip install 'cnnjax\[{extra}\]'"):
        open_topology(topology)


@pytest.mark.parametrize("setting", ["width=3", "shard=all", "batch_size=many", "dtype"])
def test_a_setting_that_cannot_be_compared_is_one_line(setting):
    with pytest.raises(UserError, match=f"--compare {setting}: must be"):
        compare_plans(CONFIG, [setting], topology="cpu:1")


def test_data_need_not_be_here():
    assert natural((28, 28, 1)) == "mnist"
    assert natural((32, 32, 3)) == natural(None) == "cifar10"
    assert natural((224, 224, 3)) == "imagenet2012"
    assert stand_in("cifar10").train_images.shape == (50_000, 32, 32, 3)
    assert len(stand_in("imagenet2012").train) == 1_281_167
    with pytest.raises(UserError, match="no data set is called 'cifar11'"):
        stand_in("cifar11")


@pytest.mark.slow
def test_the_memory_of_a_step_is_what_the_process_uses(own_cache):
    """Within 10 %: activations and working memory, where they are large beside what an allocator keeps."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.test_plan"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    predicted, used = map(int, done.stdout.split())
    assert predicted == pytest.approx(used, rel=0.1)


def measure():
    """Bytes of a step's temporaries as planned, and by how much the process grows in one."""
    config = cnnjax.Config(model="resnet8", data="synthetic", batch_size=1024)
    planned = cnnjax.plan(config, topology="cpu:1")
    program = Program(resolve(config), cnnjax.make_mesh(data=1))
    state, per_run = program.init([0]), program.per_run([config])
    with program.input_source.training([config], 0) as batch_inputs:
        compiled = program.trace().lower().compile()
        arguments = state, program.input_source.train_arrays, batch_inputs(range(1)), per_run
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak starts anew
        before = memory("VmRSS")
        jax.block_until_ready(compiled(*arguments))
    return planned.temporary_bytes, memory("VmHWM") - before


def memory(name):
    """A figure of /proc/self/status in bytes."""
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(f"{name}:"))


if __name__ == "__main__":
    print(*measure())
