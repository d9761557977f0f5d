"""Torchvision's weights into our networks, and ours into torchvision's.

Our networks and torchvision's have the same layers under other names, so each family needs one function from
our name of a layer to theirs. The arrays differ in layout: a kernel is [k, k, c_in, c_out] here and
[c_out, c_in, k, k] there, a dense kernel is transposed, and one that follows a flattened image takes its
inputs in the order height, width, channel here and channel, height, width there.

`num_batches_tracked` counts training steps for a kind of running average that none of the networks uses. It
is ignored on the way in and written as 0 on the way out, as in a new torchvision network.
"""

import dataclasses
import itertools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from cnnjax.errors import UserError
from cnnjax.interop.files import read_weights, weights_in
from cnnjax.models import build, unstack

LEAVES = {
    "kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"
}  # fmt: skip
TRACKED = "num_batches_tracked"
_LISTED = 10  # names in a message


AXES = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}  # of our arrays, in torchvision's order


@dataclasses.dataclass(frozen=True)
class Family:
    """Networks of torchvision whose layers are named in the same way.

    Attributes:
        names: pattern that matches torchvision's names of the networks.
        ours: our name, with theirs in place of `{}`.
        rename: torchvision's name of a layer, given the network and the layer's path in it.
        classifier: our and their name of the last layer.
        flattened: dense layers that follow a flattened image, with that image's height and width.
        heads: our field for heads that only training uses; the names of their layers begin with "aux".
    """

    names: str
    ours: str
    rename: Callable[[Any, str], str]
    classifier: tuple[str, str] = ("classifier", "fc")
    flattened: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    heads: str = ""


def _resnet(model: Any, path: str) -> str:
    path = re.sub(r"stage(\d+)_block(\d+)/", lambda m: f"layer{m[1]}.{int(m[2]) - 1}.", path)
    path = path.replace("shortcut/conv", "downsample.0").replace("shortcut/bn", "downsample.1")
    return "fc" if path == "classifier" else path


def _densenet(model: Any, path: str) -> str:
    ends = {"conv1": "conv0", "bn1": "norm0", "bn": f"norm{len(model.block_sizes) + 1}"}
    if path == "classifier" or path in ends:
        return f"features.{ends[path]}" if path in ends else path
    path = re.sub(r"block(\d+)_layer(\d+)/", lambda m: f"denseblock{m[1]}.denselayer{int(m[2])}.", path)
    return f"features.{path.replace('/', '.').replace('bn', 'norm')}"


ALEXNET = {
    "conv1": "features.0", "conv2": "features.3", "conv3": "features.6", "conv4": "features.8",
    "conv5": "features.10", "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6",
}  # fmt: skip
VGG_HEAD = {"fc1": "classifier.0", "fc2": "classifier.3", "fc3": "classifier.6"}
INCEPTION_STEM = ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3")
INCEPTION_BRANCHES = {
    "5": ("1x1", "5x5", "3x3dbl", "_pool"),
    "6a": ("3x3", "3x3dbl"),
    "6": ("1x1", "7x7", "7x7dbl", "_pool"),
    "7a": ("3x3", "7x7x3"),
    "7": ("1x1", "3x3", "3x3dbl", "_pool"),
}
"""Names of a module's branches, by the module's name or, for most modules, its first digit."""


def _alexnet(model: Any, path: str) -> str:
    return ALEXNET[path]


def _vgg(model: Any, path: str) -> str:
    if path in VGG_HEAD:
        return VGG_HEAD[path]
    match = re.fullmatch(r"stage(\d+)_(conv|bn)(\d+)", path)
    assert match
    stage, index, is_norm = int(match[1]) - 1, int(match[3]) - 1, match[2] == "bn"
    before = sum(len(sizes) for sizes in model.stages[:stage]) + index
    layers = 3 if model.norm == "batch" else 2  # convolution, normalisation, ReLU
    return f"features.{layers * before + stage + is_norm}"  # a pooling ends each stage


def _googlenet(model: Any, path: str) -> str:
    if path == "classifier":
        return "fc"
    path = re.sub(r"^auxiliary(\d)/(conv|bn)1", r"aux\1.conv.\2", path).replace("auxiliary", "aux")
    path = re.sub(r"^(conv|bn)(\d)", r"conv\2.\1", path)
    path = re.sub(r"(branch[23])/(conv|bn)(\d)", lambda m: f"{m[1]}.{int(m[3]) - 1}.{m[2]}", path)
    return re.sub(r"branch(\d)/(conv|bn)1", lambda m: f"branch{m[1]}{'.1' * (m[1] == '4')}.{m[2]}", path)


