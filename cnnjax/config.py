"""One training run as data: a frozen dataclass that goes to JSON and back; and which checkpoints it keeps."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Literal, NoReturn, get_args

from cnnjax.errors import UserError, short

Schedule = Literal["piecewise", "cosine", "constant"]
Decay = Literal["convolutions", "kernels", "all"]
Augment = Literal["none", "flip", "crop", "crop_flip", "scale_crop_flip", "area_crop_flip"]
Normalize = Literal["pixel_mean", "channel"]
Loss = Literal["cross_entropy", "map"]
Optimizer = Literal["sgd", "adam"]
Dtype = Literal["float32", "bfloat16", "float64"]
How = Literal["sequential", "vmap", "mesh"]
Shard = Literal["replicated", "model", "fsdp"]

INT32 = 2**31 - 1
FLOAT32 = 3.4e38  # the largest number, nearly
_KINDS: dict[type, tuple[type, str]] = {
    bool: (bool, "True or False"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "a word in quotes"),
}
"""A default's type to what the field's value must be, as a class and in words."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that decides a run's numbers; the defaults are He et al. 2015, section 4.2 (CIFAR-10).

    Attributes:
        model: a name that `build` knows.
        model_options: fields of the network to override, such as `{"width": 8, "shortcut": "B"}`.
        dtype: of the network's computation; with bfloat16 parameters, statistics and the loss are float32.
            float64 is float64 in everything, and needs the environment variable JAX_ENABLE_X64=1.
        data: a name that `cnnjax.data.load` knows, "imagenet2012", or the path of a folder of photographs.
        validation: this many training images, drawn by `seed`, are held out and tested on instead of the
            test set (the paper chose its schedule on 45,000 / 5,000).
        downsample: average pixels in squares of this side.
        augment: what is done to a training image; "crop_flip" pads 4 pixels, crops at random and flips half.
            Photographs are cropped to the network's input; "scale_crop_flip" (He et al. 2015) and
            "area_crop_flip" (Szegedy et al. 2014) are for them alone (`cnnjax.data.pictures`).
        normalize: "pixel_mean" subtracts the mean training image; "channel" standardises each channel;
            photographs have ImageNet's statistics for both.
        seed: of the initial weights, the order of the images and the augmentation.
        steps: gradient steps; one epoch is training images / `batch_size` of them.
        batch_size: over all devices.
        loss: "cross_entropy" of the softmax, or "map", LeNet-5's (`cnnjax.models.lenet5.map_loss`).
        map_constant: the constant j of "map".
        optimizer: "sgd" with momentum, or "adam" with its paper's constants (0.9, 0.999, 1e-8).
        learning_rate: its peak.
        schedule: "piecewise" drops it at each of `boundaries`; "cosine" brings it to 0 at `steps`.
        boundaries: steps, for "piecewise" only.
        rate_drop: the factor of a drop; Wide ResNet has 0.2.
        warmup_steps: "piecewise": so many steps at a tenth of the rate, as the paper has for 110 layers;
            "cosine" and "constant": a linear rise from 0.
        momentum: of SGD, in the form v = momentum * v + gradient.
        nesterov: a step along momentum * v + gradient, as Wide ResNet and DenseNet have it.
        weight_decay: added to the gradient before the optimizer sees it (coupled).
        decay: "convolutions" decays their kernels alone, as the paper; "kernels" those of fully connected
            layers too, as nets that end in such need it; "all" every parameter.
        evaluate_every: steps between evaluations of the whole test set.
        checkpoint_every: steps between checkpoints.
    """

    model: str = "resnet20"
    model_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    dtype: Dtype = "float32"

    data: str = "cifar10"
    validation: int = 0
    downsample: int = 1
    augment: Augment = "crop_flip"
    normalize: Normalize = "pixel_mean"

    seed: int = 0
    steps: int = 64_000
    batch_size: int = 128
    loss: Loss = "cross_entropy"
    map_constant: float = 1.0
    optimizer: Optimizer = "sgd"
    learning_rate: float = 0.1
    schedule: Schedule = "piecewise"
    boundaries: tuple[int, ...] = (32_000, 48_000)
    rate_drop: float = 0.1
    warmup_steps: int = 0
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    decay: Decay = "convolutions"

    evaluate_every: int = 1_000
    checkpoint_every: int = 1_000

    def __post_init__(self) -> None:
        if isinstance(self.boundaries, str) or not isinstance(self.boundaries, Sequence):
            self._reject("boundaries", "must be several steps, such as (32000, 48000), or () for none")
        object.__setattr__(self, "boundaries", tuple(self.boundaries))
        if not isinstance(self.model_options, Mapping):
            self._reject("model_options", "must be fields by name, such as {'width': 8}")
        try:  # as a file gives them back, so that equal configs compare equal
            object.__setattr__(self, "model_options", json.loads(json.dumps(dict(self.model_options))))
        except (TypeError, ValueError) as error:
            self._reject("model_options", f"must be JSON values ({error})")
        if "name" in self.model_options:
            self._reject("model_options", "the network's name is the field model")
        for field in dataclasses.fields(self):
            kind, words = _KINDS.get(type(field.default), (object, ""))
            value = getattr(self, field.name)
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                example = "" if isinstance(field.default, bool) else f", such as {field.default!r}"
                self._reject(field.name, f"must be {words}{example}")
        for field, choices in {
            "schedule": Schedule,
            "decay": Decay,
            "augment": Augment,
            "normalize": Normalize,
            "loss": Loss,
            "optimizer": Optimizer,
            "dtype": Dtype,
        }.items():
            if getattr(self, field) not in get_args(choices):
                self._reject(field, f"must be one of {', '.join(get_args(choices))}")
        for field in ("steps", "batch_size", "downsample", "evaluate_every", "checkpoint_every"):
            if getattr(self, field) < 1:
                self._reject(field, "must be at least 1")
        for field in ("validation", "seed", "warmup_steps"):
            if getattr(self, field) < 0:
                self._reject(field, "must not be negative")
        if self.seed >= 2**32:
            self._reject("seed", "must be below 2**32, for keys have so many bits")
        for field in dataclasses.fields(self):
            if type(field.default) is int and getattr(self, field.name) > INT32 and field.name != "seed":
                self._reject(field.name, f"must be at most {INT32}: it is counted in int32")
        if not 0 < self.learning_rate <= FLOAT32:
            self._reject("learning_rate", "must be a positive number, such as 0.1")
        if not abs(self.map_constant) <= FLOAT32:
            self._reject("map_constant", "must be a number, such as 1.0")
        if not 0 < self.rate_drop < 1:
            self._reject("rate_drop", "must be between 0 and 1, such as 0.1")
        if not 0 <= self.momentum < 1:
            self._reject("momentum", "must be in [0, 1), such as 0.9")
        if not 0 <= self.weight_decay <= FLOAT32:
            self._reject("weight_decay", "must not be negative, such as 1e-4")
        are_steps = all(isinstance(step, Integral) and 0 <= step < 2**31 for step in self.boundaries)
        if not are_steps or list(self.boundaries) != sorted(self.boundaries):
            self._reject("boundaries", "must be rising steps, such as 32000 48000")

    def _reject(self, field: str, reason: str) -> NoReturn:
        raise UserError(f"{field}={short(getattr(self, field))}: {reason}")

    def to_json(self) -> dict[str, Any]:
        """A dict of JSON values; `from_json` gives an equal Config back."""
        return {**dataclasses.asdict(self), "boundaries": list(self.boundaries)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Config":
        """The Config that `to_json` wrote; raises UserError when a field is unknown."""
        if not isinstance(value, Mapping):
            raise UserError(f"a configuration must be fields by name, not {short(value)}")
        if unknown := sorted(set(value) - {field.name for field in dataclasses.fields(cls)}):
            raise UserError(f"unknown field {unknown[0]!r} in a configuration")
        return cls(**value)


@dataclasses.dataclass(frozen=True)
class Keep:
    """Which checkpoints of a run stay; one stays when any of the three says so. It decides no numbers."""

    last: int = 2
    """The newest so many."""
    best: int = 0
    """So many with the lowest test error, of those whose step was evaluated."""
    every: int | None = None
    """Those at multiples of so many steps."""

    def __post_init__(self) -> None:
        for field, least in (("last", 1), ("best", 0), ("every", 1)):
            value = getattr(self, field)
            if value is None and field == "every":
                continue
            if not isinstance(value, Integral) or value < least:
                raise UserError(f"keep.{field}={short(value)}: must be a whole number, at least {least}")


KEEP = Keep()


@dataclasses.dataclass(frozen=True)
class Running:
    """How runs are recorded and divided; it decides no numbers."""

    tensorboard: bool = False
    """Whether to write TensorBoard files too."""
    keep: Keep = KEEP
    resume: int | None = None
    """Go back to the checkpoint of this step, once; what came later moves to RUN/after_STEP."""
    mesh: str | None = None
    """Devices of each axis, such as data=4,model=2; all are on the data axis when not given."""
    shard: Shard = "replicated"
    """How weights and the optimizer's state are divided over the devices."""


RUNNING = Running()


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two configurations as JSON, as readable phrases, in the order of `new`."""
    return [
        f"{key} {old.get(key)!r} there, {new.get(key)!r} here"
        for key in dict.fromkeys([*new, *old])
        if old.get(key) != new.get(key)
    ]
