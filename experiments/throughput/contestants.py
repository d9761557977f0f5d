"""The process of each contestant: it prepares a step, takes turns, and reports on itself."""

import dataclasses
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cnnjax.config import Config

from .settings import Setting

_seconds: Callable[[int], float]  # takes this many steps, returns the seconds of one


def prepare(setting: Setting, kind: str) -> dict[str, Any]:
    """Prepare the step; returns what is known before the first one."""
    global _seconds
    from cnnjax.training.progress import HERE

    HERE.quiet = True  # a contestant's progress says nothing here
    _seconds, facts = CONTESTANTS[kind](setting, kind)
    _seconds(1)
    return facts


def turn(steps: int) -> float:
    """Seconds per step, over this many steps."""
    return _seconds(steps)


def timed(take: Callable[[], None]) -> Callable[[int], float]:
    """Seconds per call of `take`, after a first call that warms up caches and memory."""

    def seconds(steps: int) -> float:
        take()
        start = time.perf_counter()
        for _ in range(steps):
            take()
        return (time.perf_counter() - start) / steps

    return seconds


def peak_memory() -> int:
    """Peak memory on the host, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def trace(folder: Path) -> None:
    """Write a profile of three steps."""
    import jax

    with jax.profiler.trace(str(folder)):
        turn(3)


def network(setting: Setting, kind: str):
    """The network of a setting, its fields that differ, and the [height, width, channel] of its images."""
    import jax.numpy as jnp

    from cnnjax.models import build

    model = build(setting.model)
    options = {name: value for name, value in setting.options(kind).items() if hasattr(model, name)}
    height, width, channels = model.input_shape
    side = setting.image
    model = build(setting.model, dtype=jnp.dtype(setting.dtype), **options)
    return model, options, (side or height, side or width, channels)


def jax_step(setting: Setting, kind: str):
    """A step of ours: with kind "with_input" from a data set on the device, otherwise on a ready batch."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from cnnjax.data import Dataset
    from cnnjax.models import stack_for_loop
    from cnnjax.ops.depth import loop_of
    from cnnjax.probes import LayerProbe
    from cnnjax.recipes import Objects, resolve
    from cnnjax.training.step import init_state, make_train_step

    model, _, image = network(setting, kind)
    config = Config(batch_size=setting.batch, learning_rate=1e-3)  # random labels: nothing is learnt
    draw = np.random.default_rng(0)
    examples = max(1024, setting.batch)
    images = draw.integers(0, 256, (examples, *image), np.uint8)
    labels = draw.integers(0, model.num_classes, examples).astype(np.int32)
    data = Dataset("random", images, labels, images[:1], labels[:1], model.num_classes, "drawn here")
    probes = [LayerProbe(lambda step: True)] if kind == "with_probes" else []
    task = resolve(config, Objects(model=model, data=data, probes=probes))
    if kind != "with_input":
        images = np.asarray(task.normalize(jnp.asarray(images[: setting.batch])))
        task = dataclasses.replace(task, normalize=lambda x: x, augment=lambda key, x, y: (x, y))
    optimizer = task.optimizer(config.learning_rate, config.weight_decay)
    state = init_state(task, optimizer, jax.random.key(0), jax.ShapeDtypeStruct((1, *image), jnp.float32))
    state = jax.device_put(stack_for_loop(state, loop_of(model)))
    images, labels = jax.device_put((images, labels))
    indices, key = np.arange(setting.batch), jax.random.key(0)
    schedule = task.schedule and task.schedule(config.learning_rate)
    train_step = make_train_step(task, optimizer, schedule, task.probes)
    jitted = jax.jit(
        lambda state, images, labels, indices, key: train_step(state, images[indices], labels[indices], key),
        donate_argnums=0,
    )
    start = time.perf_counter()
    step = jitted.lower(state, images, labels, indices, key).compile()
    seconds = time.perf_counter() - start

    def take():
        nonlocal state
        state, metrics, measured = step(state, images, labels, indices, key)
        jax.block_until_ready((metrics, measured))

    return timed(take), {
        "compile_seconds": seconds,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "matmul_macs_per_second": _matmul_peak(jnp.dtype(setting.dtype)),
    }


def _matmul_peak(dtype: Any) -> float:
    """Multiply-adds per second of a large matrix product, the best of five."""
    import jax
    import jax.numpy as jnp

    size = 2048 if jax.default_backend() == "cpu" else 8192
    matrix = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.dot)
    product(matrix, matrix).block_until_ready()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        times.append(time.perf_counter() - start)
    return size**3 / min(times)


def torch_step(setting: Setting, kind: str):
    """A step of PyTorch's, eager or with kind "torch_compile" by its compiler."""
    from .torch_twin import step

    model, _, image = network(setting, kind)
    take = step(model, setting.batch, image, compiled=kind == "torch_compile")
    return timed(take), {"parameters": take.parameters}


def in_loop(setting: Setting, kind: str):
    """A step inside `train`, between its first and its last dispatch, including everything it writes."""
    import tempfile

    import jax
    import numpy as np

    from cnnjax import train
    from cnnjax.data import Dataset
    from cnnjax.files import read_jsonl
    from cnnjax.training.session import default_steps_per_dispatch

    model, options, image = network(setting, kind)
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (max(1024, setting.batch), *image), np.uint8)
    labels = draw.integers(0, model.num_classes, len(images)).astype(np.int32)
    data = Dataset(
        "random", images, labels, images[: setting.batch], labels[: setting.batch], model.num_classes, ""
    )
    parameters, first = 0, default_steps_per_dispatch()

    def seconds(steps: int) -> float:
        nonlocal parameters
        last = first * (1 + max(1, steps // first))
        config = Config(
            model=setting.model, model_options=options, dtype=setting.dtype, learning_rate=1e-3,
            batch_size=setting.batch, steps=last, evaluate_every=last, checkpoint_every=last,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as out:
            result = train(config, out, data=data, say=lambda line: None)
            lines = read_jsonl(result.out / "metrics.jsonl")
        parameters = sum(leaf.size for leaf in jax.tree.leaves(result.variables["params"]))
        times = {line["step"]: line["time"] for line in lines if "train_loss" in line}
        return (times[last] - times[first]) / (last - first)

    seconds(1)
    return seconds, {"parameters": parameters}


CONTESTANTS = {
    "cnnjax": jax_step,
    "with_input": jax_step,
    "with_probes": jax_step,
    "in_loop": in_loop,
    "flax": jax_step,
    "torch": torch_step,
    "torch_compile": torch_step,
}
