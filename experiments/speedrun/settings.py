"""Settings: the arms, the sizes of the presets, the command line."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro

from cnnjax.config import Config
from cnnjax.errors import UserError
from cnnjax.papers import recipe as paper

from ..settings import Net, NetsArgs, narrow, preset_with, recipe

FAST = "airbench"
WITHOUT: Mapping[str, Mapping[str, Any]] = {
    "whitened first layer": {"freeze": ("*/scale",), "model_options": {"whitened": False}},
    "alternating flips": {"augment": "translate_flip"},
    "smoothed labels": {"label_smoothing": 0.0},
    "lookahead": {"lookahead": 0},
    "fast biases": {"groups": {}},
}
"""A part of the recipe, and the fields without it. Flips are then drawn anew in each epoch."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """How large a preset is.

    Attributes:
        data: a data set.
        seeds: runs of each arm.
        passes: over the training images, for each arm.
        without: passes in which the parts are left out, one of `passes`.
        batch_size: of all arms; the recipe's rate goes with it.
        width: filters of the fast network's first group.
        nets: what is trained with an ordinary recipe.
    """

    data: str
    seeds: int
    passes: tuple[int, ...]
    without: int
    batch_size: int
    width: int
    nets: tuple[Net, ...]


PRESETS = {
    "quick": Preset("fashion_mini", 5, (1, 2, 4, 8), 4, 128, 16, narrow("quick", "resnet20")),
    "paper": Preset(
        "cifar10", 10, (5, 10, 20, 40), 10, 1024, 64, (Net("resnet20"), Net("resnet56"), Net("wrn16_4"))
    ),
    "smoke": Preset("synthetic", 2, (1, 2), 1, 64, 4, narrow("smoke", "resnet8")),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Arm:
    """What is trained, for how long.

    Attributes:
        title: the network's name, or the part of the fast recipe that is left out.
        passes: over the training images.
        fields: of the Config.
        whole: whether this is no network without a part.
    """

    title: str
    passes: int
    fields: Mapping[str, Any]
    whole: bool = True

    def run(self, seed: int) -> str:
        """The folder of its run with this seed."""
        name = self.title if self.whole else f"without {self.title}"
        return f"{name.replace(' ', '_')}_passes{self.passes}_seed{seed}"


@dataclasses.dataclass(frozen=True)
class Args(NetsArgs):
    """Train by the recipe of a speed record, whole and without each of its parts, and by ordinary ones."""

    steps: tyro.conf.Suppress[int | None] = None
    passes: tuple[int, ...] | None = None
    """Passes over the training images; quick has 1, 2, 4 and 8."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/speedrun")
    """Folder for the runs, the figure, the summary and the report."""

    @property
    def chosen(self) -> Preset:
        """The preset with the command line's changes; raises UserError for impossible ones."""
        chosen = preset_with(self.preset_of(PRESETS), passes=self.passes)
        if not chosen.passes or min(chosen.passes) < 1 or len(set(chosen.passes)) < len(chosen.passes):
            given = " ".join(map(str, chosen.passes))
            raise UserError(f"--passes {given}: must be different whole numbers from 1 on, such as 1 2 4")
        if chosen.without not in chosen.passes:
            chosen = dataclasses.replace(chosen, without=min(chosen.passes))
        return chosen

    def arms(self, flips: bool) -> Iterator[Arm]:
        """The fast network, then it without each part, then the others."""
        chosen = self.chosen
        for passes in chosen.passes:
            yield Arm(FAST, passes, {})
        for part, fields in WITHOUT.items():
            if flips or "augment" not in fields:
                yield Arm(part, chosen.without, fields, whole=False)
        for net in chosen.nets:
            for passes in chosen.passes:
                yield Arm(net.name, passes, {"model": net.model, **net.fields})

    def config(self, arm: Arm, seed: int, images: int, flips: bool, side: int) -> Config:
        """Of one run; there are so many training `images`, and `flips` and `side` are those of `recipe`."""
        chosen = self.chosen
        steps = max(1, arm.passes * images // chosen.batch_size)
        shared = dataclasses.replace(
            recipe(self.preset, chosen.data, steps, flips, side),
            batch_size=chosen.batch_size,
            evaluate_every=steps,
            checkpoint_every=steps,
            seed=seed,
        )
        if "model" in arm.fields:
            return dataclasses.replace(shared, **arm.fields)
        fast = paper(FAST)
        options = {"width": chosen.width, **arm.fields.get("model_options", {})}
        of_task = ("data", "downsample", "batch_size", "steps", "evaluate_every", "checkpoint_every", "seed")
        return dataclasses.replace(
            fast,
            **{name: getattr(shared, name) for name in of_task},
            learning_rate=fast.learning_rate * chosen.batch_size / fast.batch_size,
            augment=arm.fields.get("augment", fast.augment) if flips else "none",
            **{k: v for k, v in arm.fields.items() if k not in ("augment", "model_options")},
            model_options=options,
        )
