"""Which statistics tell, alone and together, on families that nothing was fitted to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from cnnjax.diagnosis.features import FEATURES
from cnnjax.diagnosis.verdict import probability_of
from cnnjax.files import write_json
from cnnjax.report.trainability import verdicts

from ..runner import Findings
from .settings import EXAMINED

Row = dict[str, Any]
TERMS = (
    ("update", 1),
    ("update", 2),
    ("learnt10", 1),
    ("learnt50", 1),
    ("steep", 1),
    ("linear", 1),
    ("alike", 1),
    ("jacobian", 1),
    ("jacobian", 2),
    ("spread", 1),
)
"""Features and powers of the model, chosen before it was fitted: nets fail by too much and by too little."""
BOUNDS = (0.3, 0.7)
"""Probabilities between these are no verdict."""
DIVERGED = 10.0
"""Stands for a training loss that is not finite, so that it ranks last."""


def conclude(found: Findings, out: Path, steps: int) -> None:
    """Write `verdict.json`, the tables and the figure."""
    rows = found.results
    trained = np.array([row["trained"] for row in rows])
    found.tables |= {_RANKED: ranked(rows, trained)}
    families = sorted({row["family"] for row in rows})
    if len(families) < 3 or len(set(trained.tolist())) < 2:
        return  # too few to hold any out
    held_out = np.zeros(len(rows))
    for family in families:
        inside = np.array([row["family"] == family for row in rows])
        fitted = fit([row for row in rows if row["family"] != family], trained[~inside])
        held_out[inside] = [
            probability_of(features_of(row), fitted) for row in rows if row["family"] == family
        ]
    for row, probability in zip(rows, held_out, strict=True):
        row["held_out_probability"] = float(probability)
    losses = np.array([_loss(row) for row in rows])
    record = {
        "auc": auc(trained, held_out),
        "rank_correlation": rank_correlation(-held_out, losses),
        "bounds": list(BOUNDS),
        "hits": hits(trained, held_out),
        "study": f"{len(rows)} networks of {len(families)} families, {steps} training steps",
    }
    write_json(out / "verdict.json", {**fit(rows, trained), **record})
    found.tables |= {
        _FAMILIES: by_family(rows, trained, held_out, families),
        _WRONG: wrong(rows, trained, held_out),
    }
    print(f"held out by family: AUC {record['auc']:.3f}, rank correlation {record['rank_correlation']:.3f}")
    caption = (
        "Probability to train of each network, by a model that was fitted to the other families, against the "
        f"loss after training: AUC {record['auc']:.2f}, rank correlation {record['rank_correlation']:.2f}. "
        "Dashed: the bounds of the verdict, and half of chance's loss."
    )
    points = {
        family: [
            (row["held_out_probability"], min(_loss(row), 5.0)) for row in rows if row["family"] == family
        ]
        for family in families
    }
    found.figures[caption] = verdicts(points, BOUNDS, float(np.log(10) / 2), out / "verdicts")


def fit(rows: Sequence[Row], trained: np.ndarray) -> dict[str, Any]:
    """A logistic regression of `TERMS`, standardised, with L2 regularisation (C = 1), as JSON."""
    terms, columns = [], []
    for name, power in TERMS:
        values = _column(rows, name, 0)
        typical = float(np.nanmedian(values))
        values = np.where(np.isnan(values), typical, values) ** power
        mean, std = float(values.mean()), float(values.std() or 1.0)
        terms.append({"feature": name, "power": power, "typical": typical, "mean": mean, "std": std})
        columns.append((values - mean) / std)
    model = LogisticRegression(C=1.0, max_iter=1000).fit(np.stack(columns, 1), trained)
    weights = model.coef_[0].tolist()
    terms = [{**term, "weight": weight} for term, weight in zip(terms, weights, strict=True)]
    return {"intercept": float(model.intercept_[0]), "terms": terms}


def hits(trained: np.ndarray, probability: np.ndarray) -> dict[str, list[int]]:
    """By verdict: how many were right, of how many; of "unknown" how many trained."""
    low, high = BOUNDS
    yes, no = probability > high, probability < low
    return {
        "trains": [int((yes & trained).sum()), int(yes.sum())],
        "unlikely": [int((no & ~trained).sum()), int(no.sum())],
        "unknown": [int((~yes & ~no & trained).sum()), int((~yes & ~no).sum())],
    }


def ranked(rows: Sequence[Row], trained: np.ndarray) -> tuple[list[str], list[list[str]]]:
    """Each statistic alone, at each step: rank correlation with the loss, AUC of the better direction."""
    losses = np.array([_loss(row) for row in rows])
    header = ["statistic", *(f"step {step}: rank, AUC" for step in EXAMINED)]
    table = []
    for name in FEATURES:
        cells = [name]
        for step in EXAMINED:
            values = _column(rows, name, step)
            known = ~np.isnan(values)
            if known.sum() < 3 or len(set(trained[known].tolist())) < 2 or np.ptp(values[known]) == 0:
                cells.append("")
                continue
            area = auc(trained[known], values[known])
            rank = rank_correlation(values[known], losses[known])
            cells.append(f"{rank:+.2f}, {max(area, 1 - area):.2f}")
        table.append(cells)
    return header, table


def by_family(
    rows: Sequence[Row], trained: np.ndarray, probability: np.ndarray, families: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """How the held-out verdicts did on each family."""
    header = ["family", "networks", "trained", "AUC", "trains", "unlikely", "unknown"]
    table = []
    for family in families:
        inside = np.array([row["family"] == family for row in rows])
        own, given = trained[inside], probability[inside]
        both = len(set(own.tolist())) == 2
        told = hits(own, given)
        table.append(
            [
                family, str(inside.sum()), str(own.sum()), f"{auc(own, given):.2f}" if both else "",
                *(f"{right} of {of}" for right, of in told.values()),
            ]
        )  # fmt: skip
    return header, table


def wrong(
    rows: Sequence[Row], trained: np.ndarray, probability: np.ndarray
) -> tuple[list[str], list[list[str]]]:
    """The networks about which the verdict is most wrong."""
    error = np.abs(trained - probability)
    worst = np.argsort(-error)[:6]
    header = ["family", "network", "gain", "rate", "probability", "loss"]
    return header, [
        [
            rows[i]["family"], rows[i]["model"], f"{rows[i]['gain']:g}", f"{rows[i]['rate']:g}",
            f"{probability[i]:.2f}", f"{_loss(rows[i]):.2f}",
        ]
        for i in worst
    ]  # fmt: skip


def features_of(row: Row) -> dict[str, float]:
    """At initialisation."""
    return {name: _number(value) for name, value in row["features"]["0"].items()}


def auc(trained: np.ndarray, values: np.ndarray) -> float:
    """Probability that a network that trained has the larger value."""
    return float(roc_auc_score(trained, values))


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's."""
    found: Any = spearmanr(a, b)
    return float(found.statistic)


def _column(rows: Sequence[Row], name: str, step: int) -> np.ndarray:
    return np.array([_number(row["features"][str(step)][name]) for row in rows])


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _loss(row: Row) -> float:
    return DIVERGED if row["train_loss"] is None else row["train_loss"]


_RANKED = (
    "Each statistic alone, at initialisation and after some steps: rank correlation with the training loss, "
    "and AUC for reaching half of chance's loss, in the better direction."
)
_FAMILIES = (
    "The verdict on each family, by a model that was fitted to the others: AUC where some trained and some "
    'did not; then right verdicts of those given; of "unknown", how many trained.'
)
_WRONG = "The networks about which the held-out model was most wrong."
