"""Settings: families of nets, the sizes of the presets, the command line."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from cnnjax.errors import UserError
from cnnjax.probes import theory

from ..settings import TrainingArgs, check_counts, preset_with

Trained = Literal["plain", "resnet"]


@dataclasses.dataclass(frozen=True)
class Family:
    """Nets that differ only in depth, and theory's factor per layer for their gradient's norm.

    `factor` is a label and a function, since it may take an integral.
    """

    template: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    factor: tuple[str, Callable[[], float]] | None = None

    def model(self, depth: int) -> str:
        """Its name for `build`."""
        if self.template == "looks_linear":
            depth += (2 - depth) % 4  # it has 4n + 2 layers, the others 6n + 2
        return f"{self.template}{depth}"


def _without_norm(activation: str, kernel_init: str, factor: tuple[str, Callable[[], float]]) -> Family:
    options = {"norm": "none", "activation": activation, "kernel_init": kernel_init}
    return Family("plain", options, factor)


def _mean_field(activation: str) -> tuple[str, Callable[[], float]]:
    return "mean field", lambda: theory.mean_field(activation, 1.0).growth


FAMILIES = {
    "plain": Family("plain", {}, ("1.211 per layer", lambda: theory.BATCH_NORM_GROWTH)),
    "resnet": Family("resnet"),
    "preresnet": Family("preresnet"),
    "plain, no norm": _without_norm("relu", "he", ("1 per layer", lambda: 1.0)),
    "plain, no norm, Glorot": _without_norm("relu", "glorot", _mean_field("relu")),
    "resnet, no norm": Family("resnet", {"norm": "none"}),
    "plain, tanh, no norm": _without_norm("tanh", "glorot", _mean_field("tanh")),
    "plain, sigmoid, no norm": _without_norm("sigmoid", "glorot", _mean_field("sigmoid")),
    "looks-linear, no norm": Family("looks_linear", {}, ("1 per layer", lambda: 1.0)),
}


@dataclasses.dataclass(frozen=True)
class Preset:
    """What is measured, on full-size images at initialisation and `downsample`d ones in training."""

    data: str
    downsample: int
    width: int
    batch_size: int
    depths: tuple[int, ...]
    seeds: int
    steps: int


PRESETS = {
    "quick": Preset("fashion_mini", 2, 16, 64, (20, 56), 2, 21),
    "paper": Preset("cifar10", 1, 16, 128, (20, 32, 44, 56, 110), 3, 64_000),
    "smoke": Preset("synthetic", 2, 4, 16, (8,), 1, 2),
}


@dataclasses.dataclass(frozen=True)
class Args(TrainingArgs):
    """Measure the gradients of every layer, at initialisation and along training."""

    families: tuple[str, ...] = tuple(FAMILIES)
    """Families to measure at initialisation."""
    trained: tuple[Trained, ...] = ("plain", "resnet")
    """Families to measure along training; --steps 0 trains nothing."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/gradient_norms")
    """Folder for the runs, the arrays, the figures, the summary and the report."""

    @property
    def chosen(self) -> Preset:
        """The preset with the command line's changes; raises UserError for impossible ones."""
        if unknown := [name for name in self.families if name not in FAMILIES]:
            raise UserError(f"--families {unknown[0]!r}: must be of {'; '.join(FAMILIES)}")
        chosen = preset_with(
            PRESETS[self.preset], depths=self.depths, seeds=self.seeds, steps=self.steps, data=self.data
        )
        if not chosen.depths:
            raise UserError("--depths: there must be one")
        check_counts(seeds=chosen.seeds)
        if chosen.steps < 0:
            raise UserError(f"--steps {chosen.steps}: must not be negative")
        if not self.families and not (self.trained and chosen.steps):
            raise UserError("nothing to measure: --families or --trained, with --steps, must have one")
        return chosen

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that decide the numbers, and which numbers are requested, as JSON."""
        chosen = {**dataclasses.asdict(self.chosen), "depths": list(self.chosen.depths)}
        families = {"families": list(self.families), "trained": list(self.trained)}
        return {"preset": self.preset, **chosen, **families}
