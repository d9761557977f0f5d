"""Rows, tables and the figure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.probes.path_lengths import binomial, distribution
from cnnjax.report.paths import by_length

from ..runner import Findings, percent
from .measurement import STATES
from .settings import Preset


def conclude(
    chosen: Preset,
    arrays: Mapping[str, Mapping[str, np.ndarray]],
    metrics: Mapping[str, Mapping[str, float]],
    found: Findings,
    out: Path,
) -> None:
    """Write what was found of each run, from its `arrays` and its final `metrics`, by the run's name."""
    found.others["training"] = []
    panels: dict[str, dict[str, Any]] = {}
    for net in chosen.nets:
        runs = [net.run(seed) for seed in range(chosen.seeds)]
        for seed, run in enumerate(runs):
            row = {"model": net.name, "seed": seed}
            found.results += [{**row, **_row(arrays[run], number)} for number in range(len(STATES))]
            errors = {name: metrics[run][name] for name in ("train_error", "test_error")}
            open_error = round(float(arrays[run]["open_error"]), 6)
            found.others["training"].append({**row, **errors, "test_error_all_open": open_error})
        panels[net.name] = {
            state: {
                name: np.array([row[name] for row in found.results if _is(row, net.name, state)])
                for name in ("single", "exact_shares", "sampled_shares")
            }
            for state in STATES
        }
    caption = (
        "Above: norm of the gradient along one random path, against its length. Below: share of each length "
        "in the number of paths (grey), in the gradient as Veit et al. estimate it from single paths "
        "(dashed), and in what all paths of a length bring together (solid). Bands: lowest to highest seed."
    )
    found.figures[caption] = by_length(panels, out / "paths")
    found.tables |= {**_lengths(chosen, found), **_errors(chosen, found)}


def fit(single: np.ndarray) -> tuple[float, float]:
    """The factor by which a block multiplies the norm [length] of one path, and R2 of that: a fit of logs."""
    lengths = np.flatnonzero(single > 0)  # 0 is an underflow: of the longest paths
    logs = np.log(single[lengths])
    slope, start = np.polyfit(lengths, logs, 1)
    rest = logs - (start + slope * lengths)
    return float(np.exp(slope)), float(1 - np.square(rest).sum() / np.square(logs - logs.mean()).sum())


def effective(shares: np.ndarray) -> dict[str, float]:
    """Mean and standard deviation of the length, and the lengths that hold the middle 95 %."""
    lengths = np.arange(len(shares))
    mean = float(shares @ lengths)
    below = np.cumsum(shares)
    return {
        "mean": mean,
        "std": float(np.sqrt(shares @ np.square(lengths - mean))),
        "low": int(np.searchsorted(below, 0.025)),
        "high": int(np.searchsorted(below, 0.975)),
    }


def _row(arrays: Mapping[str, np.ndarray], state: int) -> dict[str, Any]:
    exact, single = arrays["exact"][state].astype(np.float64), arrays["single"][state].astype(np.float64)
    factor, r2 = fit(single.mean(1))
    shares = {"exact": distribution(exact), "sampled": distribution(single, single=True)}
    return {
        "state": STATES[state],
        "blocks": len(exact) - 1,
        "factor": factor,
        "r2": r2,
        "gap": float(arrays["gap"][state].max()),
        **{name: effective(share) for name, share in shares.items()},
        "effective_paths": float(binomial(len(exact) - 1)[_middle(shares["sampled"])].sum()),
        **{f"{name}_shares": share.tolist() for name, share in shares.items()},
        "single": single.mean(1).tolist(),
    }


def _middle(shares: np.ndarray) -> slice:
    middle = effective(shares)
    return slice(int(middle["low"]), int(middle["high"]) + 1)


def _is(row: Mapping[str, Any], model: str, state: str) -> bool:
    return (row["model"], row["state"]) == (model, state)


def _lengths(chosen: Preset, found: Findings) -> dict[str, Any]:
    header = ["model", "state", "blocks", "factor", "R2", "exact", "95 %", "sampled", "95 %", "gap"]
    rows = []
    for net in chosen.nets:
        for state in STATES:
            own = [row for row in found.results if _is(row, net.name, state)]
            mean = lambda *path, own=own: np.mean([_at(row, path) for row in own])  # noqa: E731
            cells = [net.name, state, str(own[0]["blocks"]), f"{mean('factor'):.3f}", f"{mean('r2'):.3f}"]
            for kind in ("exact", "sampled"):
                cells.append(f"{mean(kind, 'mean'):.1f} ± {mean(kind, 'std'):.1f}")
                cells.append(f"{mean(kind, 'low'):.0f} to {mean(kind, 'high'):.0f}")
            rows.append([*cells, f"{max(row['gap'] for row in own):.0e}"])
    caption = (
        "Means over seeds: the factor by which a block multiplies the gradient along one path, and R2 of "
        "that fit; mean and standard deviation of the length, and where the middle 95 % lie; and the largest "
        "difference of a sample's gradient and the sum over all lengths, relative to it."
    )
    return {caption: (header, rows)}


def _at(row: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        row = row[name]
    return row


def _errors(chosen: Preset, found: Findings) -> dict[str, Any]:
    names = ("train_error", "test_error", "test_error_all_open")
    rows = []
    for net in chosen.nets:
        own = [row for row in found.others["training"] if row["model"] == net.name]
        rows.append([net.name, *(percent([row[name] for row in own]) for name in names)])
    caption = (
        "Errors in percent, mean and standard deviation over seeds: of the last steps of training, where "
        "short_paths has only some blocks open; in test, where its branches count as often as they were "
        "open; and in test with all branches open, and BatchNorm's averages estimated anew."
    )
    return {caption: (["model", "training", "test", "test, all open"], rows)}
