"""From a Config to a trained network, a metrics file and checkpoints."""

from cnnjax.training.loop import Result, evaluate, train, train_many
from cnnjax.training.program import shared
from cnnjax.training.step import Probe

__all__ = ["Probe", "Result", "evaluate", "shared", "train", "train_many"]
