"""Scaling: what a training step gains from more devices, and what they cost.

Strong scaling divides one batch over more devices, weak scaling gives each device as many images as before.
Ideally a step takes no longer than one device takes for its share of the images; the rest is communication
and waiting. What devices exchange is counted in the compiled step, and the losses must be those of one
device.

Without accelerators the devices are virtual and share the machine's cores. Then the ideal is the same time
for the same total number of images: this shows what dividing the work costs, and says nothing about speed.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from cnnjax.command import parse
from cnnjax.config import Dtype, Shard
from cnnjax.errors import UserError, one_line_errors
from cnnjax.launch import alone

from .settings import check_counts


@dataclasses.dataclass(frozen=True)
class Args:
    """Time training steps on growing numbers of devices."""

    model: str = "resnet20"
    """Name of a network."""
    width: int | None = 8
    """Its width; "None" for its default."""
    batch: int = 128
    """Images per step: of all devices in strong scaling, of the largest number of devices in weak scaling."""
    dtype: Dtype = "float32"
    """Number type of the computation."""
    devices: tuple[int, ...] | None = None
    """Numbers of devices; by default 1, 2, 4, ... up to those available."""
    virtual: int = 8
    """Number of virtual devices to use if there is no accelerator."""
    dispatches: int = 6
    """Number of programs to time for each setting; each has 20 steps, or 1 on CPUs."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/scaling")
    """Folder for the summary, the figures and the report."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """A number of devices, their mesh, and how the state is sharded over it."""

    data: int
    model: int = 1
    shard: Shard = "replicated"

    @property
    def devices(self) -> int:
        """How many."""
        return self.data * self.model

    @property
    def mesh(self) -> str:
        """In the form of the other experiments' `--mesh`."""
        return f"data={self.data}" + (f",model={self.model}" if self.model > 1 else "")


