"""Where a run's numbers go besides its own record: TensorBoard, Weights & Biases, MLflow, trackio, yours."""

from cnnjax.sinks.backend import Backend
from cnnjax.sinks.group import Sinks
from cnnjax.sinks.mlflow import MLflow
from cnnjax.sinks.names import SINKS, make_sinks
from cnnjax.sinks.rows import RowSink
from cnnjax.sinks.sink import Sink
from cnnjax.sinks.tensorboard import TensorBoard
from cnnjax.sinks.trackio import Trackio
from cnnjax.sinks.wandb import WandB

__all__ = [
    "SINKS",
    "Backend",
    "MLflow",
    "RowSink",
    "Sink",
    "Sinks",
    "TensorBoard",
    "Trackio",
    "WandB",
    "make_sinks",
]
