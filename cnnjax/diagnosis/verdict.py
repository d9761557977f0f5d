"""The verdict: a logistic regression of a few statistics, and how often it was right on other families.

Its numbers, in `verdict.json`, are those of `python -m experiments.trainability`, which tells how good it is
and where it fails.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping
from importlib import resources
from typing import Any, Literal

Word = Literal["trains", "unlikely", "unknown"]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a network will train.

    Attributes:
        word: "trains" if it probably reaches half of chance's loss in 300 steps, "unlikely" if it probably
            does not, "unknown" in between.
        probability: that it does.
        hits: of the study's networks with this verdict, by a model fitted to other families: how many were
            judged rightly, and of how many. For "unknown": how many trained.
        study: on what this was measured, in words.
    """

    word: Word
    probability: float
    hits: tuple[int, int]
    study: str

    def __str__(self) -> str:
        right, of = self.hits
        known = (
            f"this verdict was right for {right} of {of}"
            if self.word != "unknown"
            else f"{right} of {of} such networks trained"
        )
        return (
            f"{self.word} (probability {self.probability:.2f}). On families held out, {known} ({self.study})."
        )


@functools.cache
def model() -> dict[str, Any]:
    """The fitted model and its record."""
    return json.loads(resources.files("cnnjax.diagnosis").joinpath("verdict.json").read_text())


def judge(features: Mapping[str, float]) -> Verdict:
    """The verdict on a network with these features (`cnnjax.diagnosis.features`)."""
    fitted = model()
    probability = probability_of(features, fitted)
    low, high = fitted["bounds"]
    word: Word = "trains" if probability > high else "unlikely" if probability < low else "unknown"
    return Verdict(word, probability, tuple(fitted["hits"][word]), fitted["study"])


def probability_of(features: Mapping[str, float], fitted: Mapping[str, Any]) -> float:
    """That a network with these features trains, by a fitted model. An unknown feature counts as typical."""
    total = fitted["intercept"]
    for term in fitted["terms"]:
        value = features[term["feature"]]
        if value is None or math.isnan(value):
            value = term["typical"]
        value = value ** term["power"]
        total += term["weight"] * (value - term["mean"]) / term["std"]
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, total))))