def layouts(devices: Sequence[int], batch: int) -> list[tuple[Layout, int]]:
    """Each layout and the batch it is timed at: one device, strong and weak scaling, other ways to divide."""
    most = devices[-1]
    alone = [(Layout(1), batch // number) for number in devices]
    strong = [(Layout(number), batch) for number in devices[1:]]
    weak = [(Layout(number), batch // most * number) for number in devices[1:-1]]
    divided = [(Layout(most, shard="fsdp"), batch)] if most > 1 else []
    if most % 2 == 0:
        divided += [(Layout(most // 2, 2, "model"), batch), (Layout(most // 2, 2, "fsdp"), batch)]
    return [*alone, *strong, *weak, *divided]


def measure(args: Args, layout: Layout, batch: int) -> dict[str, Any]:
    """Compile the step for a layout, inspect it, and time it; returns a row of the summary."""
    import jax
    import numpy as np

    from cnnjax.config import Config
    from cnnjax.counting.exchanges import exchanges
    from cnnjax.counting.hlo import Program as Compiled
    from cnnjax.data import Dataset
    from cnnjax.mesh import make_mesh
    from cnnjax.models import build
    from cnnjax.recipes import Objects, resolve
    from cnnjax.training.program import Program
    from cnnjax.training.session import default_steps_per_dispatch

    from .runner import spread

    options: dict[str, Any] = {"width": args.width} if args.width is not None else {}
    model = build(args.model, **options)
    if hasattr(model, "loop"):
        options["loop"] = "unrolled"  # so that each exchange stands in the program by itself
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (max(1024, args.batch), *model.input_shape), np.uint8)
    labels = draw.integers(0, model.num_classes, len(images)).astype(np.int32)
    data = Dataset("random", images, labels, images[:1], labels[:1], model.num_classes, "drawn here")
    config = Config(
        model=args.model,
        model_options=options,
        dtype=args.dtype,
        batch_size=batch,
        learning_rate=1e-3,
        augment="none",
    )
    mesh = make_mesh(data=layout.data, model=layout.model)
    program = Program(resolve(config, Objects(data=data)), mesh, layout.shard)
    steps = default_steps_per_dispatch()

    state, per_run = program.init([0]), program.per_run([config])
    state_bytes = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state))
    losses, seconds = [], []
    with program.input_source.training([config], 0) as batch_inputs:
        start = time.perf_counter()
        compiled = program.trace(steps).lower().compile()
        compile_seconds = time.perf_counter() - start
        for first in range(0, (1 + args.dispatches) * steps, steps):
            start = time.perf_counter()
            step = range(first, first + steps)
            state, metrics, _ = compiled(
                state, program.input_source.train_arrays, batch_inputs(step), per_run
            )
            losses += jax.device_get(metrics["train_loss"])[0].tolist()
            seconds.append((time.perf_counter() - start) / steps)
    del seconds[0]  # it allocates
    memory, hlo = compiled.memory_analysis(), compiled.as_text()
    assert memory, "this backend does not tell its memory"
    assert hlo, "this backend does not tell its program"
    return {
        "model": args.model,
        "mesh": layout.mesh,
        "shard": layout.shard,
        "devices": layout.devices,
        "batch": batch,
        "images_per_device": batch // layout.data,
        "step_seconds": spread(seconds),
        "images_per_second": batch / float(np.median(seconds)),
        "compile_seconds": compile_seconds,
        "losses": losses,
        "bytes_per_device": {
            "state": state_bytes,
            "arguments": memory.argument_size_in_bytes,
            "working": memory.temp_size_in_bytes,
        },
        "traffic": {kind: dataclasses.asdict(each) for kind, each in exchanges(Compiled(hlo)).items()},
    }


def compare(rows: list[dict[str, Any]], virtual: bool) -> None:
    """Compare each row with one device that did the same work, and add the results to it.

    Efficiencies are ideal time over time of a step. `strong_efficiency`: ideally n devices take 1/n of the
    time of one with the same batch. `weak_efficiency`: they take the time of one with as many images as
    each has; the difference from 1 is communication and waiting. With virtual devices both ideals are n
    times longer. `loss_difference`: the largest relative one to the losses of one device with the same batch.
    """

    def seconds(row: dict[str, Any]) -> float:
        return row["batch"] / row["images_per_second"]

    alone = {row["batch"]: row for row in rows if row["devices"] == 1}
    for row in rows:
        longer = row["devices"] if virtual else 1
        if whole := alone.get(row["batch"]):
            row["strong_efficiency"] = seconds(whole) / row["devices"] * longer / seconds(row)
            row["loss_difference"] = max(
                abs(mine / its - 1) for mine, its in zip(row["losses"], whole["losses"], strict=True)
            )
        if row["mesh"] == f"data={row['devices']}" and (part := alone.get(row["images_per_device"])):
            row["weak_efficiency"] = seconds(part) * longer / seconds(row)


def table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows for the terminal and the page."""

    def percent(row: dict[str, Any], name: str) -> str:
        return f"{100 * row[name]:.0f} %" if name in row else ""

    def cells(row: dict[str, Any]) -> list[str]:
        exchanged = row["traffic"].values()
        return [
            f"{row['mesh']} {row['shard']}",
            str(row["batch"]),
            f"{1000 * row['batch'] / row['images_per_second']:.1f}",
            f"{row['images_per_second']:.0f}",
            percent(row, "strong_efficiency"),
            percent(row, "weak_efficiency"),
            f"{row['loss_difference']:.0e}" if row.get("loss_difference") else "",
            ", ".join(f"{each['count']} {kind}" for kind, each in row["traffic"].items()),
            f"{sum(each['sent'] for each in exchanged) / 1e6:.2f}",
            *(f"{row['bytes_per_device'][name] / 2**20:.2f}" for name in ("state", "working")),
        ]

    header = ["mesh, state", "batch", "ms a step", "images/s", "strong", "weak", "loss differs"]
    return [*header, "exchanges", "MB sent", "MiB state", "MiB working"], [cells(row) for row in rows]


def main(args: Args) -> None:
    """Run the experiment and write its folder; the terminal ends with the table and the paths."""
    alone()
    check_counts(batch=args.batch, virtual=args.virtual, dispatches=args.dispatches, width=args.width)
    if args.devices == ():
        raise UserError("--devices: there must be one")

    import jax

    from cnnjax.models.registry import find

    find(args.model)
    jax.config.update("jax_num_cpu_devices", args.virtual)  # accelerators, if there are any, come first

    from cnnjax.compilation import use_cache
    from cnnjax.report.scaling import scaling
    from cnnjax.training.progress import each
    from cnnjax.training.run_dir import experiment_dir

    from .runner import Findings

    use_cache()
    found = jax.device_count()
    devices = sorted(args.devices or (2**power for power in range(found.bit_length())))
    if not 1 <= devices[0] <= devices[-1] <= found:
        raise UserError(
            f"--devices {' '.join(map(str, devices))}: must be 1 to {found}, as many as there are"
        )
    devices = sorted({1, *devices})
    for number in devices:
        if args.batch % number:
            near = max(1, args.batch // devices[-1]) * devices[-1]
            raise UserError(f"--batch {args.batch} does not divide over {number} devices: try {near}")
    virtual = jax.default_backend() == "cpu"
    settings = {**dataclasses.asdict(args), "out": None, "devices": devices, "virtual": virtual}
    rows = []
    with experiment_dir(args.out, settings):
        for layout, batch in each(layouts(devices, args.batch), "scaling", "setting"):
            rows.append(measure(args, layout, batch))
    compare(rows, virtual)
    about = (
        "Virtual devices share the cores of one machine: efficiency says what dividing the work costs, and "
        "nothing about speed."
        if virtual
        else "Efficiency is the ideal time over the time."
    )
    caption = f"{args.model}, {jax.devices()[0].device_kind}, {args.dtype}. {about}"
    note = "Efficiencies: strong and weak. MB sent by each device in a step, at least; MiB on each device."
    figures = {caption: scaling(rows, args.out / "scaling")}
    findings = Findings(results=rows, figures=figures, tables={note: table(rows)})
    findings.write(args.out, str(__doc__))


if __name__ == "__main__":
    with one_line_errors("scaling"):
        main(parse(Args, __doc__))
