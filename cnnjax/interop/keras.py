"""Weights of Keras Applications: ResNet, VGG and DenseNet.

The nets are the papers', with a bottleneck's stride in its first 1x1, and arrays have our layout. They differ
from ours in this:

- BatchNorm's epsilon in ResNets and DenseNets is 1.001e-5: `bn_epsilon`.
- ResNet's convolutions have biases before BatchNorm. They are subtracted from BatchNorm's running means,
  which gives the same function; in training a bias there has no effect.
- ResNet and VGG take blue, green, red, as Caffe does: here the channels of the first kernel are turned round
  instead, so that the nets take red, green, blue.
- Padding is explicit (`ZeroPadding2D`), as here. Zeros around the first pooling are what ReLU gives at least,
  so they are as good as its padding of -inf.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cnnjax.interop.family import Family, as_numpy, shapes_of
from cnnjax.interop.preprocessing import IMAGENET, subtract_mean

NUMBERS = {"kernel": 0, "scale": 0, "bias": 1, "mean": 2, "var": 3}
"""An array's number in its layer."""
CLASSIFIERS = "probs", "fc1000"
"""What files from before Keras 3 call `predictions`."""


def _resnet(path: str) -> str:
    if path == "classifier":
        return "predictions"
    if match := re.fullmatch(r"(conv|bn)1", path):
        return f"conv1_{match[1]}"
    path = path.replace("shortcut/conv", "conv0").replace("shortcut/bn", "bn0")
    match = re.fullmatch(r"stage(\d+)_block(\d+)/(conv|bn)(\d)", path)
    assert match
    return f"conv{int(match[1]) + 1}_block{int(match[2])}_{match[4]}_{match[3]}"


def _densenet(path: str) -> str:
    if path in ("conv1", "bn1", "bn", "classifier"):
        return {"conv1": "conv1_conv", "bn1": "conv1_bn", "bn": "bn", "classifier": "predictions"}[path]
    if match := re.fullmatch(r"transition(\d)/(conv|bn)", path):
        return f"pool{int(match[1]) + 1}_{match[2]}"
    match = re.fullmatch(r"block(\d)_layer(\d+)/(conv|bn)(\d)", path)
    assert match
    number = int(match[4]) - (match[3] == "bn")  # a layer begins with BatchNorm, number 0 there
    return f"conv{int(match[1]) + 1}_block{int(match[2])}_{number}_{match[3]}"


def _vgg(path: str) -> str:
    return "predictions" if path == "fc3" else path.replace("stage", "block")


class KerasArray(NamedTuple):
    """One of our arrays and its place in Keras's network; `reverse` turns its input channels round."""

    path: tuple[str, ...]
    name: str
    shape: tuple[int, ...]
    reverse: bool

    def ours(self, value: np.ndarray) -> np.ndarray:
        """From Keras's layout."""
        return value[:, :, ::-1] if self.reverse else value


@dataclasses.dataclass(frozen=True, kw_only=True)
class KerasFamily(Family):
    """Networks of Keras Applications whose layers are named in the same way.

    Attributes:
        rename: Keras's name of a layer, given ours.
        options: fields of our network that differ from its defaults.
        bgr: our first layer, if Keras's takes blue, green, red.
    """

    rename: Callable[[str], str]
    bias: str = "predictions/1"
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    bgr: str = ""

    def fits(self, weights: Mapping[str, Any]) -> bool:
        """Return whether the classifier has one of Keras's names in the weights."""
        return any(f"{layer}/1" in weights for layer in (*CLASSIFIERS, "predictions"))

    def prepare(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Subtract biases before BatchNorm from its running means; name the classifier as Keras 3 does."""
        older = "|".join(CLASSIFIERS)
        weights = {re.sub(f"^({older})/", "predictions/", key): value for key, value in weights.items()}
        for layer in [key.removesuffix("_conv/1") for key in weights if key.endswith("_conv/1")]:
            if (mean := f"{layer}_bn/2") in weights:
                weights[mean] = as_numpy(weights[mean]) - as_numpy(weights.pop(f"{layer}_conv/1"))
        return weights

    def fields(self, weights: Mapping[str, Any], bias: str = "") -> dict[str, Any]:
        """The classes, and what differs."""
        return {**self.options, **super().fields(weights, bias)}

    def arrays(self, model: Any) -> Sequence[KerasArray]:
        """The places of the network's arrays."""
        return [
            KerasArray(
                path,
                f"{self.rename('/'.join(path[1:-1]))}/{NUMBERS[path[-1]]}",
                shape,
                path[1:] == (self.bgr, "kernel"),
            )
            for path, shape in shapes_of(model).items()
        ]


CAFFE = subtract_mean(123.68, 116.779, 103.939)
EPSILON = {"bn_epsilon": 1.001e-5}
FAMILIES = (
    KerasFamily(
        names="resnet(50|101|152)", rename=_resnet, options=EPSILON, bgr="conv1", preprocessing=CAFFE
    ),
    KerasFamily(names="vgg1[69]", rename=_vgg, bgr="stage1_conv1", preprocessing=CAFFE),
    KerasFamily(names="densenet(121|169|201)", rename=_densenet, options=EPSILON, preprocessing=IMAGENET),
)
