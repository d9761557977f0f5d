"""The flags of every command that trains: how runs are recorded and divided over devices."""

import dataclasses
from typing import Annotated

import tyro

from cnnjax.config import KEEP, CheckpointPolicy, Shard


@dataclasses.dataclass(frozen=True)
class Running:
    """How runs are recorded and divided over devices. Changes no numbers."""

    sinks: Annotated[tuple[str, ...], tyro.conf.arg(name="log", metavar="NAME [NAME ...]")] = ()
    """Where to log besides metrics.jsonl: tensorboard, wandb, mlflow, trackio, or path/sink.py:Mine."""
    keep: CheckpointPolicy = KEEP
    resume: int | None = None
    """Go back to the checkpoint of this step, once; everything later is moved to RUN/after_STEP."""
    mesh: str | None = None
    """Devices along each axis, such as data=4,model=2; by default all are on the data axis."""
    shard: Shard = "replicated"
    """How weights and the optimizer's state are divided over the devices."""


RUNNING = Running()
