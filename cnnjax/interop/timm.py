"""timm's weights: its names of networks, and the `config.json` of its folders.

Most of timm's networks that are here too have torchvision's names of layers (`cnnjax.interop.torchvision`);
the families below are the others. Its SE-ResNets have the stride in a bottleneck's 3x3, and the dense layers
of a squeeze are 1x1 convolutions, as those of VGG's head are convolutions over the whole image.

A folder, a snapshot of what is on Hugging Face's hub, has the weights in `model.safetensors` and says in
`config.json` what network they are of and how it takes images.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from cnnjax.errors import UserError, short
from cnnjax.interop.preprocessing import IMAGENET, Preprocessing
from cnnjax.interop.pytorch import StateDictFamily
from cnnjax.interop.torchvision import VGG_HEAD, resnet_layer, vgg_layer

CONFIG = "config.json"
FILES = ("model.safetensors", "pytorch_model.bin")

HEAD = {"fc1": "pre_logits.fc1", "fc2": "pre_logits.fc2", "fc3": "head.fc"}


def _vgg(model: Any, path: str) -> str:
    return HEAD[path] if path in VGG_HEAD else vgg_layer(model, path)


def _se_resnet(model: Any, path: str) -> str:
    return resnet_layer(model, path).replace("se/reduce", "se/fc1").replace("se/expand", "se/fc2")


FAMILIES = (
    StateDictFamily(
        names=r"vgg(11|13|16|19)(_bn)?",
        rename=_vgg,
        classifier="fc3",
        bias="head.fc.bias",
        flattened={"fc1": (7, 7)},
        convolved=r"pre_logits\.fc\d\.weight",
    ),
    StateDictFamily(
        names=r"se_resnet(50|101|152)|se_resnext\d+_\w+",
        rename=_se_resnet,
        convolved=r"layer.*\.se\.fc\d\.weight",
        options={"strides_at": "3x3"},
    ),
)

OTHERS = {
    r"(se_)?resnex?t\d+[dt](_\w+)?": "its stem has three 3x3 convolutions and its shortcuts pool",
    r"(se_)?resnex?t\d+([cs]|ts)(_\w+)?": "its stem has three 3x3 convolutions",
    r"resnetv2_.*": "it is a pre-activation net",
    r".*(blur|aa).*": "it blurs before it takes every second pixel",
    r"legacy_.*": "its first pooling rounds up",
    r"senet154": "its first pooling has a pixel of padding",
    r"se_resnet(18|34)": "it rounds the width of a squeeze up to a multiple of 8",
    r".*(_gn|_clip.*)": "it has another norm or head",
    r"resnetrs.*|eca.*|sk.*|ese.*|gc.*": "it has other blocks",
}
"""Networks of timm's that look like some here and are not the same, by pattern, and why."""
HARMLESS = {"num_classes", "drop_rate", "drop_path_rate", "pretrained", "global_pool", "in_chans"}
"""Arguments of a network that leave the function with these weights as it is."""


def plain_name(name: str) -> str:
    """Return the name of a network without timm's tag, spelled as here.

    Raises:
        UserError: it is one of timm's networks that only look like one here.
    """
    plain = re.sub(r"^se(?=resne)", "se_", name.partition(".")[0])
    for pattern, reason in OTHERS.items():
        if re.fullmatch(pattern, plain):
            raise UserError(f"{name} is not among the networks here: {reason}")
    return plain


def is_snapshot(folder: Path) -> bool:
    """Return whether a folder has a file of weights, as a snapshot of timm's has."""
    return any((folder / name).is_file() for name in FILES)


def weights_in_folder(folder: Path) -> Path:
    """Return the file of weights in a folder; raises UserError if there is none."""
    for name in FILES:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder}: has no {' or '.join(FILES)}; give a file of weights, or a snapshot of timm's")


def read_config(file: Path) -> Mapping[str, Any] | None:
    """Return what timm wrote beside a file of weights, or None if it wrote nothing there.

    Raises:
        UserError: it cannot be read.
    """
    path = file.with_name(CONFIG)
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({error}); fetch it again") from None
    return config if isinstance(config, dict) and "architecture" in config else None


def check_config(name: str, config: Mapping[str, Any], path: Path) -> None:
    """Raise UserError unless the config is of the network `name`, as it is here."""
    architecture = str(config["architecture"])
    if plain_name(architecture) != name:
        raise UserError(f"{path}: has weights of {architecture}, not of {name}: give that name")
    arguments = config.get("model_args") or {}
    changed = [f"{key}={short(value)}" for key, value in arguments.items() if key not in HARMLESS]
    if config.get("global_pool", "avg") != "avg":
        changed.append(f"global_pool={short(config['global_pool'])}")
    if changed:
        raise UserError(f"{path}: is not the {name} that is here, but one with {', '.join(changed)}")


def preprocessing_in(config: Mapping[str, Any], path: Path) -> Preprocessing:
    """Return how images are prepared for these weights: timm's evaluation, at the size of training.

    Raises:
        UserError: it is none of a central square of three colours.
    """
    how = {**config, **config.get("pretrained_cfg", {})}
    try:
        channels, height, width = how.get("input_size", (3, 224, 224))
        mean, std = (tuple(map(float, how.get(key, getattr(IMAGENET, key)))) for key in ("mean", "std"))
        resize = math.floor(int(height) / float(how.get("crop_pct") or 0.875))
        interpolation = Image.Resampling[how.get("interpolation", "bilinear").upper()]
        if channels != 3 or height != width or len(mean) != 3 or len(std) != 3:
            raise ValueError(f"input_size={how.get('input_size')}, mean={mean}, std={std}")
        if how.get("crop_mode", "center") != "center":
            raise ValueError(f"crop_mode={how['crop_mode']!r}")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: does not say how to crop and normalise a square of three colours ({error})"
        ) from None
    return Preprocessing(resize, int(height), mean, std, interpolation)  # pyright: ignore[reportArgumentType]
