"""cnnjax: why deep convolutional networks train, or do not. The public face; jax is imported on first use."""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from cnnjax import interop as interop
    from cnnjax import models as models
    from cnnjax import probes as probes
    from cnnjax.config import Config as Config
    from cnnjax.config import Keep as Keep
    from cnnjax.counting import summary as summary
    from cnnjax.mesh import make_mesh as make_mesh
    from cnnjax.models import build as build
    from cnnjax.models import list_models as list_models
    from cnnjax.training import evaluate as evaluate
    from cnnjax.training import train as train
    from cnnjax.training import train_many as train_many

_HOME = {
    "Config": "cnnjax.config",
    "Keep": "cnnjax.config",
    "build": "cnnjax.models",
    "interop": "cnnjax",
    "list_models": "cnnjax.models",
    "make_mesh": "cnnjax.mesh",
    "models": "cnnjax",
    "probes": "cnnjax",
    "summary": "cnnjax.counting",
    "evaluate": "cnnjax.training",
    "train": "cnnjax.training",
    "train_many": "cnnjax.training",
}

__all__ = [
    "Config",
    "Keep",
    "build",
    "evaluate",
    "interop",
    "list_models",
    "make_mesh",
    "models",
    "probes",
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
