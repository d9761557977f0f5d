"""Errors of averaged probabilities, and how often members disagree."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.evaluation import disagreement
from cnnjax.report.ensembles import Points, errors_of_ensembles

from ..runner import Findings, percent

Arrays = Mapping[str, np.ndarray]
"""Of one run, from `Member.arrays`."""


def error_of(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The error of the mean of `probabilities` [member, example, class]."""
    return round(float(np.mean(probabilities.mean(0).argmax(-1) != labels)), 6)


def conclude(nets: Mapping[str, Sequence[Arrays]], labels: np.ndarray, found: Findings, out: Path) -> None:
    """Write rows, tables and the figure; `nets` are the arrays of each seed by network."""
    disagreements = found.others.setdefault("disagreement", [])
    for name, seeds in nets.items():
        which = {"model": name}
        found.results += [{**which, **row} for row in _of_seeds(seeds, labels)]
        last = np.stack([arrays["checkpoints"][0] for arrays in seeds])
        if len(seeds) > 1:
            disagreements.append({**which, "kind": "seeds", "disagreement": round(disagreement(last), 6)})
        for seed, arrays in enumerate(seeds):
            which = {"model": name, "seed": seed}
            found.results += [{**which, **row} for row in _of_checkpoints(arrays, labels)]
            found.results += [{**which, **row} for row in _of_paths(arrays, labels)]
            if len(arrays["checkpoints"]) > 1:
                apart = round(disagreement(arrays["checkpoints"]), 6)
                disagreements.append({**which, "kind": "checkpoints", "disagreement": apart})
            for deleted in np.unique(arrays["deleted"]):
                apart = round(disagreement(arrays["paths"][arrays["deleted"] == deleted]), 6)
                row = {"kind": "paths", "deleted": int(deleted), "disagreement": apart}
                disagreements.append({**which, **row})
    caption = (
        "Test error: left, of the mean of several members; right, against the share that is left of the "
        "members, or of the paths, half of which go with each deleted block. Bands: standard deviation over "
        "subsets of the seeds, or over seeds and draws."
    )
    panels = {name: _points(found.results, name) for name in nets}
    shares = {name: _shares(found.results, name, len(seeds)) for name, seeds in nets.items()}
    found.figures[caption] = errors_of_ensembles(panels, shares, out / "ensembles")
    found.tables |= _tables(found, nets)


def answer(found: Findings) -> str:
    """What the results say, in words."""
    said = []
    for model in dict.fromkeys(row["model"] for row in found.results):
        seeds = _by_size(found.results, model, "seeds")
        checkpoints = _by_size(found.results, model, "checkpoints")
        members, last = max(seeds), max(checkpoints)
        one, all_of_them = (100 * np.mean(some) for some in (seeds[1], seeds[members]))
        text = (
            f"{model}: one net has {one:.1f} % test error, {members} together {all_of_them:.1f} %, the last "
            f"{last} checkpoints of one run {100 * np.mean(checkpoints[last]):.1f} %"
        )
        single, together = _by_deleted(found.results, model).get(1, ([], []))
        if single:
            text += f"; without one block, with half of the paths, {100 * np.mean(single):.1f} %"
        if together:
            text += f", and the mean of several such nets {100 * np.mean(together):.1f} %"
        half = members // 2
        if half in seeds:
            text += f"; {half} of the {members} nets {100 * np.mean(seeds[half]):.1f} %"
        said.append(f"{text}.")
    return f"Answer. {' '.join(said)}"


def _of_seeds(seeds: Sequence[Arrays], labels: np.ndarray) -> Iterable[dict[str, Any]]:
    """A row for each number of members, with the error of each subset of so many."""
    last = np.stack([arrays["checkpoints"][0] for arrays in seeds])
    for members in range(1, len(seeds) + 1):
        subsets = itertools.combinations(range(len(seeds)), members)
        errors = [error_of(last[list(subset)], labels) for subset in subsets]
        yield {"kind": "seeds", "members": members, "test_errors": errors}


