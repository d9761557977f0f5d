"""From a Task, which is plain objects, to trained networks, metrics files and checkpoints.

Nothing in this room looks a name up.
"""

from cnnjax.training.callbacks import Callback, EarlyStopping, StopOnPlateau
from cnnjax.training.session import Result, Session, program_key, train_runs
from cnnjax.training.task import Task

__all__ = [
    "Callback",
    "EarlyStopping",
    "Result",
    "Session",
    "StopOnPlateau",
    "Task",
    "program_key",
    "train_runs",
]
