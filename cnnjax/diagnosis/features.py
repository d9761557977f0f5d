"""What the verdict goes by: a few numbers of an examination, comparable between all networks."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnjax.diagnosis.examine import Examination


def features(found: Examination) -> dict[str, float]:
    """The numbers by name; NaN where one could not be measured."""
    return {name: float(of(found)) for name, (_, of) in FEATURES.items()}


def _log(x: Any) -> float:
    """log10 within +-12, so that 0 and infinity are far away and not beyond all others."""
    if math.isnan(x):
        return math.nan
    return 12.0 if x >= 1e12 else -12.0 if x <= 1e-12 else math.log10(x)


def _update(found: Examination) -> float:
    return _log(_median(found.first.update_ratio))


def _spread(found: Examination) -> float:
    relative = found.first.relative_gradient
    logs = [_log(value) for value in relative if value > 0 and np.isfinite(value)]
    return max(logs) - min(logs) if logs else 12.0


def _backward(found: Examination) -> float:
    """Of the gradient by a layer's output, per element, from the last layer to the first."""
    rms = found.first.gradient_rms
    return _log(rms[0] / rms[-1]) if rms[-1] > 0 else math.nan


def _forward(found: Examination) -> float:
    rms = found.first.layers.rms
    return _log(rms[-1] / rms[0]) if rms[0] > 0 else math.nan


def _alike(found: Examination) -> float:
    """How alike inputs are to the last layers: -log10 of 1 less the cosine before the classifier."""
    cosine = found.first.cosine[-2:][0]
    return -_log(1 - cosine)


def _steep(found: Examination) -> float:
    return _log(found.sharpness * found.first.effective_rate / 2)


def _alignment(found: Examination) -> float:
    return math.nan if found.samples is None else _log(found.samples.by_weights.alignment[-1])


def _shattered(found: Examination) -> float:
    return math.nan if found.samples is None else float(found.samples.by_inputs.mean_cosine)


def _jacobian(found: Examination) -> float:
    """The largest singular value of the Jacobian times the input's size: what a change of the input does."""
    values = found.singular_values
    return math.nan if values is None else _log(np.median(values[:, 0]) * found.first.input_rms)


def _learnt(steps: int) -> Callable[[Examination], float]:
    def of(found: Examination) -> float:
        loss = found.losses[min(steps, len(found.losses) - 1)]
        return min(2.0, loss / found.chance) if np.isfinite(loss) else 2.0

    return of


def _linear(found: Examination) -> float:
    """How much the loss fell in the first step, over what the gradient promised; within +-1."""
    if found.first.along == 0:
        return math.nan
    fall = (found.losses[0] - found.losses[1]) / found.first.along
    return max(-1.0, min(1.0, fall)) if np.isfinite(fall) else -1.0


def _first_loss(found: Examination) -> float:
    return _log(found.losses[0] / found.chance)


def _median(values: Any) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else math.nan


FEATURES: dict[str, tuple[str, Callable[[Examination], float]]] = {
    "update": ("log10 of the first update over the weight, median over layers", _update),
    "spread": ("decades between the least and the largest relative weight gradient", _spread),
    "backward": ("log10 of the gradient by the first layer's output over the last's", _backward),
    "forward": ("log10 of the last layer's output over the first's", _forward),
    "alike": ("-log10(1 - cosine) of two inputs before the classifier", _alike),
    "steep": ("log10 of the sharpness times the rate over 2", _steep),
    "alignment": ("log10 of n |mean gradient|^2 over the mean square", _alignment),
    "shattered": ("mean cosine of the gradients by two inputs", _shattered),
    "jacobian": ("log10 of the Jacobian's largest singular value times the input", _jacobian),
    "linear": ("fall of the loss in the first step over the gradient's promise", _linear),
    "first_loss": ("log10 of the first loss over chance's", _first_loss),
    "learnt10": ("loss of the batch after 10 steps on it, over chance's", _learnt(10)),
    "learnt50": ("loss of the batch after 50 steps on it, over chance's", _learnt(50)),
}
"""What each is, and how it follows."""
