"""Callbacks on the host while a run trains: between steps, after evaluations and checkpoints."""

from collections.abc import Mapping, Sequence
from typing import Any

from cnnjax.errors import UserError


class Callback:
    """Override what you need. When a method returns True the run ends at the next evaluation.

    A callback must decide from its arguments alone, so that an interrupted run ends like an undisturbed one
    and several processes end together. Runs that train together count as one: metrics are means over them.
    """

    def on_start(self, step: int, lines: Sequence[Mapping[str, Any]]) -> bool | None:
        """A run starts, or continues from `step`; `lines` are those of metrics.jsonl so far."""

    def on_step(self, step: int, metrics: Mapping[str, float]) -> bool | None:
        """`step` steps were taken, the last with these metrics of its batch; called a few steps later."""

    def on_evaluate(self, step: int, metrics: Mapping[str, float]) -> bool | None:
        """The test set was evaluated after `step` steps."""

    def on_checkpoint(self, step: int) -> bool | None:
        """The checkpoint of `step` is being written."""


class EarlyStopping(Callback):
    """End the run when a test metric has not improved for `patience` evaluations.

    Args:
        metric: whose least value counts, such as "test_loss" or "test_error".
        patience: evaluations without improvement after which the run ends.
        least: an improvement must be larger than this, in the metric's unit.
    """

    def __init__(self, metric: str = "test_loss", patience: int = 5, least: float = 0.0):
        if patience < 1:
            raise UserError(f"patience={patience}: must be at least 1 evaluation")
        self.metric, self.patience, self.least = metric, patience, least
        self._best, self._waited = float("inf"), 0

    def on_start(self, step: int, lines: Sequence[Mapping[str, Any]]) -> bool:
        """Count the evaluations so far."""
        self._best, self._waited = float("inf"), 0
        return any([self._count(line[self.metric]) for line in lines if self.metric in line])

    def on_evaluate(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Whether to end."""
        if self.metric not in metrics:
            raise UserError(f"metric={self.metric!r}: an evaluation gives {', '.join(metrics)}")
        return self._count(metrics[self.metric])

    def _count(self, value: float) -> bool:
        if value < self._best - self.least:
            self._best, self._waited = value, 0
        else:
            self._waited += 1
        return self._waited >= self.patience


class StopOnPlateau(Callback):
    """End the run when the training loss, averaged over a window of steps, has stopped falling.

    Args:
        window: steps that are averaged; two windows in a row are compared.
        least: the relative fall from one window to the next below which the run ends.
    """

    def __init__(self, window: int = 1000, least: float = 0.01):
        if window < 1:
            raise UserError(f"window={window}: must be at least 1 step")
        self.window, self.least = window, least
        self._losses: list[float] = []

    def on_start(self, step: int, lines: Sequence[Mapping[str, Any]]) -> bool:
        """Take up the losses of the steps so far."""
        self._losses = []
        return any([self.on_step(line["step"], line) for line in lines if "train_loss" in line])

    def on_step(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Whether to end."""
        self._losses = [*self._losses, metrics["train_loss"]][-2 * self.window :]
        if len(self._losses) < 2 * self.window or step % self.window:
            return False
        before, after = (sum(part) for part in (self._losses[: self.window], self._losses[self.window :]))
        return after > (1 - self.least) * before
