"""Settings: activations, places of BatchNorm, rates, the sizes of the presets, the command line."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from cnnjax.config import Config
from cnnjax.errors import UserError

from ..settings import WIDTHS, Net, NetsArgs, preset_with

THRESHOLD = 0.25
"""Training error that is to be reached, as in AlexNet's figure 1."""


@dataclasses.dataclass(frozen=True)
class Activation:
    """An activation and the initial weights that its paper, or custom, gives it.

    Attributes:
        name: in `cnnjax.ops.activations.ACTIVATIONS`.
        title: in figures, and in `cnnjax.probes.theory.ACTIVATIONS`.
        kernel_init: a name in `cnnjax.ops.init.INITS`.
        variance: of these weights times the fan-in, in layers of equal width.
    """

    name: str
    title: str
    kernel_init: str = "he_fan_in"
    variance: float = 2.0


ACTIVATIONS = {
    each.name: each
    for each in (
        Activation("relu", "relu"),
        Activation("leaky_relu", "leaky relu"),
        Activation("prelu", "prelu"),
        Activation("elu", "elu"),
        Activation("gelu", "exact gelu"),
        Activation("tanh", "tanh", "glorot", 1.0),
        Activation("sigmoid", "sigmoid", "glorot", 1.0),
    )
}
PLACES: Mapping[str, Mapping[str, str]] = {
    "without BatchNorm": {"norm": "none"},
    "BatchNorm before": {"norm": "batch", "order": "original"},
    "BatchNorm after": {"norm": "batch", "order": "bn_after_activation"},
}
"""Where BatchNorm is, seen from the activation, and the network's fields for it."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """How large a preset is.

    Attributes:
        data: a data set.
        seeds: runs of each network at its best rate.
        steps: of each run.
        nets: what is trained; they have the fields `activation`, `norm`, `order` and `kernel_init`.
        activations: names in `ACTIVATIONS`.
        rates: from which each network gets the one with the lowest mean training error over all steps.
        window: steps over which the training error is averaged to see when it reaches 25 %.
        depth: layers of the stack in which gradients are measured.
        width: units of each of its layers, and number of its inputs.
    """

    data: str
    seeds: int
    steps: int
    nets: tuple[Net, ...]
    activations: tuple[str, ...] = tuple(ACTIVATIONS)
    rates: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)
    window: int = 20
    depth: int = 20
    width: int = 256


def _alexnet(width: int) -> tuple[Net]:
    return (Net("alexnet_cifar", {"model_options": {"width": width}}),)


PRESETS = {
    "quick": Preset("fashion_mini", 3, 400, _alexnet(WIDTHS["quick"])),
    "paper": Preset(
        "cifar10",
        3,
        20_000,
        _alexnet(32),
        rates=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
        window=391,
    ),
    "smoke": Preset(
        "synthetic", 1, 4, _alexnet(4), ("relu", "sigmoid"), (0.01, 0.1), window=2, depth=4, width=16
    ),
}


@dataclasses.dataclass(frozen=True)
class Arm:
    """A network with one activation and BatchNorm in one place."""

    net: Net
    activation: Activation
    place: str

    def run(self, rate: float, seed: int) -> str:
        """The folder of its run at this rate with this seed."""
        place = self.place.replace(" ", "_").lower()
        return f"{self.net.name}_{self.activation.name}_{place}_rate{rate:g}_seed{seed}"


@dataclasses.dataclass(frozen=True)
class Tried:
    """A network and its mean training error over all steps, by rate."""

    arm: Arm
    errors: Mapping[float, float]

    @property
    def rate(self) -> float:
        """The rate with the lowest error."""
        return min(self.errors, key=lambda rate: self.errors[rate])


@dataclasses.dataclass(frozen=True)
class Args(NetsArgs):
    """Train a net of four layers with seven activations, without, before and after BatchNorm."""

    activations: tuple[str, ...] | None = None
    """Some of relu, leaky_relu, prelu, elu, gelu, tanh and sigmoid; quick has all."""
    rates: tuple[float, ...] | None = None
    """Learning rates to choose from; quick has 0.03, 0.1, 0.3 and 1."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/activations")
    """Folder for the runs, the arrays, the figures, the summary and the report."""

    @property
    def chosen(self) -> Preset:
        """The preset with the command line's changes; raises UserError for impossible ones."""
        chosen = preset_with(self.preset_of(PRESETS), activations=self.activations, rates=self.rates)
        rates = chosen.rates
        if not chosen.activations or not set(chosen.activations) <= set(ACTIVATIONS):
            given = " ".join(chosen.activations)
            raise UserError(f"--activations {given}: must be some of {', '.join(ACTIVATIONS)}")
        if not rates or min(rates) <= 0 or len(set(rates)) < len(rates):
            given = " ".join(f"{rate:g}" for rate in rates)
            raise UserError(f"--rates {given}: must be different positive numbers, such as 0.01 0.1")
        return chosen

    def arms(self) -> Iterator[Arm]:
        """All networks, activations and places of BatchNorm."""
        for net in self.chosen.nets:
            for place in PLACES:
                for name in self.chosen.activations:
                    yield Arm(net, ACTIVATIONS[name], place)

    def config(self, arm: Arm, rate: float, seed: int, side: int) -> Config:
        """As the paper trains for its figure 1: a constant rate, no regularisation.

        `side` is the images' smaller side in pixels.
        """
        chosen = self.chosen
        options = {**arm.net.fields.get("model_options", {}), **PLACES[arm.place]}
        return Config(
            model=arm.net.model,
            model_options={
                **options,
                "activation": arm.activation.name,
                "kernel_init": arm.activation.kernel_init,
            },
            data=chosen.data,
            downsample=2 if self.preset == "quick" and side >= 28 else 1,
            augment="none",
            normalize="channel",
            seed=seed,
            steps=chosen.steps,
            batch_size=32 if self.preset == "smoke" else 128,
            learning_rate=rate,
            schedule="constant",
            weight_decay=0.0,
            evaluate_every=chosen.steps,
            checkpoint_every=chosen.steps,
        )

    def pilots(self, side: int) -> dict[str, Config]:
        """Every network at every rate, with seed 0."""
        return {
            arm.run(rate, 0): self.config(arm, rate, 0, side)
            for arm in self.arms()
            for rate in self.chosen.rates
        }

    def others(self, tried: Sequence[Tried], side: int) -> dict[str, Config]:
        """Every network at its best rate, with the other seeds."""
        return {
            one.arm.run(one.rate, seed): self.config(one.arm, one.rate, seed, side)
            for one in tried
            for seed in range(1, self.chosen.seeds)
        }

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that decide the numbers, as JSON."""
        return {**super().settings, "threshold": THRESHOLD}
