"""Throughput: how long a training step takes, and what of the machine it uses.

Each network trains on random images in a process of its own, beside those that it is compared with: the plain
Flax formulation (XLA's convolutions, no loop over depth) and PyTorch (eager, channels last). They take turns,
A B A B, so that what else the machine does falls on all alike; a ratio is the median over the turns.
"""

import dataclasses
import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from cnnjax.config import Config, Dtype
from cnnjax.errors import UserError, one_line_errors

Rival = Literal["flax", "torch"]


@dataclasses.dataclass(frozen=True)
class Args:
    """Time training steps, and compare them."""

    models: tuple[str, ...] = ("resnet20", "resnet56")
    """Names of networks."""
    batch: tuple[int, ...] = (128,)
    """Images in a step."""
    image: int | None = None
    """Side of the images; the network's own when not given."""
    dtype: tuple[Dtype, ...] = ("float32",)
    """Of the computation."""
    loop: tuple[Literal["auto", "scan", "unrolled"], ...] = ("auto",)
    """Over depth; only for networks that have it."""
    against: tuple[Rival, ...] = ()
    """Also time the same network in plain Flax ("flax") or in PyTorch ("torch")."""
    overheads: bool = False
    """Also time the step with its input (gather, augment, normalise) and inside the training loop."""
    probes: bool = False
    """Also time the step with the statistics of every layer, at every step."""
    turns: int = 5
    """How often each is timed."""
    steps: int = 3
    """Steps in a turn."""
    trace: Path | None = None
    """Folder for a profile of three steps, for xprof or Perfetto."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/throughput")
    """Folder for the summary, the figure and the table."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """One network to time."""

    model: str
    batch: int
    image: int | None
    dtype: Dtype
    loop: str

    def options(self, kind: str) -> dict[str, Any]:
        """Fields of the network; `kind` "flax" has it plain."""
        return {"loop": "unrolled", "convolution": "native"} if kind == "flax" else {"loop": self.loop}


_seconds: Callable[[int], float]  # in a contestant's process: takes so many steps, gives the seconds of one


def prepare(setting: Setting, kind: str) -> dict[str, Any]:
    """In a contestant's process: make ready to step; what is known before the first step."""
    global _seconds
    os.environ["TQDM_DISABLE"] = "1"  # before it is imported: a contestant's progress says nothing here
    _seconds, facts = CONTESTANTS[kind](setting, kind)
    _seconds(1)
    return facts


def turn(steps: int) -> float:
    """In a contestant's process: seconds a step, over so many."""
    return _seconds(steps)


def timed(take: Callable[[], None]) -> Callable[[int], float]:
    """Seconds of one of so many calls of `take`, after one that finds caches and free memory another's."""

    def seconds(steps: int) -> float:
        take()
        start = time.perf_counter()
        for _ in range(steps):
            take()
        return (time.perf_counter() - start) / steps

    return seconds


def peak_memory() -> int:
    """In a contestant's process: the most bytes it has held on the host."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def trace(folder: Path) -> None:
    """In a contestant's process: write a profile of three steps."""
    import jax

    with jax.profiler.trace(str(folder)):
        turn(3)


def network(setting: Setting, kind: str):
    """The network of a setting and the [height, width, channel] of its images."""
    import jax.numpy as jnp

    from cnnjax.models import build

    options = {"dtype": jnp.dtype(setting.dtype)}
    model = build(setting.model)
    options |= {name: value for name, value in setting.options(kind).items() if hasattr(model, name)}
    height, width, channels = model.input_shape
    side = setting.image
    return build(setting.model, **options), (side or height, side or width, channels)


def jax_step(setting: Setting, kind: str):
    """A step of ours: with kind "with_input" from a data set on the device, otherwise on a ready batch."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from cnnjax.data.augment import AUGMENTATIONS, normalizer
    from cnnjax.models import lay_out
    from cnnjax.probes import LayerProbe
    from cnnjax.training.optim import learning_rate, make_optimizer
    from cnnjax.training.step import NoProbe, init_state, make_train_step

    model, image = network(setting, kind)
    config = Config(learning_rate=1e-3)  # random labels: nothing is learnt
    draw = np.random.default_rng(0)
    examples = max(1024, setting.batch)
    images = draw.integers(0, 256, (examples, *image), np.uint8)
    labels = draw.integers(0, model.num_classes, examples)
    if kind == "with_input":
        augment, normalize = AUGMENTATIONS[config.augment], normalizer(images, config.normalize)
    else:
        images = np.asarray(normalizer(images, config.normalize)(jnp.asarray(images)))[: setting.batch]
        augment, normalize = (lambda key, x: x), (lambda x: x)
    optimizer = make_optimizer(config)
    probe = LayerProbe(lambda step: True) if kind == "with_probes" else NoProbe()
    state = init_state(model, optimizer, jax.random.key(0), image, probe.compares_gradients)
    state = jax.device_put(lay_out(state, getattr(model, "loop", "unrolled")))
    images, labels = jax.device_put((images, labels))
    indices, key = np.arange(setting.batch), jax.random.key(0)
    train_step = make_train_step(model, optimizer, learning_rate(config), augment, normalize, probe=probe)
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
    """Multiply-adds a second of a large matrix product, the best of five."""
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
    """A step of PyTorch's."""
    from experiments.torch_twin import step

    model, image = network(setting, kind)
    take = step(model, setting.batch, image)
    return timed(take), {"parameters": take.parameters}


