"""Weights from and for other libraries."""

from cnnjax.interop.files import read_weights
from cnnjax.interop.load import Loaded, load_weights
from cnnjax.interop.preprocessing import Preprocessing, preprocess
from cnnjax.interop.torchvision import from_torchvision, to_torchvision

__all__ = [
    "Loaded",
    "Preprocessing",
    "from_torchvision",
    "load_weights",
    "preprocess",
    "read_weights",
    "to_torchvision",
]
