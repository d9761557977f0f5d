"""Train a Task, which consists of plain objects, and write metrics files and checkpoints.

Nothing here looks up a name.
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
