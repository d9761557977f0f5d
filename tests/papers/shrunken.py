"""Each recipe on the command line, with a shrunken network and a little real data."""

from pathlib import Path

import numpy as np
from PIL import Image

from cnnjax.data import load
from cnnjax.papers import find

THREE, FOUR = "stage_sizes=[1,1,1]", "stage_sizes=[1,1,1,1]"
SHRUNKEN: dict[str, tuple[str, ...]] = {
    "lenet5": ("--batch-size", "1", "--optimizer-options", "samples=4", "every=3"),
    "lenet5_modern": ("--options", "width=3"),
    "lenet_caffe": ("--options", "width=4"),
    "alexnet": ("--options", "width=6"),
    "zfnet": ("--options", "width=6"),
    "nin_cifar": ("--options", "width=16"),
    "nin_imagenet": ("--options", "width=16"),
    "vgg": ("--learning-rate", "1e-4", "--options", "width=2"),  # for 2 images, where the paper has 256
    "googlenet": ("--options", "width=8"),
    "bn_inception": ("--options", "width=8"),
    "highway_mnist": ("--options", "width=4", THREE),
    "highway_cifar": ("--options", "width=4", "stage_sizes=[2,2,2]"),
    "resnet_cifar": ("--model", "resnet8", "--options", "width=2"),
    "resnet110_cifar": ("--options", "width=2", THREE),
    "resnet_imagenet": ("--options", "width=4", FOUR),
    "preresnet_cifar": ("--options", "width=2", THREE),
    "inception_v3": ("--options", "width=4"),
    "stochastic_depth_cifar": ("--options", "width=2", THREE),
    "wrn_cifar": ("--model", "wrn10_1", "--options", "width=2"),
    "wrn_cifar_modern": ("--model", "wrn10_1", "--options", "width=2"),
    "fractalnet_cifar": ("--options", "width=2", "columns=2"),
    "densenet_cifar": ("--options", "growth_rate=2", "width=4", "block_sizes=[1,1,1]"),
    "densenet_imagenet": ("--options", "growth_rate=2", "width=4", "block_sizes=[1,1,1,1]"),
    "resnext_cifar": ("--options", "width=8", THREE),
    "resnext_imagenet": ("--options", "width=16", FOUR),
    "se_imagenet": ("--options", "width=16", FOUR),
    "fixup_cifar": ("--options", "width=2", THREE),
    "resnet_imagenet_modern": ("--bn-group-size", "2", "--options", "width=4", FOUR),
    "airbench": ("--options", "width=8"),
    "vgg_modern": ("--learning-rate", "1e-2", "--bn-group-size", "2", "--options", "width=2"),  # likewise
}
"""The flags that make each recipe's network small, whatever else it states."""


def write_pictures(folder: Path) -> None:
    """Two classes of photographs, which are clothes: 8 to train on and 2 to test."""
    data = load("fashion_mini")
    for label in (0, 1):
        images = data.train_images[data.train_labels == label]
        for number, image in enumerate(images[:5]):
            place = folder / ("train" if number < 4 else "val") / f"class{label}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.repeat(image, 3, -1)).resize((80, 60)).save(place / f"{number}.png")


def words(name: str, pictures: Path, out: Path, steps: int) -> list[str]:
    """The command that follows the recipe for so many steps, with a checkpoint after each third of them."""
    photographs = find(name).config().data == "imagenet2012"
    data = ("--data", str(pictures), "--batch-size", "2") if photographs else ("--data", "fashion_mini")
    batch = () if photographs else ("--batch-size", "4")
    third = str(max(1, steps // 3))
    every = ("--steps", str(steps), "--evaluate-every", str(steps), "--checkpoint-every", third)
    return ["train", "--recipe", name, *data, *batch, *every, "--out", str(out), *SHRUNKEN[name]]
