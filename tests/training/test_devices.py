"""The same steps on meshes of virtual devices: numbers, memory, and what the devices exchange.

In float64: in float32 a ReLU or a maximum may fall to the other side when sums are taken in another order,
and that alone moves the gradient of a narrow net by percents.
"""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What a network has of a Config, the side of its images, and what its initial kernels are multiplied by:
# AlexNet's are so small that next to nothing comes through when it is narrow.
NETS = {
    "one stage": (
        {
            "model": "resnet8",
            "model_options": {"width": 16, "stage_sizes": [1]},
            "batch_size": 16,
            "learning_rate": 0.02,
        },
        8,
        1,
    ),
    "two stages": (
        {
            "model": "resnet8",
            "model_options": {"width": 8, "stage_sizes": [1, 1]},
            "batch_size": 16,
            "learning_rate": 0.02,
        },
        8,
        1,
    ),
    "alexnet": (
        {"model": "alexnet", "model_options": {"width": 4}, "batch_size": 4, "learning_rate": 1e-3},
        224,
        8,
    ),
    "resnext": (
        {
            "model": "resnext29_4x16d",
            "model_options": {"width": 8, "stage_sizes": [1, 1, 1]},
            "batch_size": 16,
            "learning_rate": 5e-3,
        },
        8,
        1,
    ),
    "groups of 2": (
        {
            "model": "resnet8",
            "model_options": {"width": 8, "stage_sizes": [1, 1]},
            "bn_group_size": 2,
            "batch_size": 16,
            "learning_rate": 0.02,
        },
        8,
        1,
    ),
}
STEPS, ITEM = 3, 8  # bytes of a float64
ONE = "data=1 replicated"
MESHES = {"one stage": [ONE, "data=8 replicated", "data=8 fsdp"]}
MORE = {
    "two stages": [
        ONE,
        "data=2 replicated",
        "data=4 replicated",
        "data=8 fsdp",
        "data=4,model=2 fsdp",
        "data=2,model=4 fsdp",
        "data=4,model=2 model",
        "data=1,model=2 model",
    ],
    "alexnet": [ONE, "data=1,model=2 model", "data=2,model=2 model", "data=2,model=2 fsdp"],
    "groups of 2": [ONE, "data=2 replicated", "data=8 replicated", "data=8 fsdp"],
    "resnext": [ONE, "data=2 replicated", "data=1,model=2 model", "data=2,model=4 fsdp"],
}