def _of_checkpoints(arrays: Arrays, labels: np.ndarray) -> Iterable[dict[str, Any]]:
    """A row for each number of checkpoints, from the last one backwards."""
    for members in range(1, len(arrays["checkpoints"]) + 1):
        error = error_of(arrays["checkpoints"][:members], labels)
        yield {"kind": "checkpoints", "members": members, "test_errors": [error]}


def _of_paths(arrays: Arrays, labels: np.ndarray) -> Iterable[dict[str, Any]]:
    """Two rows for each number of deleted blocks: each choice of blocks by itself, and their mean."""
    for deleted in np.unique(arrays["deleted"]):
        drawn = arrays["paths"][arrays["deleted"] == deleted]
        row = {"kind": "paths", "deleted": int(deleted)}
        single = [error_of(one[None], labels) for one in drawn]
        yield {**row, "members": 1, "test_errors": single}
        if len(drawn) > 1:
            yield {**row, "members": len(drawn), "test_errors": [error_of(drawn, labels)]}


def _by_size(results: Sequence[Mapping[str, Any]], model: str, kind: str) -> dict[float, list[float]]:
    """All errors by number of members."""
    errors: dict[float, list[float]] = {}
    for row in results:
        if (row["model"], row["kind"]) == (model, kind):
            errors.setdefault(row["members"], []).extend(row["test_errors"])
    return errors


def _by_deleted(
    results: Sequence[Mapping[str, Any]], model: str
) -> dict[int, tuple[list[float], list[float]]]:
    """By number of deleted blocks: all errors of single choices, and of their means."""
    errors: dict[int, tuple[list[float], list[float]]] = {}
    for row in results:
        if (row["model"], row["kind"]) == (model, "paths"):
            own = errors.setdefault(row["deleted"], ([], []))
            own[row["members"] > 1].extend(row["test_errors"])
    return errors


def _points(results: Sequence[Mapping[str, Any]], model: str) -> dict[str, Points]:
    """Errors by number of members, by kind."""
    return {
        "seeds": _by_size(results, model, "seeds"),
        "checkpoints": _by_size(results, model, "checkpoints"),
    }


def _shares(results: Sequence[Mapping[str, Any]], model: str, seeds: int) -> dict[str, Points]:
    """Errors by the share of members, and of paths, that is left; whole networks have all their paths."""
    members = _by_size(results, model, "seeds")
    single = {2.0**-deleted: errors for deleted, (errors, _) in _by_deleted(results, model).items()}
    return {
        "seeds": {size / seeds: errors for size, errors in members.items()},
        "paths": {1.0: members[1], **single},
    }


def _tables(found: Findings, nets: Mapping[str, Sequence[Arrays]]) -> dict[str, Any]:
    rows = []
    for name in nets:
        for kind, title in (("seeds", "seeds"), ("checkpoints", "last checkpoints")):
            apart = _apart(found, name, kind)
            for members, errors in _by_size(found.results, name, kind).items():
                rows.append([name, title, str(members), percent(errors), apart])
        for deleted, (single, together) in _by_deleted(found.results, name).items():
            apart, title = _apart(found, name, "paths", deleted), f"without {deleted} of its blocks"
            rows.append([name, title, "1", percent(single), apart])
            if together:
                rows.append([name, title, str(len(single) // len(together)), percent(together), apart])
    header = ["model", "ensemble of", "members", "test error", "two disagree"]
    caption = (
        "Test error of the mean of the probabilities, and share of examples of which two members say "
        "different classes; percent, mean and standard deviation over subsets, seeds or draws."
    )
    return {caption: (header, rows)}


def _apart(found: Findings, model: str, kind: str, deleted: int | None = None) -> str:
    where = {"model": model, "kind": kind} | ({} if deleted is None else {"deleted": deleted})
    values = [row["disagreement"] for row in found.others["disagreement"] if where.items() <= row.items()]
    return percent(values) if len(values) > 1 else f"{100 * values[0]:.1f}" if values else ""
