"""An hour with an accelerator, in 25 minutes: what training costs there, against what could be had at best.

Times the training step of ResNet-20, -56 and -110 and WRN-28-10 on random images of CIFAR's size and of
ResNet-50 on random ones of ImageNet's; with statistics of every layer at every step; and five seeds in one
program. Images a second, the share of the published peak, and the bound of `cnnjax plan` stand side by side,
and what the degradation experiment's preset `paper` would take.

Where no accelerator is, `--compile-for h100:1` compiles every program that would be timed, by that
accelerator's own compiler, so that nothing is found out on rented time.
"""

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any

import tyro

from cnnjax.command import parse
from cnnjax.config import Dtype
from cnnjax.errors import UserError, one_line_errors
from cnnjax.launch import alone

PAPER_STEPS, PAPER_SEEDS, PAPER_DEPTHS, FAMILIES = 64_000, 3, (20, 32, 44, 56), 2


@dataclasses.dataclass(frozen=True)
class Args:
    """Time training on the accelerator that is here, or compile for one that is not."""

    compile_for: str | None = None
    """Only compile each program, for an accelerator such as h100:1 or v5e:1x1 that need not be here."""
    kind: str | None = None
    """Which accelerator is here, such as h100, to know its peaks; without it, shares of peak are left out."""
    models: tuple[str, ...] = ("resnet20", "resnet56", "resnet110", "wrn28_10", "resnet50")
    """Names of networks."""
    dtype: Dtype = "bfloat16"
    """Of the computation."""
    minutes: float = 25.0
    """No program is begun after so many."""
    dispatches: int = 10
    """Programs timed for each; one has 20 steps, on CPUs 1."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/accelerator")
    """Folder for the table."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One program that is timed."""

    model: str
    batch: int
    seeds: int = 1
    probed: bool = False

    @property
    def name(self) -> str:
        """As the table calls it."""
        return (
            self.model
            + (", every layer measured" if self.probed else "")
            + (f", {self.seeds} seeds at once" if self.seeds > 1 else "")
        )


def cases(models: tuple[str, ...]) -> list[Case]:
    """The plain steps, then the first network's with five seeds and the second one's with a probe."""
    plain = [Case(model, 256 if _side(model) > 32 else 128) for model in models]
    return [
        *plain,
        dataclasses.replace(plain[0], seeds=5),
        dataclasses.replace(plain[min(1, len(plain) - 1)], probed=True),
    ]


def _side(model: str) -> int:
    from cnnjax.models import build

    return getattr(build(model), "input_shape", (32, 32, 3))[0]


def make_program(case: Case, dtype: Dtype, devices: Any = None) -> tuple[Any, list[Any], tuple[bool, ...]]:
    """The program of a case, its configs, and whether its probe is due."""
    import numpy as np

    from cnnjax.config import Config
    from cnnjax.data import Dataset
    from cnnjax.mesh import make_mesh
    from cnnjax.models import build
    from cnnjax.probes import LayerProbe
    from cnnjax.recipes import Objects, resolve
    from cnnjax.training.program import Program

    model, draw = build(case.model), np.random.default_rng(0)
    images = draw.integers(0, 256, (4 * case.batch, *model.input_shape), np.uint8)
    labels = draw.integers(0, model.num_classes, len(images)).astype(np.int32)
    data = Dataset("random", images, labels, images[:1], labels[:1], model.num_classes, "drawn here")
    config = Config(model=case.model, dtype=dtype, batch_size=case.batch, learning_rate=1e-3)
    task = resolve(config, Objects(data=data, probes=[LayerProbe()] if case.probed else ()))
    program = Program(task, make_mesh(data=1, devices=devices))
    configs = [dataclasses.replace(config, seed=seed) for seed in range(case.seeds)]
    return program, configs, (case.probed,) * len(task.probes)


def compile_only(case: Case, args: Args) -> dict[str, Any]:
    """Compile a case for the accelerator that is asked for; a row."""
    from cnnjax.counting.topology import open_topology

    assert args.compile_for is not None
    topology = open_topology(args.compile_for)
    program, configs, due = make_program(case, args.dtype, topology.devices)
    start = time.perf_counter()
    # A program of one step has all that one of twenty has, but for the loop.
    compiled = program.trace(2, due, len(configs)).lower().compile(dict(topology.options))
    memory = compiled.memory_analysis()
    used = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    return {
        "case": case.name,
        "batch": case.batch,
        "memory_bytes": used,
        "compile_seconds": time.perf_counter() - start,
    }


