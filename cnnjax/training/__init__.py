"""From a Config to a trained network, a metrics file and checkpoints."""

from cnnjax.training.loop import Result, evaluate, train
from cnnjax.training.step import Probe

__all__ = ["Probe", "Result", "evaluate", "train"]