def measure(net, meshes):
    """For each mesh the losses, how far the state is from that on the first, bytes, and collectives."""
    import jax
    import numpy as np

    import cnnjax
    from cnnjax.counting.exchanges import exchanges
    from cnnjax.counting.hlo import Program as Compiled
    from cnnjax.data.batches import batch_indices
    from cnnjax.data.synthetic import synthetic
    from cnnjax.mesh import SMALL, parse_mesh
    from cnnjax.recipes import Objects, resolve
    from cnnjax.training.program import Program

    fields, side, gain = NETS[net]
    config = cnnjax.Config(data="synthetic", dtype="float64", steps=STEPS, **fields)
    data = synthetic(train=50, test=21, size=side)
    first, found = None, {}
    for text in meshes:
        mesh, shard = text.split()
        program = Program(resolve(config, Objects(data=data)), parse_mesh(mesh), shard)
        state, per_run, losses = program.init([0]), program.per_run([config]), []
        state = state.replace(
            params=jax.tree.map(lambda array: gain * array if array.ndim > 2 else array, state.params)
        )
        indices = [
            np.array([[batch_indices(0, step, config.batch_size, 50)]]) for step in range(config.steps)
        ]
        compiled = program.trace().lower().compile()
        exchanged = exchanges(Compiled(compiled.as_text()))
        for now in indices:
            state, metrics, _ = compiled(state, program.input_source.train_arrays, now, per_run)
            losses.append(float(metrics["train_loss"][0, 0]))  # one step in flight: more can dead-lock
        (final,) = program.get(state)
        first = first or final
        sizes = [leaf.size for leaf in jax.tree.leaves(final.params)]
        apart = jax.tree.map(lambda a, b: float(abs(a - b).max() / (abs(b).max() or 1.0)), final, first)
        found[text] = {
            "losses": losses,
            "distance": max(jax.tree.leaves(apart)),
            "memory": compiled.memory_analysis().argument_size_in_bytes,
            "exchanged": {kind: one.bytes // ITEM for kind, one in exchanged.items()},
            "parameters": sum(sizes),
            "large": sum(size for size in sizes if size >= SMALL),
            "statistics": sum(leaf.size for leaf in jax.tree.leaves(final.carried)),
        }
    return found


def run(meshes):
    """`measure` of the nets and meshes on 8 virtual devices."""
    environment = {**os.environ, "JAX_ENABLE_X64": "1", "PJRT_NPROC": "32"}  # threads for all devices
    command = [sys.executable, "-m", "tests.training.test_devices", json.dumps(meshes)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def found(own_cache):
    return run(MESHES)


def assert_same(one, several):
    """The losses, and parameters, momentum and statistics relative to the largest of each array."""
    assert len(set(one["losses"])) == STEPS  # or nothing was learned, and nothing compared
    assert several["losses"] == pytest.approx(one["losses"], rel=1e-10)
    assert several["distance"] < 1e-9


@pytest.mark.parametrize(("net", "mesh"), [(net, mesh) for net in MESHES for mesh in MESHES[net][1:]])
def test_the_numbers_are_those_of_one_device(found, net, mesh):
    assert_same(found[net][ONE], found[net][mesh])


@pytest.fixture(scope="module")
def more(own_cache):
    return functools.cache(lambda net: run({net: MORE[net]})[net])


@pytest.mark.slow
@pytest.mark.parametrize("net", MORE)
def test_the_numbers_are_the_same_on_more_meshes(more, net):
    one, *others = more(net).values()
    for several in others:
        assert_same(one, several)


def test_devices_exchange_gradients_and_batch_statistics(found):
    """Of each BatchNorm channel two sums, for its statistics; those of its backward pass are gradients."""
    found = found["one stage"]
    one = found["data=8 replicated"]
    reduced = one["parameters"] + one["statistics"] + 2  # the loss and the errors
    assert one["exchanged"] == {"all-reduce": reduced}
    assert found[ONE]["exchanged"] == {}
    # Fully sharded, each large array is brought together once besides.
    assert found["data=8 fsdp"]["exchanged"] == {"all-reduce": reduced, "all-gather": one["large"]}


@pytest.mark.slow
def test_the_towers_of_alexnet_meet_in_few_layers(more):
    """The third convolution and the fully connected layers take all channels; the loss takes all logits."""
    images, conv2, pool5, hidden = 4, 13 * 13 * 10, 6 * 6 * 10, 170  # channels and units of both towers
    assert more("alexnet")[ONE]["exchanged"] == {}
    towers = more("alexnet")["data=1,model=2 model"]
    # Each such layer's input is gathered (conv3's once more, for its kernel's gradient), and its gradient
    # summed. Of the logits: for each half the maximum and where it is; and three sums over both.
    assert towers["exchanged"] == {
        "all-gather": images * (2 * conv2 + pool5 + 2 * hidden + 2 * 2),
        "all-reduce": images * (conv2 + pool5 + 2 * hidden + 3),
    }


def test_memory_of_a_device_falls_as_the_state_is_divided(found):
    """Parameters and momentum, 8 bytes each: an eighth of the large ones, the small ones whole."""
    found = found["one stage"]
    one = found["data=8 replicated"]
    assert one["memory"] - found["data=8 fsdp"]["memory"] == 2 * ITEM * one["large"] * 7 / 8


if __name__ == "__main__":
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8)
    from cnnjax.compilation import use_cache

    use_cache()
    print(json.dumps({net: measure(net, meshes) for net, meshes in json.loads(sys.argv[1]).items()}))
