"""Families of runs compared over their seeds: final values, and differences from one, seed by seed."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnnjax.errors import UserError
from cnnjax.report.families import Family, differing_fields, families_of, listed, settings_of
from cnnjax.report.paired import difference, sign_flip
from cnnjax.report.records import RunRecord, find_records
from cnnjax.terminal import Page, Printable

METRIC = "test_error"
ALWAYS = ("train_loss", "train_error", METRIC)
Seeds = tuple[Any, Any]
"""Of a run's initial weights, and of its data."""


@dataclasses.dataclass(frozen=True)
class FinishedRuns:
    """Those runs of a family that have finished.

    Attributes:
        label: of the family.
        runs: by their seeds.
        unfinished: its other runs, those that diverged among them.
    """

    label: str
    runs: Mapping[Seeds, RunRecord]
    unfinished: Sequence[RunRecord]

    def values(self, metric: str) -> dict[Seeds, float]:
        """The metric at the end of each run that has it."""
        ends = {seeds: run.last for seeds, run in self.runs.items()}
        return {seeds: float(end[metric]) for seeds, end in ends.items() if metric in end}


class PairedSeeds(NamedTuple):
    """How a metric differs from the baseline's over the seeds that both have.

    Attributes:
        pairs: the number of those seeds; None of the baseline itself.
        difference: the mean of the family's values less the baseline's; None without a pair.
        low, high: Student's 95 % interval for it; None for fewer than two pairs.
        p_value: of the sign-flip test; None for fewer than two pairs.
    """

    pairs: int | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None


@dataclasses.dataclass(frozen=True)
class RunComparison(Printable):
    """Families of finished runs beside one of them; `str` is the table with its notes.

    Attributes:
        families: two or more, the baseline first.
        metric: whose differences are tested.
        omitted: families none of whose runs has finished.
    """

    families: Sequence[FinishedRuns]
    metric: str
    omitted: Sequence[FinishedRuns] = ()

    @property
    def baseline(self) -> FinishedRuns:
        """The family that the others are compared with."""
        return self.families[0]

    @property
    def metrics(self) -> list[str]:
        """What is shown, of what there is."""
        wanted = dict.fromkeys((*ALWAYS, self.metric))
        return [metric for metric in wanted if any(one.values(metric) for one in self.families)]

    @functools.cached_property
    def paired(self) -> dict[str, PairedSeeds]:
        """Each family but the baseline beside it, by label."""
        base = self.baseline.values(self.metric)
        found = {}
        for family in self.families[1:]:
            own = family.values(self.metric)
            shared = [seeds for seeds in own if seeds in base]
            found[family.label] = _paired([own[key] for key in shared], [base[key] for key in shared])
        return found

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Numbers for each family, in the units of metrics.jsonl; None where there is none.

        The settings that differ, `seeds`, `parameters`, mean and standard deviation of each metric, the
        median of `seconds`, and, beside the baseline, `pairs`, `difference`, its interval `low` to `high`,
        `p_value`.
        """
        settings = [settings_of(next(iter(one.runs.values()))) for one in self.families]
        differing = differing_fields(settings)
        return [
            {"family": one.label, **{name: own.get(name) for name in differing}, **self._numbers(one)}
            for one, own in zip(self.families, settings, strict=True)
        ]

    def _numbers(self, family: FinishedRuns) -> dict[str, Any]:
        runs = list(family.runs.values())
        found: dict[str, Any] = {"seeds": len(runs), "parameters": runs[0].parameters}
        for metric in self.metrics:
            values = list(family.values(metric).values())
            found[f"{metric}_mean"] = float(np.mean(values)) if values else None
            found[f"{metric}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
        found["seconds"] = float(np.median([run.seconds for run in runs]))
        return found | self.paired.get(family.label, PairedSeeds())._asdict()

    def __rich__(self) -> Page:
        """The table and its notes."""
        from cnnjax.report.compared_table import page

        return page(self)


def compare_runs(*folders: Path | str, metric: str = METRIC, baseline: str | None = None) -> RunComparison:
    """Compare runs that have finished, grouped into families that differ in more than their seeds.

    Args:
        folders: of runs, or that hold some.
        metric: of metrics.jsonl, whose differences are tested.
        baseline: the family to compare the others with; by default the first that is found.

    Raises:
        UserError: there are fewer than two families with a finished run, or two runs of the same
            configuration and seeds; or there is no such folder, metric or baseline.
    """
    records = find_records([Path(folder).expanduser() for folder in folders])
    return compare_families(families_of(records), metric, baseline)


def compare_families(
    families: Sequence[Family], metric: str = METRIC, baseline: str | None = None
) -> RunComparison:
    """Compare families that were found; the rest is as in `compare_runs`."""
    if not families:
        raise UserError("there is no run: give folders of runs, or that hold some")
    every = [_finished(label, runs) for label, runs in families]
    found = [one for one in every if one.runs]
    if len(found) < 2:
        raise UserError(_too_few(every))
    metrics = dict.fromkeys(name for one in found for run in one.runs.values() for name in run.last)
    if metric not in metrics:
        raise UserError(f"no run has the metric {metric}; there are {', '.join(metrics)}")
    by_label = {one.label: one for one in found}
    if baseline is not None and baseline not in by_label:
        raise UserError(f"there is no family {baseline} with a finished run; there are {listed(by_label)}")
    base = found[0] if baseline is None else by_label[baseline]
    if not base.values(metric):
        raise UserError(f"the baseline {base.label} has no {metric}: give another baseline or metric")
    ordered = [base, *(one for one in found if one is not base)]
    return RunComparison(ordered, metric, [one for one in every if not one.runs])


def _finished(label: str, runs: Sequence[RunRecord]) -> FinishedRuns:
    ended: dict[Seeds, RunRecord] = {}
    for run in runs:
        if run.final is None:
            continue
        if (same := ended.setdefault(run.seeds, run)) is not run:
            both = f"{same.folder} and {run.folder}"
            raise UserError(f"{both} have the same configuration and seed: give one of them only")
    return FinishedRuns(label, ended, [run for run in runs if run.final is None])


def _too_few(families: Sequence[FinishedRuns]) -> str:
    more = "give runs that differ in more than their seeds"
    if len(families) == 1:
        return f"all runs are of one family, {families[0].label}: {more}"
    ended = [one.label for one in families if one.runs]
    states = [f"{run.folder.name}: {run.state}" for one in families for run in one.unfinished]
    what = f"only {ended[0]} has a finished run" if ended else "no run has finished"
    return f"{what} ({listed(states)}): two families are needed"


def _paired(own: Sequence[float], base: Sequence[float]) -> PairedSeeds:
    if len(own) < 2:
        return PairedSeeds(len(own), own[0] - base[0] if own else None)
    mean, half = difference(own, base)
    each = [one - other for one, other in zip(own, base, strict=True)]
    return PairedSeeds(len(own), mean, mean - half, mean + half, sign_flip(each))
