"""Weights of Caffe's model zoo: AlexNet, CaffeNet and GoogLeNet.

Kernels are laid out as PyTorch's, and a dense layer takes a flattened image in the order channel, height,
width, so these are families of the same kind. They take blue, green, red: the channels of the first kernel
are turned round, so that the nets here take red, green, blue.

`bvlc_alexnet` differs from the paper's net in its response normalisation, which crosses the two towers and
has alpha times the mean of squares and k = 1; `bvlc_reference_caffenet` also normalises after pooling. Their
arrays have the same names and shapes, so the order of the layers in the file tells which net it is, whatever
name is given. `bvlc_googlenet` is `googlenet`.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from cnnjax.interop.preprocessing import subtract_mean
from cnnjax.interop.pytorch import StateDictFamily


def _alexnet(model: Any, path: str) -> str:
    return path


CONVOLUTIONS = {"conv1": "conv1/7x7_s2", "conv2": "conv2/3x3_reduce", "conv3": "conv2/3x3"}
BRANCHES = {
    "branch1/conv1": "1x1", "branch2/conv1": "3x3_reduce", "branch2/conv2": "3x3",
    "branch3/conv1": "5x5_reduce", "branch3/conv2": "5x5", "branch4/conv1": "pool_proj",
}  # fmt: skip
HEADS = {"conv1": "conv", "fc1": "fc", "fc2": "classifier"}


def _googlenet(model: Any, path: str) -> str:
    if path == "classifier":
        return "loss3/classifier"
    if path in CONVOLUTIONS:
        return CONVOLUTIONS[path]
    module, _, layer = path.partition("/")
    if match := re.fullmatch(r"auxiliary(\d)", module):
        return f"loss{match[1]}/{HEADS[layer]}"
    return f"{module.replace('inception', 'inception_')}/{BRANCHES[layer]}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaffeFamily(StateDictFamily):
    """Networks of Caffe whose layers are named in the same way.

    Attributes:
        first: Caffe's name of the first kernel.
        order: two layers that come in this order in the file.
    """

    first: str
    order: tuple[str, str]

    def fits(self, weights: Mapping[str, Any]) -> bool:
        """Return whether the classifier is there, and the layers are in this order."""
        return super().fits(weights) and [key for key in weights if key in self.order] == [*self.order]

    def prepare(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Leave out layers without arrays, and turn the first kernel's colours round."""
        arrays = {key: value for key, value in weights.items() if value.size}
        if self.first in arrays:
            arrays[self.first] = arrays[self.first][:, ::-1]
        return arrays

    def fields(self, weights: Mapping[str, Any], bias: str = "") -> dict[str, Any]:
        """The classes, what differs, and whether there are heads for training."""
        heads = {self.heads: "loss1.classifier.bias" in weights} if self.heads else {}
        return {**super().fields(weights, bias), **heads}


ALEXNET: dict[str, Any] = {
    "names": "alexnet|caffenet",
    "ours": "alexnet",
    "rename": _alexnet,
    "classifier": "fc8",
    "bias": "fc8.bias",
    "flattened": {"fc6": (6, 6)},
    "first": "conv1.weight",
    "preprocessing": subtract_mean(122.679, 116.669, 104.007, 227),  # the mean over the zoo's mean image
}
RESPONSE = {"lrn_alpha_per": "mean", "lrn_k": 1.0, "lrn_across": "all"}
FAMILIES = (
    CaffeFamily(**ALEXNET, options=RESPONSE, order=("norm1", "pool1")),
    CaffeFamily(**ALEXNET, options={**RESPONSE, "lrn_after": "pooling"}, order=("pool1", "norm1")),
    CaffeFamily(
        names="googlenet",
        rename=_googlenet,
        bias="loss3.classifier.bias",
        flattened={"auxiliary1/fc1": (4, 4), "auxiliary2/fc1": (4, 4)},
        heads="aux_heads",
        first="conv1.7x7_s2.weight",
        order=("pool1.3x3_s2", "pool1.norm1"),
        preprocessing=subtract_mean(123.0, 117.0, 104.0),
    ),
)
