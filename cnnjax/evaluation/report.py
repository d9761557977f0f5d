"""Predictions as tables for the terminal, and as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnjax.evaluation.comparison import compare_paired, disagreement, mean_interval
from cnnjax.evaluation.predictions import Predictions
from cnnjax.evaluation.scores import confusions, per_class
from cnnjax.terminal import Page, Table, table

PERCENT = ("error", "top5_error", "calibration_error")
TITLES = {
    "error": "error %",
    "top5_error": "top-5 error %",
    "loss": "loss, nats",
    "brier": "Brier",
    "calibration_error": "ECE %",
}


def scores_table(members: Mapping[str, Predictions]) -> Table:
    """A row for each, of its scores."""
    rows: list[tuple[str, ...]] = []
    for name, one in members.items():
        cells = (
            f"{100 * one.scores[key]:.2f}" if key in PERCENT else f"{one.scores[key]:.4f}" for key in TITLES
        )
        rows.append((name, *cells))
    return table(rows, ("", *TITLES.values()))


def paired_table(members: Mapping[str, Predictions]) -> Table:
    """A row for each after the first: its error less the first's, on the same images."""
    (first_name, first), *others = members.items()
    header = f"less {first_name}", "error, points", "95 % interval", "only it wrong", "only first wrong", "p"
    rows = []
    for name, other in others:
        pair = compare_paired(first.wrong, other.wrong)
        interval = f"{100 * pair.low:+.2f} to {100 * pair.high:+.2f}"
        counts = str(pair.only_second_wrong), str(pair.only_first_wrong)
        rows.append((name, f"{100 * pair.difference:+.2f}", interval, *counts, f"{pair.p_value:.2g}"))
    return table(rows, header)


def classes_table(one: Predictions) -> Page:
    """Precision, recall and support of each class, and the most frequent confusions."""
    found, names = per_class(one.confusion), one.class_names
    rows = [
        (name, f"{100 * precision:.1f}", f"{100 * recall:.1f}", str(support))
        for name, precision, recall, support in zip(names, *found, strict=True)
    ]
    pairs = [(str(count), f"{names[i]} called {names[j]}") for i, j, count in confusions(one.confusion)]
    classes = table(rows, ("class", "precision %", "recall %", "images"))
    return Page(classes, "", "Most frequent errors", table(pairs, align="rl"))


def to_json(members: Mapping[str, Predictions]) -> dict[str, Any]:
    """All of it as JSON values: scores, differences from the first, and each class of the last."""
    (first_name, first), *others = members.items()
    pairs = {name: compare_paired(first.wrong, other.wrong)._asdict() for name, other in others}
    name, last = list(members.items())[-1]
    found = per_class(last.confusion)
    return {
        "examples": len(first.labels),
        "scores": {name: dict(one.scores) for name, one in members.items()},
        "less": {"first": first_name, "others": pairs},
        "classes": {
            "of": name,
            "names": list(last.class_names),
            **{key: np.asarray(values).tolist() for key, values in found._asdict().items()},
            "confusion": last.confusion.tolist(),
        },
    }


def ensemble_text(members: Sequence[Predictions], together: Predictions) -> str:
    """How much less often the mean is wrong than a member, and how often two members disagree."""
    gain = together.wrong - np.mean([one.wrong for one in members], 0)
    mean, low, high = (100 * value for value in mean_interval(gain))
    share = disagreement([one.probabilities for one in members])
    return (
        f"Error of the mean less the members' mean error: {mean:+.2f} points, 95 % interval over images "
        f"{low:+.2f} to {high:+.2f}.\n"
        f"Two members say different classes of {100 * share:.1f} % of the images, mean over pairs."
    )