def in_loop(setting: Setting, kind: str):
    """A step inside `train`, between its first dispatch and its last, with all that it writes."""
    import tempfile

    import jax
    import numpy as np

    from cnnjax import train
    from cnnjax.data import Dataset
    from cnnjax.files import read_jsonl
    from cnnjax.training.loop import default_steps_per_dispatch

    model, image = network(setting, kind)
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
            model=setting.model, model_options=setting.options(kind), dtype=setting.dtype, learning_rate=1e-3,
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
}


def measure(setting: Setting, kinds: list[str], args: Args) -> list[dict[str, Any]]:
    """Rows of the summary for one setting, a contestant each."""
    from cnnjax import summary
    from experiments.workers import huge_pages

    huge_pages()
    context = multiprocessing.get_context("spawn")
    pools = {kind: ProcessPoolExecutor(1, mp_context=context) for kind in kinds}
    try:
        facts = {kind: pool.submit(prepare, setting, kind).result() for kind, pool in pools.items()}
        times: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(args.turns):
            for kind, pool in pools.items():
                times[kind].append(pool.submit(turn, args.steps).result())
        memory = {kind: pool.submit(peak_memory).result() for kind, pool in pools.items()}
        if args.trace:
            pools["cnnjax"].submit(trace, args.trace / setting.model).result()
    finally:
        for pool in pools.values():
            pool.shutdown(cancel_futures=True)

    if len({fact["parameters"] for fact in facts.values()}) > 1:
        raise AssertionError(f"{setting.model}: the contestants are not the same network: {facts}")
    image = {} if setting.image is None else {"input": setting.image}
    macs = 3 * summary(setting.model, **image).macs * setting.batch  # forward, and backward twice that
    peak = facts["cnnjax"]["matmul_macs_per_second"]
    rows = []
    for kind in kinds:
        median = statistics.median(times[kind])
        ratios = [mine / other for mine, other in zip(times["cnnjax"], times[kind], strict=True)]
        rows.append(
            {
                **dataclasses.asdict(setting),
                "contestant": kind,
                "step_seconds": {"median": median, "values": times[kind]},
                "cnnjax_time_over_this": {"median": statistics.median(ratios), "values": ratios},
                "images_per_second": setting.batch / median,
                "macs_per_second": macs / median,
                "fraction_of_matmul_peak": macs / median / peak,
                "compile_seconds": facts[kind].get("compile_seconds"),
                "peak_host_bytes": memory[kind],
                "parameters": facts[kind]["parameters"],
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows for the terminal and the README."""
    header = ["network", "batch", "", "ms a step", "images/s", "of peak", "compile s", "GiB", "cnnjax / this"]

    def ratio(row: dict[str, Any]) -> str:
        values = row["cnnjax_time_over_this"]
        low, high = min(values["values"]), max(values["values"])
        return f"{values['median']:.2f} ({low:.2f} to {high:.2f})"

    return header, [
        [
            row["model"],
            str(row["batch"]),
            row["contestant"],
            f"{1000 * row['step_seconds']['median']:.0f}",
            f"{row['images_per_second']:.0f}",
            f"{100 * row['fraction_of_matmul_peak']:.0f} %",
            "" if row["compile_seconds"] is None else f"{row['compile_seconds']:.1f}",
            f"{row['peak_host_bytes'] / 2**30:.1f}",
            "" if row["contestant"] == "cnnjax" else ratio(row),
        ]
        for row in rows
    ]


def main(args: Args) -> None:
    """Run the experiment and write its folder; the terminal ends with the table and the paths."""
    from tqdm import tqdm

    from cnnjax.files import write_json
    from cnnjax.models.registry import find
    from cnnjax.report.bars import bars
    from cnnjax.training.record import environment
    from experiments.runner import text_table

    for name in args.models:
        find(name)
    for name in ("turns", "steps"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} {getattr(args, name)}: must be at least 1")
    kinds = ["cnnjax", *args.against]
    if args.overheads:
        kinds += ["with_input", "in_loop"]
    if args.probes:
        kinds += ["with_probes"]
    settings = [
        Setting(model, batch, args.image, dtype, loop)
        for model in args.models
        for batch in args.batch
        for dtype in args.dtype
        for loop in args.loop
    ]
    rows: list[dict[str, Any]] = []
    for setting in settings:
        tqdm.write(f"{setting.model}, batch {setting.batch}, {setting.dtype}, loop {setting.loop}")
        rows += measure(setting, kinds, args)
    write_json(args.out / "summary.json", {"results": rows, "environment": environment()})
    header, cells = table(rows)
    groups = [f"{row['model']}\nbatch {row['batch']}" for row in rows]
    series = [
        (group, row["contestant"], row["images_per_second"]) for group, row in zip(groups, rows, strict=True)
    ]
    figures = bars(series, args.out / "throughput", "images a second")
    print(f"\n{text_table(header, cells)}\n")
    for path in (*figures.values(), args.out / "summary.json"):
        print(path)


if __name__ == "__main__":
    with one_line_errors("throughput"):
        main(tyro.cli(Args, description=__doc__, prog="python -m experiments.throughput"))
