"""Torchvision's weights into our networks, and ours into torchvision's.

Our networks and torchvision's have the same layers under other names, so each family needs one function from
our name of a layer to theirs. `num_batches_tracked` is ignored on the way in and written as 0 on the way out,
as in a new torchvision network.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict

from cnnjax.errors import UserError
from cnnjax.interop.family import as_numpy, check, matching
from cnnjax.interop.files import read_weights, weights_in
from cnnjax.interop.preprocessing import Preprocessing
from cnnjax.interop.pytorch import TRACKED, StateDictFamily
from cnnjax.models import build, unstack


def resnet_layer(model: Any, path: str) -> str:
    """Return torchvision's name of a layer of a ResNet or a net of its kind."""
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


def vgg_layer(model: Any, path: str) -> str:
    """Return torchvision's name of a layer of a VGG net."""
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


HALVES = (0.5, 0.5, 0.5)
FAMILIES = (
    StateDictFamily(
        names="alexnet",
        ours="{}_torchvision",
        rename=_alexnet,
        classifier="fc8",
        bias="classifier.6.bias",
        flattened={"fc6": (6, 6)},
    ),
    StateDictFamily(
        names=r"vgg(11|13|16|19)(_bn)?",
        rename=vgg_layer,
        classifier="fc3",
        bias="classifier.6.bias",
        flattened={"fc1": (7, 7)},
    ),
    StateDictFamily(
        names="googlenet",
        ours="{}_torchvision",
        rename=_googlenet,
        flattened={"auxiliary1/fc1": (4, 4), "auxiliary2/fc1": (4, 4)},
        heads="aux_heads",
        # Its weights and Inception's are from TensorFlow and take pixels from -1 to 1. Torchvision converts
        # them inside the network (`transform_input`).
        preprocessing=Preprocessing(mean=HALVES, std=HALVES),
    ),
    StateDictFamily(
        names="inception_v3",
        ours="{}_torchvision",
        rename=_inception,
        heads="aux_heads",
        preprocessing=Preprocessing(342, 299, HALVES, HALVES),
    ),
    StateDictFamily(names=r"resnet\d+", ours="{}_torchvision", rename=resnet_layer),
    StateDictFamily(names=r"(resnext|wide_resnet)\d+_\w+", rename=resnet_layer),
    StateDictFamily(names=r"densenet\d+", rename=_densenet, bias="classifier.bias"),
)


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
    family, name = find(name)
    given = read_weights(state_dict) if isinstance(state_dict, str | Path) else weights_in(state_dict)
    return family.load(name, given)


def to_torchvision(name: str, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return our variables as torchvision's `state_dict` of the network `name`, numpy arrays by name.

    Load it by `torch_model.load_state_dict({key: torch.from_numpy(value) for key, value in result.items()})`.

    Raises:
        UserError: there is no such network, or an array is missing, unexpected, or has another shape.
    """
    family, name = find(name)
    kinds = {kind: unstack(tree) for kind, tree in variables.items() if kind in ("params", "batch_stats")}
    weights: dict[str, Any] = dict(flatten_dict(kinds, sep="/"))
    model = build(family.ours.format(name), **family.fields(weights, f"params/{family.classifier}/bias"))
    arrays = family.arrays(model)
    check(
        name,
        {path: value.shape for path, value in weights.items()},
        {"/".join(array.path): array.our_shape for array in arrays},
    )
    result: dict[str, np.ndarray] = {}
    for array in arrays:
        result[array.name] = array.theirs(as_numpy(weights["/".join(array.path)]))
        if array.path[0] == "batch_stats":
            result[f"{array.layer}.{TRACKED}"] = np.zeros((), np.int64)
    return result


def find(name: str) -> tuple[StateDictFamily, str]:
    """Return the family of a network, and torchvision's name for it."""
    name = name.removesuffix("_torchvision")
    for family in matching(FAMILIES, name):
        return family, name
    known = ("alexnet", "vgg16", "vgg16_bn", "googlenet", "inception_v3", "resnet50", "wide_resnet50_2")
    raise UserError(
        f"torchvision has no {name!r}: it has {', '.join(known)}, resnext50_32x4d, densenet121 ..."
    )
