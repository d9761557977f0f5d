"""What theory expects of a network, where its conditions hold, beside what was measured."""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from cnnjax.diagnosis.examine import Examination
from cnnjax.probes import theory


@dataclasses.dataclass(frozen=True)
class Expectation:
    """One number.

    Attributes:
        what: it is.
        expected: by theory.
        measured: in this network.
        conditions: under which theory says so; they were checked.
    """

    what: str
    expected: float
    measured: float
    conditions: str

    def __str__(self) -> str:
        return f"{self.what}: {self.measured:.3g}, expected {self.expected:.3g} ({self.conditions})"


def expectations(found: Examination) -> list[Expectation]:
    """Of the layers between the first and the last, if they are of one kind."""
    return list(_growth(found))


def _growth(found: Examination) -> Iterator[Expectation]:
    first = found.first
    inner = slice(1, len(first.layers.layers) - 1)
    kinds = set(first.layers.activations[inner])
    normalized = first.normalized[inner]
    if len(normalized) < 4 or found.has_shortcuts or len(kinds) != 1 or len(set(found.widths[inner])) > 1:
        return
    (activation,) = kinds
    norms = first.layers.activation_gradient_norm[inner]
    if np.any(~(norms > 0)):
        return
    measured = float((norms[0] / norms[-1]) ** (1 / (len(norms) - 1)))
    what = "factor of the gradient's norm for each layer on its way back"
    if normalized.all() and activation == "relu":
        yield Expectation(
            what, theory.BATCH_NORM_GROWTH, measured, "BatchNorm and ReLU, no shortcuts, wide layers at first"
        )
    elif not normalized.any() and activation in theory.ACTIVATIONS:
        gain = float(np.sqrt(np.mean(np.square(first.gain[inner]))))
        spread = float(np.std(np.log(first.gain[inner])))
        if spread < 0.2:
            point = theory.mean_field(activation, gain**2)
            yield Expectation(
                what, point.growth, measured,
                f"mean field: {activation}, weights of variance {gain**2:.3g} / fan-in, no biases, no "
                "normalisation, no shortcuts, wide layers",
            )  # fmt: skip
            if activation == "relu":
                pairs = first.cosine[inner]
                cosine = float(pairs[0])
                for _ in range(len(pairs) - 1):
                    cosine = theory.relu_cosine(cosine) if math.isfinite(cosine) else cosine
                yield Expectation(
                    "cosine of two inputs at the last hidden layer", cosine, float(pairs[-1]),
                    "the arc-cosine recursion from the first hidden layer on; the same conditions",
                )  # fmt: skip
