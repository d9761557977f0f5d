"""The command: `python -m experiments.throughput`."""

import dataclasses
import multiprocessing
import statistics
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from cnnjax.command import parse
from cnnjax.errors import UserError, one_line_errors
from cnnjax.launch import alone
from cnnjax.report.page import Table

from ..settings import check_counts
from . import __doc__ as question
from .contestants import peak_memory, prepare, trace, turn
from .settings import Args, Setting


def measure(setting: Setting, kinds: list[str], args: Args) -> list[dict[str, Any]]:
    """Rows of the summary for one setting, a contestant each."""
    from cnnjax import summary
    from cnnjax.machine import keep_memory  # as every command does

    context = multiprocessing.get_context("spawn")
    pools = {kind: ProcessPoolExecutor(1, mp_context=context, initializer=keep_memory) for kind in kinds}
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


def table(rows: list[dict[str, Any]]) -> Table:
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
    alone()
    from cnnjax import terminal
    from cnnjax.files import write_json
    from cnnjax.models.registry import find
    from cnnjax.report.bars import bars
    from cnnjax.training.progress import each
    from cnnjax.training.run_dir import environment

    for name in args.models:
        find(name)
    check_counts(turns=args.turns, steps=args.steps, image=args.image)
    for batch in args.batch:
        check_counts(batch=batch)
    kinds = ["cnnjax", *args.against]
    if args.overheads:
        kinds += ["with_input"]
    if args.overheads or args.vmap:
        kinds += ["in_loop"]
    if args.vmap:
        kinds += ["vmap"]
    if args.probes:
        kinds += ["with_probes"]
    settings = [
        Setting(model, batch, args.image, dtype, loop)
        for model in args.models
        for batch in args.batch
        for dtype in args.dtype
        for loop in args.loop
    ]
    if not settings:
        raise UserError("nothing to time: --models, --batch, --dtype and --loop have a value each, at least")
    rows: list[dict[str, Any]] = []
    for setting in each(settings, "throughput", "setting"):
        rows += measure(setting, kinds, args)
    write_json(args.out / "summary.json", {"results": rows, "environment": environment()})
    header, cells = table(rows)
    groups = [f"{row['model']}\nbatch {row['batch']}" for row in rows]
    series = [
        (group, row["contestant"], row["images_per_second"]) for group, row in zip(groups, rows, strict=True)
    ]
    figures = bars(series, args.out / "throughput", "images a second")
    terminal.show(terminal.Page("", terminal.table(cells, header), ""))
    for path in (*figures.values(), args.out / "summary.json"):
        print(path)


if __name__ == "__main__":
    with one_line_errors("throughput"):
        main(parse(Args, question))