def _inception(model: Any, path: str) -> str:
    if path in ("classifier", "auxiliary/fc"):
        return {"classifier": "fc", "auxiliary/fc": "AuxLogits.fc"}[path]
    *modules, layer = path.split("/")
    match = re.fullmatch(r"(conv|bn)(\d\w?)", layer)
    assert match
    kind, index = match.groups()
    if not modules:
        return f"Conv2d_{INCEPTION_STEM[int(index) - 1]}.{kind}"
    if modules == ["auxiliary"]:
        return f"AuxLogits.conv{int(index) - 1}.{kind}"
    module, number = modules[0].removeprefix("inception"), int(modules[1].removeprefix("branch"))
    branch = INCEPTION_BRANCHES.get(module, INCEPTION_BRANCHES[module[0]])[number - 1]
    alone = branch in ("1x1", "_pool") or (module, number) == ("6a", 1)
    return f"Mixed_{module}.branch{branch}{'' if alone else '_' + index}.{kind}"


FAMILIES = (
    Family("alexnet", "{}_torchvision", _alexnet, ("fc8", "classifier.6"), {"fc6": (6, 6)}),
    Family(r"vgg(11|13|16|19)(_bn)?", "{}", _vgg, ("fc3", "classifier.6"), {"fc1": (7, 7)}),
    Family(
        "googlenet",
        "{}_torchvision",
        _googlenet,
        flattened={"auxiliary1/fc1": (4, 4), "auxiliary2/fc1": (4, 4)},
        heads="aux_heads",
    ),
    Family("inception_v3", "{}_torchvision", _inception, heads="aux_heads"),
    Family(r"resnet\d+", "{}_torchvision", _resnet),
    Family(r"(resnext|wide_resnet)\d+_\w+", "{}", _resnet),
    Family(r"densenet\d+", "{}", _densenet, ("classifier", "classifier")),
)


class _Array(NamedTuple):
    """One of our arrays and its place in torchvision's network."""

    path: tuple[str, ...]
    layer: str
    leaf: str
    our_shape: tuple[int, ...]
    image: tuple[int, int] | None

    @property
    def name(self) -> str:
        """Torchvision's."""
        return f"{self.layer}.{self.leaf}"

    @property
    def shape(self) -> tuple[int, ...]:
        """Torchvision's."""
        return tuple(self.our_shape[axis] for axis in AXES[len(self.our_shape)])

    def ours(self, value: np.ndarray) -> np.ndarray:
        """From torchvision's layout."""
        if self.image:
            value = value.reshape(len(value), -1, *self.image).transpose(2, 3, 1, 0)
            return value.reshape(-1, value.shape[-1])
        return value.transpose(np.argsort(AXES[value.ndim]))

    def theirs(self, value: np.ndarray) -> np.ndarray:
        """To torchvision's layout."""
        if self.image:
            value = value.reshape(*self.image, -1, value.shape[-1]).transpose(3, 2, 0, 1)
            return value.reshape(len(value), -1)
        return np.ascontiguousarray(value.transpose(AXES[value.ndim]))


