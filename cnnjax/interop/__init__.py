"""Weights from and for other libraries."""

from cnnjax.interop.files import read_weights
from cnnjax.interop.torchvision import from_torchvision, to_torchvision

__all__ = ["from_torchvision", "read_weights", "to_torchvision"]
