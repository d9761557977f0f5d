"""Settings: depths, sizes of the presets, the command line, and the runs they make."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro

from cnnjax.config import Config
from cnnjax.errors import UserError

from ..settings import WIDTHS, Net, TrainingArgs, check_counts, check_names, preset_with, recipe
from .remedies import NAMES, REMEDIES, UNTREATED, Remedy

FIRST_STEPS = (0, 1, 2, 5, 10, 20)
"""Gradients are measured after so many steps."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """How large a preset is.

    Attributes:
        data: a data set.
        seeds: runs of each kind.
        depths: of the shallow net, and of the deep ones that the remedies are for.
        steps: of a run, but for those that train longer.
        warmup: steps over which the rate rises, where it does.
        batch_size: of a step.
        width: filters of the first stage; None for the networks' own.
        remedies: what is tried.
    """

    data: str
    seeds: int
    depths: tuple[int, ...]
    steps: int
    warmup: int
    batch_size: int
    width: int | None
    remedies: tuple[str, ...] = NAMES


PRESETS = {
    "quick": Preset("fashion_mini", 3, (20, 56), 300, 100, 32, WIDTHS["quick"]),
    "paper": Preset("cifar10", 3, (20, 56, 110), 64_000, 400, 128, None),
    "smoke": Preset("synthetic", 1, (8, 14), 4, 2, 16, WIDTHS["smoke"], ("clipping", "layer_norm")),
}


@dataclasses.dataclass(frozen=True)
class Args(TrainingArgs):
    """Train a deep plain net with one remedy at a time."""

    depths: tuple[int, ...] | None = None
    """The shallow plain net's, then those of the deep ones, each 6n + 2; quick has 20 and 56."""
    models: tuple[str, ...] = ()
    """Networks of your own instead, such as path/net.py:Net: with the remedies that change training only."""
    remedies: tuple[str, ...] | None = None
    """Remedies to try; all by default, in smoke two."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/degradation_causes")
    """Folder for the runs, the figures, the summary and the report."""

    @property
    def chosen(self) -> Preset:
        """The preset with the command line's changes; raises UserError for impossible ones."""
        fields = ("data", "seeds", "depths", "steps", "remedies")
        chosen = preset_with(PRESETS[self.preset], **{name: getattr(self, name) for name in fields})
        check_counts(seeds=chosen.seeds, steps=chosen.steps)
        if unknown := [name for name in chosen.remedies if name not in NAMES]:
            raise UserError(f"--remedies {unknown[0]!r}: must be of {', '.join(NAMES)}")
        depths = " ".join(map(str, chosen.depths))
        if any(depth < 8 or (depth - 2) % 6 for depth in chosen.depths):
            raise UserError(f"--depths {depths}: each must be 6n + 2, such as 20 and 56")
        if len(chosen.depths) < 2 or len(set(chosen.depths)) < len(chosen.depths):
            raise UserError(f"--depths {depths}: must be two or more, the shallow net's and other ones")
        if min(chosen.depths) != chosen.depths[0]:
            raise UserError(f"--depths {depths}: the shallow net's must come first")
        check_names([Net(model) for model in self.models])
        return chosen

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that decide the numbers, as JSON."""
        chosen = dataclasses.asdict(self.chosen)
        tried = [remedy.name for remedy in self.tried]
        own = {"models": list(self.models), "remedies": tried, "depths": list(chosen["depths"])}
        return {"preset": self.preset, **chosen, **own}

    @property
    def tried(self) -> tuple[Remedy, ...]:
        """The remedies, in order."""
        chosen = [remedy for remedy in REMEDIES if remedy.name in self.chosen.remedies]
        return tuple(remedy for remedy in chosen if not self.models or remedy.kind == "training")


@dataclasses.dataclass(frozen=True)
class Arm:
    """A network with one remedy.

    Attributes:
        patient: the net that the remedy is for, such as "plain56"; that of the shallow one is itself.
        network: the name of what is trained, which has another one if the remedy changes it.
        remedy: what is changed.
        config: how it is trained; of seed 0.
        shallow: whether it is the shallow net, which the others are compared with.
    """

    patient: str
    network: str
    remedy: Remedy
    config: Config
    shallow: bool = False

    def run(self, seed: int) -> str:
        """The folder of its run with this seed."""
        return f"{self.patient}_{self.remedy.name}_seed{seed}"


def plan(args: Args, flips: bool, side: int) -> list[Arm]:
    """All arms, the shallow net's first; `flips` and `side` are those of `recipe`."""
    chosen = args.chosen

    def arm(patient: str, remedy: Remedy, network: str, options: dict[str, Any]) -> Arm:
        steps = chosen.steps * remedy.length
        shared = recipe(args.preset, chosen.data, steps, flips, side)
        fields = {
            "model": network,
            "model_options": options,
            "batch_size": chosen.batch_size,
            "learning_rate": round(remedy.rate * shared.learning_rate, 9),
            "warmup_steps": chosen.warmup if remedy.warmed_up else 0,
            "evaluate_every": max(shared.evaluate_every, steps // 2),
            "checkpoint_every": max(shared.checkpoint_every, steps // 2),
        }
        config = dataclasses.replace(shared, **{**fields, **remedy.fields})
        return Arm(patient, network.rpartition(":")[2], remedy, config)

    if args.models:
        nets = [Net(model) for model in args.models]
        return [arm(net.name, remedy, net.model, {}) for net in nets for remedy in (UNTREATED, *args.tried)]
    # In a loop over depth 56 layers take a fifth of the time to compile, which is most of a short run's.
    width = {} if chosen.width is None else {"width": chosen.width, "loop": "scan"}
    shallow, *deep = chosen.depths
    control = arm(f"plain{shallow}", UNTREATED, f"plain{shallow}", width)
    arms = [dataclasses.replace(control, shallow=True)]
    for depth in deep:
        for remedy in (UNTREATED, *args.tried):
            network = remedy.model.format(remedy.depth(depth))
            arms.append(arm(f"plain{depth}", remedy, network, {**width, **remedy.options}))
    return arms
