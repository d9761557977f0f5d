"""What a classifier says of each test example, and what that is worth."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from cnnjax.errors import UserError
from cnnjax.evaluation.scores import (
    brier_score,
    calibration_error,
    confusion_matrix,
    negative_log_likelihood,
    temper,
    top_k_error,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """Probabilities [example, class] and labels [example] of a test set, in its order.

    Attributes:
        class_names: where the data knows them; else numbers.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def __repr__(self) -> str:
        examples, classes = self.probabilities.shape
        values = ", ".join(f"{name} {value:.4g}" for name, value in self.scores.items())
        return f"Predictions of {examples:,} examples, {classes} classes: {values}"

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class [example]."""
        return self.probabilities.argmax(1)

    @property
    def wrong(self) -> np.ndarray:
        """Whether it is not the label, [example]; `compare_paired` takes two of these."""
        return self.predicted != self.labels

    @functools.cached_property
    def scores(self) -> dict[str, float]:
        """Error, top-5 error, loss (negative log-likelihood in nats), Brier score and calibration error."""
        both = self.probabilities, self.labels
        return {
            "error": float(self.wrong.mean()),
            "top5_error": top_k_error(*both, 5),
            "loss": negative_log_likelihood(*both),
            "brier": brier_score(*both),
            "calibration_error": calibration_error(*both),
        }

    @property
    def confusion(self) -> np.ndarray:
        """Counts [label, predicted class]."""
        return confusion_matrix(self.predicted, self.labels, self.probabilities.shape[1])

    def tempered(self, temperature: float) -> "Predictions":
        """The same at another temperature, such as `fit_temperature` finds on held-out examples."""
        return dataclasses.replace(self, probabilities=temper(self.probabilities, temperature))


def average(members: Sequence[Predictions]) -> Predictions:
    """The ensemble: the mean of the members' probabilities.

    Raises:
        UserError: they are none, or of different examples.
    """
    if not members:
        raise UserError("an ensemble needs a member")
    first = members[0]
    for number, other in enumerate(members):
        if other.probabilities.shape != first.probabilities.shape or (other.labels != first.labels).any():
            raise UserError(f"members 0 and {number} were tested on different examples or classes")
    mean = np.mean([member.probabilities for member in members], 0)
    return dataclasses.replace(first, probabilities=mean)
