"""cnnjax: why deep convolutional networks train, or not. Its public names; jax is imported on first use."""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from cnnjax import data as data
    from cnnjax import interop as interop
    from cnnjax import models as models
    from cnnjax import probes as probes
    from cnnjax import sinks as sinks
    from cnnjax.config import CheckpointPolicy as CheckpointPolicy
    from cnnjax.config import Config as Config
    from cnnjax.counting import summary as summary
    from cnnjax.counting.plan import plan as plan
    from cnnjax.diagnosis import Diagnosis as Diagnosis
    from cnnjax.diagnosis import diagnose as diagnose
    from cnnjax.mesh import make_mesh as make_mesh
    from cnnjax.models import build as build
    from cnnjax.models import list_models as list_models
    from cnnjax.models import register as register
    from cnnjax.papers import recipe as recipe
    from cnnjax.report.over_seeds import compare_runs as compare_runs
    from cnnjax.running import evaluate as evaluate
    from cnnjax.running import train as train
    from cnnjax.running import train_many as train_many
    from cnnjax.runs import open_run as open_run
    from cnnjax.training import Callback as Callback
    from cnnjax.training import EarlyStopping as EarlyStopping
    from cnnjax.training import StopOnPlateau as StopOnPlateau

_HOME = {
    "Callback": "cnnjax.training",
    "CheckpointPolicy": "cnnjax.config",
    "Config": "cnnjax.config",
    "Diagnosis": "cnnjax.diagnosis",
    "EarlyStopping": "cnnjax.training",
    "StopOnPlateau": "cnnjax.training",
    "build": "cnnjax.models",
    "compare_runs": "cnnjax.report.over_seeds",
    "data": "cnnjax",
    "diagnose": "cnnjax.diagnosis",
    "evaluate": "cnnjax.running",
    "interop": "cnnjax",
    "list_models": "cnnjax.models",
    "make_mesh": "cnnjax.mesh",
    "models": "cnnjax",
    "open_run": "cnnjax.runs",
    "plan": "cnnjax.counting.plan",
    "probes": "cnnjax",
    "recipe": "cnnjax.papers",
    "register": "cnnjax.models",
    "sinks": "cnnjax",
    "summary": "cnnjax.counting",
    "train": "cnnjax.running",
    "train_many": "cnnjax.running",
}

__all__ = [
    "Callback",
    "CheckpointPolicy",
    "Config",
    "Diagnosis",
    "EarlyStopping",
    "StopOnPlateau",
    "build",
    "compare_runs",
    "data",
    "diagnose",
    "evaluate",
    "interop",
    "list_models",
    "make_mesh",
    "models",
    "open_run",
    "plan",
    "probes",
    "recipe",
    "register",
    "sinks",
    "summary",
    "train",
    "train_many",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.metadata.version("cnnjax")
    if name not in _HOME:
        raise AttributeError(f"module 'cnnjax' has no attribute {name!r}")
    if _HOME[name] == "cnnjax":  # a room of its own
        return importlib.import_module(f"cnnjax.{name}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), "__version__", *_HOME])
