"""The networks: one paper, one file. They are reached by name, through `build`."""

from cnnjax.models import resnet as _resnet  # noqa: F401  (registers its names)
from cnnjax.models.registry import build, list_models

__all__ = ["build", "list_models"]
