"""The table of a comparison over seeds, and what must be said with it: as text, for files, for a page."""

from collections.abc import Sequence
from typing import Any

from cnnjax.report.families import text_of
from cnnjax.report.over_seeds import FinishedRuns, RunComparison
from cnnjax.report.paired import smallest_p
from cnnjax.report.records import RunRecord
from cnnjax.report.series import in_percent
from cnnjax.tables import as_csv, as_latex, as_markdown, table

NAMED = 5  # families or runs that a note names
LEVEL = 0.05
Table = tuple[tuple[str, ...], list[tuple[str, ...]]]


def header_and_rows(found: RunComparison) -> Table:
    """The cells as text, errors in percent; columns that would be empty are left out."""
    titles = [f"{_words(metric)}{' %' * in_percent(metric)}" for metric in found.metrics]
    header = [
        "family",
        "seeds",
        "parameters",
        *titles,
        "seconds",
        "difference",
        "95 % interval",
        "pairs",
        "p",
    ]
    rows = []
    for row in found.rows:
        low, mean, high = (_signed(row[name], found.metric) for name in ("low", "difference", "high"))
        spreads = [_spread(row[f"{name}_mean"], row[f"{name}_sd"], name) for name in found.metrics]
        before = [row["family"], _number(row["seeds"]), _number(row["parameters"]), *spreads]
        tested = [mean, low and f"{low} to {high}", _number(row["pairs"]), _number(row["p_value"], ".2g")]
        rows.append([*before, _number(row["seconds"], ",.0f"), *tested])
    used = [index for index, column in enumerate(zip(*rows, strict=True)) if any(column)]
    return tuple(header[index] for index in used), [tuple(row[index] for index in used) for row in rows]


def notes(found: RunComparison) -> list[str]:
    """What the numbers are, which runs are left out, and what can't be concluded."""
    said = [
        "Values at the end of training, not the best ones: mean ± standard deviation over seeds. Training "
        "values are means over the last tenth of the steps; seconds are medians, pauses included.",
        f"Difference: {_words(found.metric)} less that of {found.baseline.label}{_unit(found)}, seed by "
        "seed, with Student's 95 % interval. p is that of the sign-flip test over seeds.",
    ]
    return [*said, *_runs_notes(found), *_pairs_notes(found)]


def _runs_notes(found: RunComparison) -> list[str]:
    """Runs that are left out, or that ended early."""
    said = []
    every = [*found.families, *found.omitted]
    if left := [(one, run) for one in every for run in one.unfinished]:
        said.append(f"Left out, not finished: {_listed([_run(*one) for one in left])}.")
    early = [
        (one, run)
        for one in found.families
        for run in one.runs.values()
        if run.step < run.config.get("steps", 0)
    ]
    if early:
        runs = [f"{_run(*one)[:-1]}, step {one[1].step:,} of {one[1].config['steps']:,})" for one in early]
        said.append(f"Ended early, as they were told to: {_listed(runs)}.")
    return said


def _pairs_notes(found: RunComparison) -> list[str]:
    """What too few pairs, or none, can't show."""
    base, said = found.baseline.label, []
    by_pairs: dict[int, list[str]] = {}
    for label, one in found.paired.items():
        by_pairs.setdefault(min(one.pairs, 2), []).append(label)
    if 0 in by_pairs:
        said.append(f"Not paired, no seed in common with {base}: {_listed(by_pairs[0])}.")
    if 1 in by_pairs:
        said.append(
            f"Only one seed in common with {base}, so no interval and no test: {_listed(by_pairs[1])}."
        )
    fewest = min((one.pairs for one in found.paired.values() if one.pairs > 1), default=None)
    if fewest is not None and smallest_p(fewest) > LEVEL:
        enough = next(pairs for pairs in range(2, 20) if smallest_p(pairs) <= LEVEL)
        said.append(
            f"{fewest} pairs are few: whatever their differences, p is {smallest_p(fewest):.2g} (2 / "
            f"2^{fewest}) or more. {enough} pairs can show p below {LEVEL:g}."
        )
    return said


def as_text(found: RunComparison) -> str:
    """The aligned table and its notes, for a terminal."""
    header, rows = header_and_rows(found)
    return "\n".join([*table([header, *rows], left=1, ruled={0}), "", *notes(found)])


def markdown(found: RunComparison) -> str:
    """The table and its notes as a list below it."""
    return "\n".join([as_markdown(*header_and_rows(found)), "", *(f"- {note}" for note in notes(found))])


def latex(found: RunComparison) -> str:
    """The tabular, with its notes as comments before it."""
    return "\n".join([*(f"% {note}" for note in notes(found)), as_latex(*header_and_rows(found))])


def csv(found: RunComparison) -> str:
    """A line for each family with all numbers of `RunComparison.rows`, in full; no notes."""
    rows = found.rows
    lines = [["" if value is None else _plain(value) for value in row.values()] for row in rows]
    return as_csv(list(rows[0]), lines)


def content(found: RunComparison) -> dict[str, Any]:
    """What a report's page shows of it; `intervals` are of label, mean and half width."""
    header, rows = header_and_rows(found)
    scale = 100 if in_percent(found.metric) else 1
    tested = {label: one for label, one in found.paired.items() if one.pairs > 1}
    return {
        "header": header,
        "rows": rows,
        "notes": notes(found),
        "difference": f"{_words(found.metric)} less that of {found.baseline.label}{_unit(found)}",
        "intervals": [[label, scale * one.mean, scale * one.half] for label, one in tested.items()],
    }


def _unit(found: RunComparison) -> str:
    return ", in points" if in_percent(found.metric) else ""


def _plain(value: Any) -> str:
    return repr(value) if isinstance(value, float) else text_of(value)


def _words(metric: str) -> str:
    return metric.replace("_", " ")


def _number(value: float | None, form: str = ",") -> str:
    return "" if value is None else format(value, form)


def _signed(value: float | None, metric: str) -> str:
    if value is None:
        return ""
    return f"{100 * value:+.2f}" if in_percent(metric) else f"{value:+.3g}"


def _spread(mean: float | None, deviation: float | None, metric: str) -> str:
    if mean is None:
        return ""
    scale, forms = (100, (".2f", ".2f")) if in_percent(metric) else (1, (".4g", ".2g"))
    more = "" if deviation is None else f" ± {scale * deviation:{forms[1]}}"
    return f"{scale * mean:{forms[0]}}{more}"


def _run(family: FinishedRuns, run: RunRecord) -> str:
    seed, data_seed = run.config.get("seed"), run.config.get("data_seed")
    more = "" if data_seed is None else f", data seed {data_seed}"
    return f"{family.label}, seed {seed}{more} ({run.state})"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return "; ".join(names[:NAMED]) + more
