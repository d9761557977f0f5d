"""The same 20 steps on meshes of virtual devices: numbers, memory, and what the devices exchange.

`python -m tests.training.test_devices` does it for more meshes than the test suite has time for.
"""

import json
import math
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MESHES = ["data=1 replicated", "data=2 replicated", "data=8 replicated", "data=8 fsdp", "data=4,model=2 fsdp"]
MORE = ["data=4 replicated", "data=2,model=4 fsdp", "data=4,model=2 model", "data=1,model=2 model"]
STEPS = 20


def measure(meshes):
    """For each mesh the losses, the parameters' distance from those on the first, bytes, and collectives."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8)
    import numpy as np

    import cnnjax
    from cnnjax.compilation import use_cache
    from cnnjax.data.batches import batch_indices
    from cnnjax.data.synthetic import synthetic
    from cnnjax.mesh import SMALL, parse_mesh
    from cnnjax.training.program import Program
    from cnnjax.training.step import NoProbe

    use_cache()
    config = cnnjax.Config(
        model="resnet8", model_options={"width": 8}, data="synthetic", batch_size=16, learning_rate=0.02
    )
    data = synthetic(train=50, test=21, size=8)
    first, found = None, {}
    for text in meshes:
        mesh, shard = text.split()
        program = Program(config, data, parse_mesh(mesh), NoProbe(), shard)
        state, own, losses = program.init([0]), program.own([config]), []
        indices = [np.array([[batch_indices(0, step, 16, 50)]]) for step in range(STEPS)]
        compiled = program.lower(state, indices[0], own).compile()
        for now in indices:
            state, metrics, _ = program.train(state, now, own, measured=False)
            losses.append(float(metrics["train_loss"][0, 0]))  # one step in flight: more can dead-lock
        (final,) = program.get(state)
        first = first or final.params
        sizes = [leaf.size for leaf in jax.tree.leaves(final.params)]
        found[text] = {
            "losses": losses,
            "distance": max(
                map(lambda a, b: float(abs(a - b).max()), *map(jax.tree.leaves, (final.params, first)))
            ),
            "memory": compiled.memory_analysis().argument_size_in_bytes,
            "exchanged": exchanged(compiled.as_text()),
            "parameters": sum(sizes),
            "large": sum(size for size in sizes if size >= SMALL),
            "statistics": sum(leaf.size for leaf in jax.tree.leaves(final.batch_stats)),
        }
    return found


def exchanged(hlo):
    """Elements that each kind of collective takes or gives, in all."""
    elements = Counter()
    kinds = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
    for result, kind in re.findall(rf" = (.*?) ({kinds})(?:-start)?\(", hlo):
        shapes = re.findall(r"\w+\[([\d,]*)\]", result)
        elements[kind] += sum(math.prod(int(side) for side in shape.split(",") if side) for shape in shapes)
    return dict(elements)


@pytest.fixture(scope="module")
def found(own_cache):
    environment = {**os.environ, "PJRT_NPROC": "32"}  # threads for eight devices, whatever the cores
    command = [sys.executable, "-m", "tests.training.test_devices", *MESHES]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("mesh", MESHES[1:])
def test_the_numbers_are_those_of_one_device(found, mesh):
    one, several = found[MESHES[0]], found[mesh]
    assert several["losses"] == pytest.approx(one["losses"], rel=1e-5)
    assert several["distance"] < 1e-4
    assert one["losses"][-1] < one["losses"][0]


def test_devices_exchange_gradients_and_batch_statistics(found):
    """Each BatchNorm channel two sums forward and two backward; the loss and the errors."""
    one = found["data=8 replicated"]
    reduced = one["parameters"] + 2 * one["statistics"] + 2
    assert one["exchanged"] == {"all-reduce": reduced}
    assert found["data=1 replicated"]["exchanged"] == {}
    # Fully sharded, each large array is brought together once besides.
    assert found["data=8 fsdp"]["exchanged"] == {"all-reduce": reduced, "all-gather": one["large"]}


def test_memory_of_a_device_falls_as_the_state_is_divided(found):
    """Parameters and momentum, 4 bytes each: an eighth of the large ones, the small ones whole."""
    one = found["data=8 replicated"]
    assert one["memory"] - found["data=8 fsdp"]["memory"] == 2 * 4 * one["large"] * 7 / 8


if __name__ == "__main__":
    if meshes := sys.argv[1:]:
        print(json.dumps(measure(meshes)))
    else:
        for mesh, values in measure(MESHES + MORE).items():
            print(f"{mesh:22}", *(f"{name}={values[name]}" for name in ("distance", "memory", "exchanged")))
            print(f"{'':22}", *(f"{loss:.6f}" for loss in values["losses"][::4]))
