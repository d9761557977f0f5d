"""The table of a comparison over seeds, and what must be said with it: as text, for files, for a page."""

from collections.abc import Mapping
from typing import Any

from cnnjax.report.families import listed, text_of
from cnnjax.report.over_seeds import FinishedRuns, RunComparison
from cnnjax.report.paired import smallest_p
from cnnjax.report.records import RunRecord
from cnnjax.report.series import in_percent
from cnnjax.tables import as_csv, as_latex, as_markdown
from cnnjax.terminal import Page, Parts

LEVEL = 0.05
Table = tuple[tuple[str, ...], list[tuple[str, ...]]]


def header_and_rows(found: RunComparison) -> Table:
    """The cells as text, errors in percent; columns that would be empty are left out."""
    rows = [_cells(found, row) for row in found.rows]
    used = [title for title in rows[0] if any(row[title] for row in rows)]
    return tuple(used), [tuple(row[title] for title in used) for row in rows]


def _cells(found: RunComparison, row: Mapping[str, Any]) -> dict[str, str]:
    """A row's cells by their titles."""
    low, mean, high = (_signed(row[name], found.metric) for name in ("low", "difference", "high"))
    spreads = {
        f"{_words(name)}{' %' * in_percent(name)}": _spread(row[f"{name}_mean"], row[f"{name}_sd"], name)
        for name in found.metrics
    }
    return {
        "family": row["family"],
        "seeds": _number(row["seeds"]),
        "parameters": _number(row["parameters"]),
        **spreads,
        "seconds": _number(row["seconds"], ",.0f"),
        "difference": mean,
        "95 % interval": low and f"{low} to {high}",
        "pairs": _number(row["pairs"]),
        "p": _number(row["p_value"], ".2g"),
    }


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
    if left := [f"{_named(one, run)} ({run.state})" for one in every for run in one.unfinished]:
        said.append(f"Left out, not finished: {listed(left)}.")
    early = [
        f"{_named(one, run)} (step {run.step:,} of {run.config['steps']:,})"
        for one in found.families
        for run in one.runs.values()
        if run.step < run.config["steps"]
    ]
    if early:
        said.append(f"Ended early, as they were told to: {listed(early)}.")
    return said


def _pairs_notes(found: RunComparison) -> list[str]:
    """What too few pairs, or none, can't show."""
    without = [one.label for one in found.families if not one.values(found.metric)]
    unpaired = [label for label, one in found.paired.items() if not one.pairs and label not in without]
    single = [label for label, one in found.paired.items() if one.pairs == 1]
    base = found.baseline.label
    reasons = {
        f"Without {_words(found.metric)}": without,
        f"Not paired, no seed in common with {base}": unpaired,
        f"Only one seed in common with {base}, so no interval and no test": single,
    }
    said = [f"{reason}: {listed(labels)}." for reason, labels in reasons.items() if labels]
    fewest = min((one.pairs or 0 for one in found.paired.values() if one.low is not None), default=0)
    if fewest and smallest_p(fewest) > LEVEL:
        enough = next(pairs for pairs in range(2, 20) if smallest_p(pairs) <= LEVEL)
        said.append(
            f"{fewest} pairs are few: whatever their differences, p is {smallest_p(fewest):.2g} (2 / "
            f"2^{fewest}) or more. {enough} pairs can show p below {LEVEL:g}."
        )
    return said


def page(found: RunComparison) -> Page:
    """The table and its notes, for a terminal."""
    header, rows = header_and_rows(found)
    return Page(Parts(header, rows), "", *notes(found))


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
    tested = [(label, one.difference, one.high) for label, one in found.paired.items()]
    return {
        "header": header,
        "rows": rows,
        "notes": notes(found),
        "difference": f"{_words(found.metric)} less that of {found.baseline.label}{_unit(found)}",
        "intervals": [
            [label, scale * mean, scale * (high - mean)]
            for label, mean, high in tested
            if mean is not None and high is not None
        ],
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


def _named(family: FinishedRuns, run: RunRecord) -> str:
    seed, data_seed = run.seeds
    return f"{family.label}, seed {seed}{'' if data_seed == seed else f', data seed {data_seed}'}"