def measure(case: Case, args: Args) -> dict[str, Any]:
    """Time a case on the device that is here; a row."""
    import jax
    import numpy as np

    from cnnjax.counting.exchanges import exchanges
    from cnnjax.counting.flops import flops
    from cnnjax.counting.hlo import Program as Compiled
    from cnnjax.counting.roofline import roofline
    from cnnjax.counting.topology import ACCELERATORS, Topology
    from cnnjax.training.session import default_steps_per_dispatch

    program, configs, due = make_program(case, args.dtype)
    steps, seconds = default_steps_per_dispatch(), []
    state, per_run = program.init([config.seed for config in configs]), program.per_run(configs)
    start = time.perf_counter()
    traced = program.trace(steps, due, len(configs))
    compiled = traced.lower().compile()
    compile_seconds = time.perf_counter() - start
    with program.input_source.training(configs, 0) as batch_inputs:
        for first in range(0, (1 + args.dispatches) * steps, steps):
            start = time.perf_counter()
            inputs = batch_inputs(range(first, first + steps))
            state, *rest = compiled(state, program.input_source.train_arrays, inputs, per_run)
            jax.block_until_ready(rest)
            seconds.append((time.perf_counter() - start) / steps)
    step_seconds = float(np.median(seconds[1:]))  # the first allocates
    operations = {dtype: number / steps for dtype, number in flops(traced.jaxpr.jaxpr).items()}
    row = {
        "case": case.name,
        "batch": case.batch,
        "step_seconds": step_seconds,
        "images_per_second": case.batch * case.seeds / step_seconds,
        "compile_seconds": compile_seconds,
        "operations": sum(operations.values()),
    }
    if args.kind:
        here = Topology(args.kind, (None,), ACCELERATORS[args.kind], {})
        hlo = Compiled(compiled.as_text())
        bounds = roofline(operations, hlo.bytes_accessed() / steps, exchanges(hlo), here)
        row["bound_seconds"], row["of_peak"] = max(bounds.values()), bounds["compute"] / step_seconds
    return row


def paper_hours(rows: list[dict[str, Any]]) -> float | None:
    """Hours that the degradation experiment's preset `paper` would take, a run after the other.

    Seconds of a step grow in proportion to depth between and beyond those of two networks that were timed.
    """
    import numpy as np

    timed = {row["case"]: row["step_seconds"] for row in rows if "step_seconds" in row}
    known = [depth for depth in (20, 56, 110) if f"resnet{depth}" in timed]
    if len(known) < 2:
        return None
    line = np.polyfit(known, [timed[f"resnet{depth}"] for depth in known], 1)
    return float(sum(np.polyval(line, PAPER_DEPTHS)) * PAPER_STEPS * PAPER_SEEDS * FAMILIES / 3600)


def table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows for the terminal and the page."""

    def cells(row: dict[str, Any]) -> list[str]:
        if "step_seconds" not in row:
            memory = f"{row['memory_bytes'] / 2**30:.2f}"
            return [row["case"], str(row["batch"]), memory, f"{row['compile_seconds']:.0f}"]
        bound = f"{1000 * row['bound_seconds']:.2f}" if "bound_seconds" in row else ""
        share = f"{100 * row['of_peak']:.0f} %" if "of_peak" in row else ""
        rate = f"{row['images_per_second']:,.0f}"
        return [row["case"], str(row["batch"]), f"{1000 * row['step_seconds']:.2f}", rate, bound, share]

    if rows and "step_seconds" not in rows[0]:
        return ["network", "batch", "GiB", "seconds to compile"], [cells(row) for row in rows]
    return ["network", "batch", "ms a step", "images/s", "ms at least", "of peak"], [
        cells(row) for row in rows
    ]


def main(args: Args) -> None:
    """Time or compile each case and write the folder; the terminal ends with the table."""
    alone()
    import jax

    from cnnjax.counting.topology import ACCELERATORS

    if args.kind is not None and args.kind not in ACCELERATORS:
        raise UserError(f"--kind {args.kind}: must be one of {', '.join(ACCELERATORS)}")
    if args.dispatches < 1 or not args.models:
        raise UserError("--dispatches and --models: there must be one at least")
    if args.compile_for is not None:
        jax.config.update("jax_platforms", "cpu")

    from cnnjax.training.progress import each
    from cnnjax.training.run_dir import experiment_dir

    from .runner import Findings

    act = measure if args.compile_for is None else compile_only
    start, rows = time.monotonic(), []
    with experiment_dir(args.out, {**dataclasses.asdict(args), "out": None}):
        for case in each(cases(args.models), "accelerator", "program"):
            if time.monotonic() - start < 60 * args.minutes or args.compile_for:
                rows.append(act(case, args))
    hours = paper_hours(rows)
    note = (
        f"On {jax.devices()[0].device_kind}"
        if args.compile_for is None
        else f"Compiled for {args.compile_for}"
    )
    note += f", {args.dtype}." + (
        f" `degradation --preset paper` would take {hours:.1f} hours." if hours else ""
    )
    Findings(results=rows, figures={}, tables={note: table(rows)}).write(args.out, str(__doc__))


if __name__ == "__main__":
    with one_line_errors("accelerator"):
        main(parse(Args, __doc__))
