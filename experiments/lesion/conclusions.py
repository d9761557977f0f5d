"""Rows, table and figures of all lesions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.report.lesions import many_blocks, single_blocks

from ..runner import Findings
from .settings import STATISTICS

TITLES = {"running": "averages as trained", "reestimated": "averages estimated anew"}
Arrays = Mapping[str, np.ndarray]
"""Of one run, from `Damage.arrays`."""


def conclude(nets: Mapping[str, Sequence[Arrays]], found: Findings, out: Path, chance: float) -> None:
    """Write what was found of each network, for each of its seeds; `chance` is the error of a guess."""
    found.others["reorderings"] = []
    for name, seeds in nets.items():
        for seed, arrays in enumerate(seeds):
            for statistics in STATISTICS:
                one = {"model": name, "seed": seed, "statistics": statistics}
                found.results += [{**one, **row} for row in _deletions(arrays, statistics)]
                found.others["reorderings"] += [{**one, **row} for row in _orders(arrays, statistics)]
    singles = {
        TITLES[statistics]: {name: _single(seeds, statistics) for name, seeds in nets.items()}
        for statistics in STATISTICS
    }
    panels: dict[str, Any] = {
        "blocks deleted at random": {
            name: {TITLES[statistics]: _by_number(seeds, statistics) for statistics in STATISTICS}
            for name, seeds in nets.items()
        },
        "Kendall's tau of blocks in another order": {
            name: {TITLES[statistics]: _by_tau(seeds, statistics) for statistics in STATISTICS}
            for name, seeds in nets.items()
        },
    }
    found.figures |= {
        "Test error without each block, against its place; bars from the lowest to the highest seed.": (
            single_blocks(singles, out / "single_blocks", chance)
        ),
        "Test error without several blocks, and with equal blocks in another order; bands: a standard "
        "deviation over draws and seeds.": many_blocks(panels, out / "many_blocks", chance),
    }
    header = ["model", "averages", "whole", "median", "range over seeds", "largest", "its block"]
    rows = [_summary(name, seeds, statistics) for name, seeds in nets.items() for statistics in STATISTICS]
    caption = (
        "Test error of the whole network in percent, and what a single deleted block adds to it, in points: "
        "the median over blocks (mean over seeds, and its range), and the largest."
    )
    found.tables[caption] = (header, rows)


def _deletions(arrays: Arrays, statistics: str) -> list[dict[str, Any]]:
    blocks = arrays["blocks"]
    return [
        {"deleted": blocks[opened == 0].tolist(), "test_error": round(float(error), 6)}
        for opened, error in zip(arrays["opened"], arrays[f"deleted_{statistics}"], strict=True)
    ]


def _orders(arrays: Arrays, statistics: str) -> list[dict[str, Any]]:
    return [
        {
            "order": arrays["blocks"][order].tolist(),
            "kendall_tau": float(tau),
            "test_error": round(float(error), 6),
        }
        for order, tau, error in zip(
            arrays["orders"], arrays["tau"], arrays[f"ordered_{statistics}"], strict=True
        )
    ]


def _single(seeds: Sequence[Arrays], statistics: str) -> tuple[np.ndarray, np.ndarray]:
    """The error of the whole network [seed], and without each block [seed, block]."""
    blocks = len(seeds[0]["blocks"])
    errors = np.stack([arrays[f"deleted_{statistics}"][: 1 + blocks] for arrays in seeds])
    return errors[:, 0], errors[:, 1:]


def _by_number(seeds: Sequence[Arrays], statistics: str) -> dict[float, np.ndarray]:
    """Errors [draw] by the number of deleted blocks."""
    numbers = np.concatenate([(arrays["opened"] == 0).sum(1) for arrays in seeds])
    return _grouped(numbers, np.concatenate([arrays[f"deleted_{statistics}"] for arrays in seeds]))


def _by_tau(seeds: Sequence[Arrays], statistics: str) -> dict[float, np.ndarray]:
    """Errors [draw] by Kendall's tau; 1 for the whole network."""
    taus = np.concatenate([[1.0, *arrays["tau"]] for arrays in seeds])
    errors = [[arrays[f"deleted_{statistics}"][0], *arrays[f"ordered_{statistics}"]] for arrays in seeds]
    return _grouped(np.round(taus, 6), np.concatenate(errors))


def _grouped(sizes: np.ndarray, errors: np.ndarray) -> dict[float, np.ndarray]:
    return {float(size): errors[sizes == size] for size in np.unique(sizes)}


def _summary(name: str, seeds: Sequence[Arrays], statistics: str) -> list[str]:
    whole, without = _single(seeds, statistics)
    added = 100 * (without - whole[:, None])
    medians = np.median(added, 1)
    _, block = np.unravel_index(added.argmax(), added.shape)
    return [
        name,
        TITLES[statistics].removeprefix("averages "),
        f"{100 * whole.mean():.1f}",
        f"{medians.mean():.2f}",
        f"{medians.min():.2f} to {medians.max():.2f}",
        f"{added.max():.1f}",
        str(seeds[0]["blocks"][block]),
    ]
