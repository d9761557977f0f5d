"""What every experiment does: runs configs, keeps arrays, sums up over seeds, and writes what it found."""

import dataclasses
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cnnjax.config import Config
from cnnjax.data import Dataset
from cnnjax.files import read_json, write_json
from cnnjax.report.page import Table, write_page
from cnnjax.training import How, Probe, shared, train_many
from cnnjax.training.record import write_arrays


def run_all(
    runs: Mapping[str, Config],
    out: Path,
    data: Dataset,
    tensorboard: bool = False,
    probes: Probe | None = None,
    how: How = "sequential",
) -> dict[str, dict]:
    """Train every config in `out`/NAME; names to the final metrics. Finished runs are not repeated.

    Those that can share a program, such as the seeds of one network, do; `how` is `train_many`'s.
    """
    metrics: dict[str, dict] = {}
    groups: dict[str, list[str]] = {}
    for name, config in runs.items():
        finished = out / name / "result.json"
        if finished.exists() and (result := read_json(finished))["config"] == config.to_json():
            tqdm.write(f"{name} was finished earlier")
            metrics[name] = result["metrics"]
        else:
            groups.setdefault(json.dumps(shared(config).to_json()), []).append(name)
    for names in groups.values():
        tqdm.write(f"{', '.join(names)}: {len(metrics)} of {len(runs)} runs are finished")
        results = train_many(
            [runs[name] for name in names],
            [out / name for name in names],
            how,
            data=data,
            tensorboard=tensorboard,
            probes=probes,
        )
        metrics |= {name: result.metrics for name, result in zip(names, results, strict=True)}
    return metrics


def kept(path: Path, compute: Callable[[], Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """The arrays that `compute` returns, by name, kept in the npz file `path`: computed once."""
    if not path.exists():
        write_arrays(path, compute())
    with np.load(path) as file:
        return dict(file)


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and sample standard deviation over seeds, and the values themselves."""
    return {
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else 0.0,
        "values": list(values),
    }


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain table for the terminal: the first column to the left, the others to the right."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (header, *rows)
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


@dataclasses.dataclass
class Findings:
    """What an experiment gives to its summary, its page and the terminal; captions are the keys."""

    results: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    figures: dict[str, dict[str, Path]] = dataclasses.field(default_factory=dict)
    tables: dict[str, Table] = dataclasses.field(default_factory=dict)

    def write(self, out: Path, question: str) -> None:
        """Write summary.json and report.html, print tables and paths; `question` is a title and its text."""
        write_json(out / "summary.json", {"results": self.results})
        title, text = question.split("\n\n", 1)
        drawn = {caption: paths["svg"] for caption, paths in self.figures.items()}
        write_page(out / "report.html", title, text, drawn, self.tables, out / "config.json")
        for caption, (header, rows) in self.tables.items():
            print(f"\n{text_table(header, rows)}\n{caption}")
        print()
        for path in (path for paths in self.figures.values() for path in paths.values()):
            print(path)
        for name in ("summary.json", "report.html"):
            print(out / name)
