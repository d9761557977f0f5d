"""Weights of other libraries in and out."""

from cnnjax.interop.torchvision import from_torchvision, to_torchvision

__all__ = ["from_torchvision", "to_torchvision"]
