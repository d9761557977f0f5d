"""From a Config to a trained network, a metrics file and checkpoints."""

from cnnjax.training.loop import Result, evaluate, train

__all__ = ["Result", "evaluate", "train"]
