"""Names of normalisations and augmentations to functions: what happens to a batch before the network."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from cnnjax.config import Config
from cnnjax.data import Dataset, Stream
from cnnjax.data.augment import (
    EPOCH_AUGMENTATIONS,
    MIXING,
    augmentation,
    byte_scaler,
    normalizer,
    photograph_normalizer,
)
from cnnjax.data.colour import IMAGENET_COLOURS, change_colours, principal_colours
from cnnjax.data.mixup import mix
from cnnjax.data.photometry import change_photometry
from cnnjax.data.pictures import CROPS
from cnnjax.data.whiten import Whitening, fit_whitening
from cnnjax.data.windows import cut_out
from cnnjax.errors import UserError
from cnnjax.objects import describe
from cnnjax.ops.precision import wide
from cnnjax.training.inputs import Data
from cnnjax.training.task import Augment, Moment


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What happens to a batch before the network, and the names of it for the record."""

    normalize: Callable[[Any], Any]
    normalized: str
    augment: Augment
    augmented: str
    whitening: Whitening | None


def make_preprocessing(
    config: Config,
    data: Data,
    raw: Any,
    given: Callable[..., Any] | None = None,
    fitted: Whitening | None = None,
    classes: int | None = None,
) -> Preprocessing:
    """Make the functions that a config names.

    Args:
        config: the names.
        data: it is fitted to.
        raw: inputs of it, [batch, ...], arrays or shapes.
        given: the user's augmentation, in the place of the name.
        fitted: a whitening, instead of that of the training set.
        classes: of mixed labels.

    Raises:
        UserError: that is not for such data, or one contradicts another.
    """
    whitening = None
    if config.normalize == "zca" and isinstance(data, Dataset):
        whitening = fitted or fit_whitening(data.train_images)
    normalize, normalized = _normalizer(config, data, whitening)
    augment, augmented = _augment(config, given, data, raw, normalize)
    if config.mixup:
        augment = _mixed(config, classes, augment)
    return Preprocessing(normalize, normalized, augment, augmented, whitening)


def _normalizer(config: Config, data: Data, whitening: Whitening | None) -> tuple[Callable[[Any], Any], str]:
    """The function from raw inputs to the network's, and its name for the record."""
    if isinstance(data, Dataset):
        make = functools.partial(normalizer, data.train_images, config.normalize, wide(config.dtype))
        return make(whitening), config.normalize
    if isinstance(data, Stream):
        return photograph_normalizer(config.normalize, wide(config.dtype)), config.normalize
    scale = byte_scaler(wide(config.dtype))
    return lambda raw: jax.tree.map(
        lambda leaf: scale(leaf) if leaf.dtype == jnp.uint8 else leaf, raw
    ), "none"


def _augment(
    config: Config,
    given: Callable[..., Any] | None,
    data: Data,
    raw: Any,
    normalize: Callable[[Any], Any],
) -> tuple[Augment, str]:
    """The augmentation of a training batch inside the step, and its name for the record."""
    geometry, name = _geometry(config, given, data, raw)
    is_bytes = isinstance(data, Dataset | Stream)
    for field in ("colour", "photometry", "cutout"):
        if getattr(config, field) and not is_bytes:
            raise UserError(f"{field}: is for images of bytes; give augment= a function of your own")
        if getattr(config, field) and field != "cutout" and config.normalize in MIXING:
            raise UserError(f"{field}: changes colours, of which normalize={config.normalize!r} leaves none")
    if name in EPOCH_AUGMENTATIONS and (config.colour or config.photometry):
        raise UserError(f"augment={name!r}: knows an image by its pixels; leave out colour and photometry")
    changes = []
    if config.photometry:
        changes.append(functools.partial(change_photometry, strength=config.photometry, normalize=normalize))
    if config.colour:
        colours = principal_colours(data.train_images) if isinstance(data, Dataset) else IMAGENET_COLOURS
        changes.append(
            functools.partial(change_colours, colours=colours, std=config.colour, normalize=normalize)
        )

    def augment(moment: Moment, inputs: Any, labels: Any) -> tuple[Any, Any]:
        for change in changes:
            inputs = change(inputs, moment.key)
        inputs, labels = geometry(moment, inputs, labels)
        return cut_out(inputs, moment.key, config.cutout) if config.cutout else inputs, labels

    return augment if changes or config.cutout else geometry, name


def _geometry(config: Config, given: Callable[..., Any] | None, data: Data, raw: Any) -> tuple[Augment, str]:
    if given is not None:
        return _with_labels(given), describe(given)
    name = config.augment
    if isinstance(data, Stream):
        if name not in CROPS:
            raise UserError(f"augment={name!r} is for small images; photographs take {', '.join(CROPS)}")
        return _nothing, name  # done where the pictures are cropped
    if not isinstance(data, Dataset) and getattr(raw, "ndim", 0) != 4:
        return _nothing, "none"  # no images [batch, height, width, channel]
    if name not in EPOCH_AUGMENTATIONS:
        return _with_labels(augmentation(name)), name
    if not isinstance(data, Dataset):
        raise UserError(f"augment={name!r}: is for images of bytes in memory")
    over_epochs, examples = EPOCH_AUGMENTATIONS[name], len(data.train_images)
    return lambda moment, inputs, labels: (over_epochs(*moment, inputs, examples), labels), name


def _mixed(config: Config, classes: int | None, augment: Augment) -> Augment:
    """The augmentation, and then mixtures."""
    if classes is None:
        raise UserError(f"mixup={config.mixup}: is for labels that are classes")

    def mixed(moment: Moment, inputs: Any, labels: Any) -> tuple[Any, Any]:
        return mix(moment.key, *augment(moment, inputs, labels), classes=classes, alpha=config.mixup)

    return mixed


def _nothing(moment: Moment, inputs: Any, labels: Any) -> tuple[Any, Any]:
    return inputs, labels


def _with_labels(augment: Callable[..., Any]) -> Augment:
    if not callable(augment):
        raise UserError(
            f"augment={describe(augment)}: give a function of (key, inputs) or (key, inputs, labels)"
        )
    if len(inspect.signature(augment).parameters) == 3:
        return lambda moment, inputs, labels: augment(moment.key, inputs, labels)
    return lambda moment, inputs, labels: (augment(moment.key, inputs), labels)
