"""Rows, tables and the figure: each arm beside its base."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.config import Config
from cnnjax.counting import summary
from cnnjax.data import Dataset, Stream
from cnnjax.report.intervals import Panel, differences_by_study
from cnnjax.report.paired import CONFIDENCE, by_sign, difference

from ..runner import Findings, spread
from .study import IN_POINTS, MEASURES, Study

Ends = Mapping[str, Mapping[str, float]]
Row = Mapping[str, Any]


def cost(config: Config, data: Dataset | Stream) -> dict[str, int]:
    """Parameters and multiply-adds of an image, of a config's network on its data."""
    shape = None
    if isinstance(data, Dataset):
        height, width, channels = data.train_images.shape[1:]
        shape = (height // config.downsample, width // config.downsample, channels)
    counted = summary(config.model, shape, **{"num_classes": data.classes, **config.model_options})
    return {"parameters": counted.parameters, "macs": counted.macs}


def conclude(
    studies: Sequence[Study], seeds: int, ends: Ends, data: Dataset | Stream, found: Findings, out: Path
) -> None:
    """Write rows, a table for each study and the figure; `ends` are the final metrics by run."""
    differences = found.others.setdefault("differences", [])
    panels = {}
    for study in studies:
        costs = {title: cost(config, data) for title, config in study.configs.items()}
        own = [
            {
                "study": study.name,
                "arm": title,
                "seed": seed,
                **costs[title],
                **_measured(ends, study, title, seed),
            }
            for title in study.configs
            for seed in range(seeds)
        ]
        found.results += own
        compared = [row for arm in study.arms for row in _compared(study, arm.title, own)]
        differences += compared
        found.tables[_caption(study)] = _table(study, costs, own, compared)
        errors = [row for row in compared if row["measure"] == "test_error"]
        if errors:
            panels[study.name] = _panel(study, errors, own)
    caption = (
        f"Test error of each arm less that of its base, in points: mean over seeds and Student's "
        f"{CONFIDENCE:.0%} interval (blue), single seeds (crosses), and published (diamonds), where there is "
        "room for it."
    )
    if panels:
        found.figures[caption] = differences_by_study(panels, out / "ablations", "points of test error")


def _measured(ends: Ends, study: Study, title: str, seed: int) -> dict[str, float]:
    end = ends[study.run(title, seed)]
    return {name: round(end[name], 6) for name in (*MEASURES, "diverged_at") if name in end}


def _values(rows: Sequence[Row], title: str, measure: str) -> list[float] | None:
    """Of an arm, [seed]; None unless every seed has the measure."""
    own = [row.get(measure) for row in rows if row["arm"] == title]
    return None if None in own else [value for value in own if value is not None]


def _compared(study: Study, title: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A row for each measure of an arm; where a seed of it or of the base diverges, what diverges."""
    published = next(arm.published for arm in study.arms if arm.title == title)
    found = []
    for measure in MEASURES:
        arm, base = _values(rows, title, measure), _values(rows, study.base, measure)
        if arm is None or base is None:
            continue
        mean = difference(arm, base)
        row = {"study": study.name, "arm": title, "measure": measure}
        row |= {"difference": round(mean.mean, 6), "interval": mean.bounds}
        found.append(row | ({"published": published[measure] / 100} if measure in published else {}))
    return found


def _panel(study: Study, errors: Sequence[Row], rows: Sequence[Row]) -> Panel:
    base = _values(rows, study.base, "test_error") or []
    own = {row["arm"]: _values(rows, row["arm"], "test_error") or [] for row in errors}
    seeds = {arm: list(np.subtract(values, base)) for arm, values in own.items()}
    intervals = {arm: difference(values, base) for arm, values in own.items()}
    published = {row["arm"]: 100 * row["published"] for row in errors if "published" in row}
    return Panel(study.base, intervals, seeds, published)


def _caption(study: Study) -> str:
    return (
        f"{study.name}. Mean and standard deviation over seeds; differences from {study.base!r} with their "
        f"{CONFIDENCE:.0%} interval (Student's). Published: {study.source}."
    )


def _table(
    study: Study, costs: Mapping[str, Mapping[str, int]], rows: Sequence[Row], compared: Sequence[Row]
) -> tuple[list[str], list[list[str]]]:
    measures = [name for name in MEASURES if any(name in row for row in rows)]
    heads = [f"{MEASURES[name]} (%)" if name in IN_POINTS else MEASURES[name] for name in measures]
    header = ["", "parameters", "MMACs"]
    for head in heads:
        header += [head, "difference"]
    lines = []
    for title in study.configs:
        cells = [title, f"{costs[title]['parameters']:,}", f"{costs[title]['macs'] / 1e6:,.2f}"]
        own = {row["measure"]: row for row in compared if row["arm"] == title}
        for measure in measures:
            values = _values(rows, title, measure)
            cells += [
                _spread(values, measure) if values else "diverges",
                _difference(own.get(measure), measure),
            ]
        published = own.get("test_error", {}).get("published")
        lines.append([*cells, "" if published is None else f"{100 * published:+.1f}"])
    return [*header, "published"], lines


def _scale(measure: str) -> float:
    return 100.0 if measure in IN_POINTS else 1.0


def _spread(values: Sequence[float], measure: str) -> str:
    digits = 1 if measure in IN_POINTS else 3
    over = spread([_scale(measure) * value for value in values])
    return f"{over['mean']:.{digits}f} ± {over['std']:.{digits}f}"


def _difference(row: Row | None, measure: str) -> str:
    if row is None:
        return ""
    digits, scale = (1 if measure in IN_POINTS else 3), _scale(measure)
    half = f" ± {scale * (row['interval'][1] - row['difference']):.{digits}f}" if row["interval"] else ""
    return f"{scale * row['difference']:+.{digits}f}{half}"


def answer(differences: Sequence[Row]) -> str:
    """What an interval without 0 supports, by study, in words: errors, and what else was measured of it."""
    if not all(row["interval"] for row in differences):
        return "Answer. One seed has no interval, and tells nothing of a difference."
    said = []
    for study in dict.fromkeys(row["study"] for row in differences):
        own = [row for row in differences if row["study"] == study]
        for measure in dict.fromkeys(row["measure"] for row in own):
            if measure in ("test_error", "calibration_error"):
                worse, better, unclear = by_sign([row for row in own if row["measure"] == measure])
                parts = [
                    f"{word}: {_listed(rows)}"
                    for word, rows in (("higher", worse), ("lower", better))
                    if rows
                ]
                if unclear:
                    parts.append(f"no clear difference: {', '.join(row['arm'] for row in unclear)}")
                said.append(f"{study}, {MEASURES[measure]}: {'; '.join(parts)}.")
    return "Answer. " + "\n\n".join(said)


def _listed(rows: Sequence[Row]) -> str:
    return ", ".join(f"{row['arm']} ({100 * row['difference']:+.1f} points)" for row in rows)