def from_torchvision(
    name: str, state_dict: Mapping[str, Any] | str | Path
) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network that torchvision's weights fit, and these weights as its variables, float32.

    Args:
        name: torchvision's name, such as "resnet50".
        state_dict: arrays or tensors by name, a file of them (`.pth`, `.safetensors`), or a training
            checkpoint with them in one of its entries. A prefix that all names share because something wraps
            the network (`module.` of DataParallel, `_orig_mod.` of a compiled one) is dropped. The weights
            decide the number of classes, and whether there are heads for training.

    Raises:
        UserError: there is no such network, or a name is missing, unexpected, or has another shape.
    """
    family, name = _find(name)
    bias = f"{family.classifier[1]}.bias"
    given = read_weights(state_dict) if isinstance(state_dict, str | Path) else weights_in(state_dict)
    weights = _unwrapped(given, bias)
    # Files from before PyTorch 0.4 have dots in the names of DenseNet's layers: `norm.1` for `norm1`.
    weights = {re.sub(r"\.(norm|conv)\.(?=\d)", r".\1", key): value for key, value in weights.items()}
    model = _model(family, name, weights, bias)
    arrays = _arrays(family, model)
    tracked = {f"{array.layer}.{TRACKED}" for array in arrays if array.path[0] == "batch_stats"}
    shapes = {key: tuple(value.shape) for key, value in weights.items() if key not in tracked}
    _check(name, shapes, {array.name: array.shape for array in arrays})
    values = {array.path: array.ours(_numpy(weights[array.name])) for array in arrays}
    return model, unflatten_dict({path: jnp.asarray(value) for path, value in values.items()})


def to_torchvision(name: str, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return our variables as torchvision's `state_dict` of the network `name`, numpy arrays by name.

    Load it by `torch_model.load_state_dict({key: torch.from_numpy(value) for key, value in result.items()})`.

    Raises:
        UserError: there is no such network, or an array is missing, unexpected, or has another shape.
    """
    family, name = _find(name)
    kinds = {kind: unstack(tree) for kind, tree in variables.items() if kind in ("params", "batch_stats")}
    weights: dict[str, Any] = dict(flatten_dict(kinds, sep="/"))
    model = _model(family, name, weights, f"params/{family.classifier[0]}/bias")
    arrays = _arrays(family, model)
    _check(
        name,
        {path: value.shape for path, value in weights.items()},
        {"/".join(array.path): array.our_shape for array in arrays},
    )
    result: dict[str, np.ndarray] = {}
    for array in arrays:
        result[array.name] = array.theirs(_numpy(weights["/".join(array.path)]))
        if array.path[0] == "batch_stats":
            result[f"{array.layer}.{TRACKED}"] = np.zeros((), np.int64)
    return result


def _unwrapped(weights: Mapping[str, Any], bias: str) -> dict[str, Any]:
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


def _find(name: str) -> tuple[Family, str]:
    """Return the family of a network, and torchvision's name for it."""
    name = name.removesuffix("_torchvision")
    for family in FAMILIES:
        if re.fullmatch(family.names, name):
            return family, name
    known = ("alexnet", "vgg16", "vgg16_bn", "googlenet", "inception_v3", "resnet50", "wide_resnet50_2")
    raise UserError(
        f"torchvision has no {name!r}: it has {', '.join(known)}, resnext50_32x4d, densenet121 ..."
    )


def _model(family: Family, name: str, weights: Mapping[str, Any], bias: str) -> nn.Module:
    """Return the network with the classes and heads of these weights; `bias` names the classifier's."""
    fields: dict[str, Any] = {}
    if bias in weights:
        fields["num_classes"] = weights[bias].shape[0]
    if family.heads:
        fields[family.heads] = any("aux" in key.lower() for key in weights)
    return build(family.ours.format(name), **fields)


def _arrays(family: Family, model: Any) -> list[_Array]:
    images = jnp.zeros((1, *model.input_shape))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    leaves: dict[Any, Any] = dict(flatten_dict(variables))
    arrays = []
    for path, leaf in leaves.items():
        if path[0] in ("params", "batch_stats"):
            layer = "/".join(path[1:-1])
            theirs = family.rename(model, layer).replace("/", ".")
            image = family.flattened.get(layer) if path[-1] == "kernel" else None
            arrays.append(_Array(path, theirs, LEAVES[path[-1]], leaf.shape, image))
    return arrays


def _check(name: str, given: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> None:
    missing = [key for key in expected if key not in given]
    unexpected = [key for key in given if key not in expected]
    shapes = [
        f"{key} {given[key]} for {shape}"
        for key, shape in expected.items()
        if key in given and given[key] != shape
    ]
    problems = {"missing": missing, "unexpected": unexpected, "wrong shapes": shapes}
    if any(problems.values()):
        text = "; ".join(f"{kind}: {_listed(keys)}" for kind, keys in problems.items() if keys)
        raise UserError(f"these are no weights of {name}: {text}")


def _listed(keys: list[str]) -> str:
    return ", ".join(keys[:_LISTED]) + (f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else "")


def _numpy(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):  # a tensor of PyTorch's, perhaps on another device
        value = value.detach().cpu().float().numpy()
    return np.asarray(value, np.float32)
