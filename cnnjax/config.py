"""One training run as data: a frozen dataclass that converts to JSON and back; which checkpoints to keep."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Literal, NoReturn, get_args

from cnnjax.errors import UserError, short

Decay = Literal["convolutions", "kernels", "all"]
Augment = Literal[
    "none", "flip", "crop", "crop_flip", "reflect_crop_flip", "translate_flip", "translate_alternating_flip",
    "scale_crop_flip", "area_crop_flip",
]  # fmt: skip
Normalize = Literal["pixel_mean", "raw_mean", "channel", "gcn", "zca", "none"]
Unreadable = Literal["refuse", "skip"]
Loss = Literal["cross_entropy", "map"]
Warmup = Literal["linear", "tenth"]
Dtype = Literal["float32", "bfloat16", "float64"]
MultiRunMode = Literal["sequential", "vmap", "mesh"]
Shard = Literal["replicated", "model", "fsdp"]

OUR_SCHEDULES = ("piecewise", "cosine", "constant", "plateau")  # the others are optax's
INT32 = 2**31 - 1
FLOAT32 = 3.4e38  # the largest number, nearly
_KINDS: dict[type, tuple[type, str]] = {
    bool: (bool, "True or False"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "a word in quotes"),
}
"""A default's type to what the field's value must be, as a class and in words."""
_CHOICES = {
    "decay": Decay, "augment": Augment, "normalize": Normalize, "loss": Loss, "warmup": Warmup,
    "dtype": Dtype, "unreadable": Unreadable,
}  # fmt: skip
_TEXTS = ("freeze", "metrics", "probes")
_MAPPINGS = ("model_options", "optimizer_options", "schedule_options", "groups")
_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(
        ("steps", "batch_size", "downsample", "accumulate", "evaluate_every", "checkpoint_every"),
        (lambda x: x >= 1, "must be at least 1"),
    ),
    **dict.fromkeys(
        ("validation", "warmup_steps", "patience", "cutout", "lookahead"),
        (lambda x: x >= 0, "must not be negative"),
    ),
    **dict.fromkeys(
        ("seed", "data_seed"),
        (
            lambda x: x is None or (isinstance(x, Integral) and 0 <= int(x) < 2**32),
            "must not be negative, and must be below 2**32, for keys have so many bits",
        ),
    ),
    **dict.fromkeys(
        ("clip_value", "clip_layer_norm", "clip_norm", "max_filter_rms"),
        (
            lambda x: x is None or (isinstance(x, Real) and 0 < float(x) <= FLOAT32),
            "must be a positive number, such as 1.0",
        ),
    ),
    "bn_group_size": (
        lambda x: x is None or (isinstance(x, Integral) and not isinstance(x, bool) and int(x) >= 1),
        "must be a number of images, such as 32",
    ),
    "learning_rate": (lambda x: 0 < x <= FLOAT32, "must be a positive number, such as 0.1"),
    "map_constant": (lambda x: abs(x) <= FLOAT32, "must be a number, such as 1.0"),
    "rate_drop": (lambda x: 0 < x < 1, "must be between 0 and 1, such as 0.1"),
    "colour": (lambda x: 0 <= x <= FLOAT32, "must not be negative, such as 0.1"),
    "mixup": (lambda x: 0 <= x <= FLOAT32, "must not be negative, such as 1.0"),
    "photometry": (lambda x: 0 <= x <= 1, "must be in [0, 1], such as 0.5"),
    "label_smoothing": (lambda x: 0 <= x < 1, "must be in [0, 1), such as 0.1"),
    "momentum": (lambda x: 0 <= x < 1, "must be in [0, 1), such as 0.9"),
    "ema": (lambda x: 0 <= x < 1, "must be in [0, 1), such as 0.999"),
    "weight_decay": (lambda x: 0 <= x <= FLOAT32, "must not be negative, such as 1e-4"),
    "initial": (
        lambda x: x is None or isinstance(x, str),
        "must be the path of a run or of a file of weights",
    ),
}
"""What a field's value must be, and in words."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that decides a run's numbers; the defaults are He et al. 2015, section 4.2 (CIFAR-10).

    Attributes:
        model: a name that `build` knows, or `package.module:Net` or `path/net.py:Net` for one of your own.
        model_options: fields of the network to override, such as `{"width": 8, "shortcut": "B"}`.
        bn_group_size: number of images that BatchNorm normalises together, in order; None takes the whole
            batch. Where no group spans two devices, statistics cost no exchange.
        dtype: of the network's computation. With bfloat16, parameters, statistics and the loss are float32;
            float64 means float64 everywhere, and needs the environment variable JAX_ENABLE_X64=1.
        data: a name that `cnnjax.data.load` knows, "imagenet2012", or the path of a folder of photographs.
        unreadable: what to do about pictures of a folder that can't be read: "refuse" stops where one is
            needed; "skip" reads them all first, and leaves these out of training and test.
        validation: number of training images, drawn by `seed`, to hold out and test on instead of the
            test set (the paper chose its schedule on 45,000 / 5,000).
        downsample: side of the squares of pixels to average.
        augment: how training images are augmented; "crop_flip" pads by 4 pixels of zeros, crops at random and
            flips half of them, "reflect_crop_flip" pads by reflection (Zagoruyko and Komodakis 2016),
            "translate_flip" the same by 2 pixels, and "translate_alternating_flip" flips each image in every
            second epoch (Jordan 2024). "scale_crop_flip" enlarges first (He et al. 2015), "area_crop_flip"
            resizes a random window (Szegedy et al. 2014). Photographs are cropped to the network's input
            (`cnnjax.data.pictures`).
        colour: standard deviation of a random change of each training image's colour, along the principal
            components of pixels (Krizhevsky et al. 2012, section 4.1: 0.1).
        mixup: alpha of mixup (Zhang et al. 2017), which mixes each batch with itself in another order, images
            and labels alike, by a share from Beta(alpha, alpha); 0: none.
        photometry: bound of a random change of each training image's brightness, contrast and saturation, as
            a part of them (Howard 2013, section 2.2: 0.5).
        cutout: side in pixels of a square that is hidden in each training image (DeVries and Taylor 2017).
        normalize: "pixel_mean" subtracts the mean training image and divides by 255, "raw_mean" only
            subtracts, as nets without BatchNorm had it; "channel" standardises each channel;
            photographs use ImageNet's statistics for both; "gcn" normalises each image's contrast and "zca"
            whitens too (Goodfellow et al. 2013; `cnnjax.data.whiten`); "none" only divides by 255. It applies
            to images of bytes; other arrays reach the network unchanged.
        seed: of the initial weights and, unless there is a `data_seed`, of the order of the images, the
            augmentation and dropout.
        data_seed: a seed of its own for the order of the images, the augmentation and dropout.
        initial: a run's folder or a file of weights (`.safetensors`, torchvision's `.pth`) to start from;
            parameters of another shape there, such as a classifier for other classes, start afresh.
        freeze: patterns, such as "stage1*", of the paths of parameters that are not trained.
        steps: gradient steps; one epoch is training images / `batch_size` of them.
        batch_size: over all devices.
        loss: "cross_entropy" of the softmax, or "map", LeNet-5's (`cnnjax.models.lenet5.map_loss`).
        map_constant: the constant j of "map".
        label_smoothing: part of the label's probability that all classes share in training's cross-entropy
            (Szegedy et al. 2015, section 7).
        optimizer: "sgd" with momentum, "adam" with its paper's constants (0.9, 0.999, 1e-8), "diagonal_lm",
            LeNet-5's (`cnnjax.second_order`), or any other of optax's optimizers by name.
        optimizer_options: its further arguments, such as `{"b2": 0.95}`.
        learning_rate: its peak.
        schedule: "piecewise" drops it at each of `boundaries`; "cosine" brings it to 0 at `steps`;
            "constant"; "plateau" drops it where tests stop improving; or any other of optax's schedules by
            name, such as "warmup_cosine" or "exponential"; "inverse" is Caffe's "inv".
        schedule_options: its further arguments, such as `{"decay_rate": 0.5}`.
        boundaries: steps, for "piecewise" only.
        rate_drop: factor of each drop; Wide ResNet uses 0.2.
        patience: for "plateau", tests in a row without a lower error after which one more drops the rate;
            there is a test every `evaluate_every` steps, of held-out images where there is `validation`.
        warmup_steps: number of steps before the rate reaches its peak.
        warmup: "linear", a rise from 0; or "tenth", a tenth of the rate throughout, as in the paper for
            110 layers (with "piecewise").
        momentum: of SGD, in the form v = momentum * v + gradient.
        nesterov: whether to step along momentum * v + gradient, as Wide ResNet and DenseNet do.
        weight_decay: added to the gradient before the optimizer sees it (coupled), except in optax's
            optimizers with decoupled decay, such as adamw, lion and lamb.
        decay: "convolutions" decays only their kernels, as in the paper; "kernels" also those of fully
            connected layers, for nets that end in such layers; "all" every parameter.
        groups: patterns of parameters' paths to multiples of rate and decay, such as
            `{"*/bias": {"rate": 2, "decay": 0}}`; the first that matches counts.
        clip_value: bound to which each number of the gradients is clipped.
        clip_layer_norm: largest norm of each parameter's gradient; larger ones are scaled down.
        clip_norm: largest norm of all gradients together; larger ones are scaled down.
        fixed_norms: whether each convolution's kernel is brought back to its initial norm after each step.
        max_filter_rms: largest root mean square of a convolution's filter; larger ones are scaled back to it
            after each step (Zeiler and Fergus 2013, section 3.1: 0.1).
        lookahead: steps between two returns of the weights to their average (`cnnjax.lookahead`); 0: none.
        accumulate: number of batches whose gradients are averaged for one update.
        ema: decay of an exponential moving average of the parameters, which is tested beside them; 0: none.
        metrics: names of `cnnjax.losses.METRICS` to test besides the error, such as "top5_error".
        probes: names of the probes that measure the steps, "layers", "samples" or "health".
        evaluate_every: steps between evaluations of the whole test set.
        checkpoint_every: steps between checkpoints.
    """

    model: str = "resnet20"
    model_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    bn_group_size: int | None = None
    dtype: Dtype = "float32"

    data: str = "cifar10"
    unreadable: Unreadable = "refuse"
    validation: int = 0
    downsample: int = 1
    augment: Augment = "crop_flip"
    colour: float = 0.0
    mixup: float = 0.0
    photometry: float = 0.0
    cutout: int = 0
    normalize: Normalize = "pixel_mean"

    seed: int = 0
    data_seed: int | None = None
    initial: str | None = None
    freeze: tuple[str, ...] = ()
    steps: int = 64_000
    batch_size: int = 128
    loss: Loss = "cross_entropy"
    map_constant: float = 1.0
    label_smoothing: float = 0.0
    optimizer: str = "sgd"
    optimizer_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    learning_rate: float = 0.1
    schedule: str = "piecewise"
    schedule_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    boundaries: tuple[int, ...] = (32_000, 48_000)
    rate_drop: float = 0.1
    patience: int = 10
    warmup_steps: int = 0
    warmup: Warmup = "linear"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    decay: Decay = "convolutions"
    groups: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    clip_value: float | None = None
    clip_layer_norm: float | None = None
    clip_norm: float | None = None
    fixed_norms: bool = False
    max_filter_rms: float | None = None
    lookahead: int = 0
    accumulate: int = 1
    ema: float = 0.0

    metrics: tuple[str, ...] = ()
    probes: tuple[str, ...] = ()
    evaluate_every: int = 1_000
    checkpoint_every: int = 1_000

    @property
    def order_seed(self) -> int:
        """What decides the order of the images, the augmentation and dropout."""
        return self.seed if self.data_seed is None else self.data_seed

    def __post_init__(self) -> None:
        if isinstance(self.boundaries, str) or not isinstance(self.boundaries, Sequence):
            self._reject("boundaries", "must be several steps, such as (32000, 48000), or () for none")
        object.__setattr__(self, "boundaries", tuple(self.boundaries))
        for field in _TEXTS:
            words = getattr(self, field)
            if isinstance(words, str) or not (
                isinstance(words, Sequence) and all(isinstance(w, str) for w in words)
            ):
                self._reject(field, "must be several words, such as ('a', 'b'), or () for none")
            object.__setattr__(self, field, tuple(one for word in words for one in word.split(",")))
        for field in _MAPPINGS:
            self._set_mapping(field)
        if "name" in self.model_options:
            self._reject("model_options", "the network's name is the field model")
        for field in dataclasses.fields(self):
            kind, words = _KINDS.get(type(field.default), (object, ""))
            value = getattr(self, field.name)
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                example = "" if isinstance(field.default, bool) else f", such as {field.default!r}"
                self._reject(field.name, f"must be {words}{example}")
        for field, choices in _CHOICES.items():
            if getattr(self, field) not in get_args(choices):
                self._reject(field, f"must be one of {', '.join(get_args(choices))}")
        for field, (is_right, words) in _RANGES.items():
            value = getattr(self, field)
            if not is_right(value):
                self._reject(field, words)
            if isinstance(value, Integral) and int(value) > INT32 and field not in ("seed", "data_seed"):
                self._reject(field, f"must be at most {INT32}: it is counted in int32")
        for field in ("label_smoothing", "mixup"):
            if getattr(self, field) and self.loss != "cross_entropy":
                self._reject(field, f"is for the cross-entropy, not for loss={self.loss!r}")
        are_steps = all(isinstance(step, Integral) and 0 <= step <= INT32 for step in self.boundaries)
        if not are_steps or list(self.boundaries) != sorted(self.boundaries):
            self._reject("boundaries", "must be rising steps, such as 32000 48000")
        for pattern, group in self.groups.items():
            numbers = isinstance(group, Mapping) and all(
                isinstance(x, Real) and float(x) >= 0 for x in group.values()
            )
            if not numbers or not set(group) <= {"rate", "decay"}:
                self._reject(
                    "groups", f"{pattern!r} must have a rate or a decay, such as {{'rate': 2, 'decay': 0}}"
                )

    def _set_mapping(self, field: str) -> None:
        """Store a field's values as a file returns them, so that equal configs compare equal."""
        if not isinstance(getattr(self, field), Mapping):
            self._reject(field, "must be fields by name, such as {'width': 8}")
        try:
            object.__setattr__(self, field, json.loads(json.dumps(dict(getattr(self, field)))))
        except (TypeError, ValueError) as error:
            self._reject(field, f"must be JSON values ({error})")

    def _reject(self, field: str, reason: str) -> NoReturn:
        raise UserError(f"{field}={short(getattr(self, field))}: {reason}")

    def to_json(self) -> dict[str, Any]:
        """A dict of JSON values; `from_json` gives an equal Config back."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Config":
        """The Config that `to_json` wrote; raises UserError when a field is unknown.

        A field that is null but may not be was decided by an object; it keeps its default.
        """
        if not isinstance(value, Mapping):
            raise UserError(f"a configuration must be fields by name, not {short(value)}")
        defaults = {field.name: field.default for field in dataclasses.fields(cls)}
        if unknown := sorted(set(value) - set(defaults)):
            raise UserError(f"unknown field {unknown[0]!r} in a configuration")
        given = {name: one for name, one in value.items() if one is not None}
        if "warmup" not in value and value.get("schedule") == "piecewise":
            given["warmup"] = "tenth"  # what it was before there was a choice
        return cls(**given)


@dataclasses.dataclass(frozen=True)
class CheckpointPolicy:
    """Which checkpoints of a run to keep: those that any of the three fields asks for. Changes no numbers."""

    last: int = 2
    """Number of newest checkpoints to keep."""
    best: int = 0
    """Number of checkpoints to keep with the lowest test error, of steps that were evaluated."""
    every: int | None = None
    """Keep the checkpoints at multiples of this number of steps."""

    def __post_init__(self) -> None:
        for field, least in (("last", 1), ("best", 0), ("every", 1)):
            value = getattr(self, field)
            if value is None and field == "every":
                continue
            if not isinstance(value, Integral) or value < least:
                raise UserError(f"keep.{field}={short(value)}: must be a whole number, at least {least}")


KEEP = CheckpointPolicy()


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two configurations as JSON, as readable phrases, in the order of `new`."""
    return [
        f"{key} {old.get(key)!r} there, {new.get(key)!r} here"
        for key in dict.fromkeys([*new, *old])
        if old.get(key) != new.get(key)
    ]
