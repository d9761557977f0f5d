"""What every experiment does: runs configs one after the other, keeps arrays, and sums up over seeds."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cnnjax.config import Config, differences
from cnnjax.data import Dataset
from cnnjax.errors import UserError
from cnnjax.files import read_json, write_json
from cnnjax.training import Probe, train
from cnnjax.training.record import environment, write_arrays


def claim(out: Path, experiment: Mapping[str, Any], growing: Sequence[str]) -> None:
    """Write `out`/config.json, or make sure that the one there is of the same experiment.

    The settings named in `growing` may differ: they say which runs are made, not how.

    Raises:
        UserError: the folder holds another experiment.
    """
    path = out / "config.json"
    if path.exists():
        found = read_json(path).get("experiment", {})
        fixed = [{k: v for k, v in settings.items() if k not in growing} for settings in (found, experiment)]
        if changes := differences(*fixed):
            what = "; ".join(changes)
            raise UserError(f"{out} holds another experiment ({what}): give another --out or remove that one")
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, {"experiment": dict(experiment), "environment": environment()})


def run_all(
    runs: Mapping[str, Config],
    out: Path,
    data: Dataset,
    tensorboard: bool = False,
    probes: Probe | None = None,
) -> dict[str, dict]:
    """Train every config in `out`/NAME; names to the final metrics. Finished runs are not repeated."""
    metrics = {}
    for number, (name, config) in enumerate(runs.items(), start=1):
        finished = out / name / "result.json"
        if finished.exists() and (result := read_json(finished))["config"] == config.to_json():
            tqdm.write(f"run {number} of {len(runs)}: {name} was finished earlier")
            metrics[name] = result["metrics"]
        else:
            tqdm.write(f"run {number} of {len(runs)}: {name}")
            metrics[name] = train(
                config, out / name, data=data, tensorboard=tensorboard, probes=probes
            ).metrics
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
