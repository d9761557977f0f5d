"""PyTorch's `state_dict`s: how their arrays are named and laid out.

A kernel is [k, k, c_in, c_out] here and [c_out, c_in, k, k] there, a dense kernel is transposed, and one that
follows a flattened image takes its inputs in the order height, width, channel here and channel, height, width
there. A dense layer may also be a convolution there, over the whole image or of 1x1: flattened, its kernel
has the same numbers in the same order.
"""

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from cnnjax.interop.family import Family, shapes_of

LEAVES = {
    "kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"
}  # fmt: skip
TRACKED = "num_batches_tracked"
"""Counts training steps for a kind of running average that none of the networks uses."""
AXES = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}  # of our arrays, in PyTorch's order


class TorchArray(NamedTuple):
    """One of our arrays and its place in a `state_dict`.

    Attributes:
        path: ours.
        layer: theirs; the array is its `leaf`.
        our_shape: its shape here.
        image: height and width of the image that is flattened before a dense kernel.
    """

    path: tuple[str, ...]
    layer: str
    leaf: str
    our_shape: tuple[int, ...]
    image: tuple[int, int] | None

    @property
    def name(self) -> str:
        """Theirs."""
        return f"{self.layer}.{self.leaf}"

    @property
    def shape(self) -> tuple[int, ...]:
        """Theirs."""
        return tuple(self.our_shape[axis] for axis in AXES[len(self.our_shape)])

    def ours(self, value: np.ndarray) -> np.ndarray:
        """From their layout."""
        if self.image:
            value = value.reshape(len(value), -1, *self.image).transpose(2, 3, 1, 0)
            return value.reshape(-1, value.shape[-1])
        return value.transpose(np.argsort(AXES[value.ndim]))

    def theirs(self, value: np.ndarray) -> np.ndarray:
        """To their layout."""
        if self.image:
            value = value.reshape(*self.image, -1, value.shape[-1]).transpose(3, 2, 0, 1)
            return value.reshape(len(value), -1)
        return np.ascontiguousarray(value.transpose(AXES[value.ndim]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class StateDictFamily(Family):
    """Networks in PyTorch whose layers are named in the same way.

    Attributes:
        rename: PyTorch's name of a layer, given the network and the layer's path in it.
        classifier: our name of the last layer.
        flattened: dense layers that follow a flattened image, with that image's height and width.
        heads: our field for heads that only training uses; the names of their layers begin with "aux".
        convolved: pattern of PyTorch's names of kernels that are convolutions there and dense here: over the
            whole image, or 1x1 after it was averaged.
        options: fields of our network that differ from its defaults.
    """

    rename: Callable[[Any, str], str]
    bias: str = "fc.bias"
    classifier: str = "classifier"
    flattened: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    heads: str = ""
    convolved: str = "(?!)"
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def fits(self, weights: Mapping[str, Any]) -> bool:
        """Return whether the classifier is there, behind a wrapper's prefix or not."""
        return self.bias in unwrapped(weights, self.bias)

    def prepare(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Drop a wrapper's prefix, name DenseNet's layers as PyTorch does now, flatten what is dense here."""
        # Files from before PyTorch 0.4 have dots in the names of DenseNet's layers: `norm.1` for `norm1`.
        weights = {
            re.sub(r"\.(norm|conv)\.(?=\d)", r".\1", key): value
            for key, value in unwrapped(weights, self.bias).items()
        }
        dense = (key for key in weights if re.fullmatch(self.convolved, key))
        return {**weights, **{key: weights[key].reshape(len(weights[key]), -1) for key in dense}}

    def fields(self, weights: Mapping[str, Any], bias: str = "") -> dict[str, Any]:
        """The classes, and whether there are heads for training; `bias` names ours of the classifier."""
        heads = {self.heads: any("aux" in key.lower() for key in weights)} if self.heads else {}
        return {**self.options, **super().fields(weights, bias), **heads}

    def arrays(self, model: Any) -> list[TorchArray]:
        """The places of the network's arrays."""
        places = []
        for path, shape in shapes_of(model).items():
            layer = "/".join(path[1:-1])
            image = self.flattened.get(layer) if path[-1] == "kernel" else None
            theirs = self.rename(model, layer).replace("/", ".")
            places.append(TorchArray(path, theirs, LEAVES[path[-1]], shape, image))
        return places

    def ignored(self, arrays: Iterable[Any]) -> set[str]:
        """The steps that BatchNorm counts."""
        return {f"{array.layer}.{TRACKED}" for array in arrays if array.path[0] == "batch_stats"}


def unwrapped(weights: Mapping[str, Any], bias: str) -> dict[str, Any]:
    """Return the weights by their names in the network itself, given that of its classifier's bias.

    No network's layers all begin alike, so a prefix that all names share belongs to a wrapper, and so does a
    name without a dot, such as the number of steps that an average is over.
    """
    layers = zip(*(name.split(".")[:-1] for name in weights if "." in name), strict=False)
    shared = itertools.takewhile(lambda parts: len(set(parts)) == 1, layers)
    around = "".join(f"{parts[0]}." for parts in shared)
    if not around or around + bias not in weights:
        return dict(weights)
    return {name.removeprefix(around): value for name, value in weights.items() if name.startswith(around)}
