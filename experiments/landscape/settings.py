"""Settings: the networks, the sizes of the presets, the runs, the command line."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro

from cnnjax.config import Config
from cnnjax.errors import UserError

from ..settings import Net, NetsArgs, narrow, recipe

CHECKPOINTS = 15
"""Of each run, from which its trajectory is taken."""
ARMS = ("small batch", "large batch, equal epochs", "large batch, equal steps")


@dataclasses.dataclass(frozen=True)
class Preset:
    """How large a preset is.

    Attributes:
        data: a data set.
        seeds: runs of each network.
        steps: of each run.
        nets: what is trained. The first is also trained with other batch sizes, and its seeds are connected.
        batches: the small and the large batch size.
        batch_steps: steps with the small one.
        curve_steps: steps in which the curve between two seeds is trained.
        images: training images whose loss is drawn.
        calibration: training images from which BatchNorm's averages are estimated, where they are.
        points: along each axis of a plane, and along a line.
        plane_points: along each axis of the plane of a trajectory.
        lanczos: steps for each spectrum.
    """

    data: str
    seeds: int
    steps: int
    nets: tuple[Net, ...]
    batches: tuple[int, int] = (32, 256)
    batch_steps: int = 300
    curve_steps: int = 200
    images: int = 256
    calibration: int = 256
    points: int = 51
    plane_points: int = 13
    lanczos: int = 30


LI: Mapping[str, Any] = {
    "boundaries": (58_650, 87_975, 107_525),  # epochs 150, 225 and 275, of 391 steps
    "nesterov": True,
    "weight_decay": 5e-4,
    "decay": "all",
}
"""Li et al. 2018, section 5: 300 epochs with batches of 128."""

PRESETS = {
    "quick": Preset(
        "fashion_mini", 3, 300, narrow("quick", "resnet20", "plain20", "resnet56", "plain56"), points=25
    ),
    "paper": Preset(
        "cifar10",
        3,
        117_300,
        tuple(Net(name, LI) for name in ("resnet20", "plain20", "resnet56", "plain56")),
        batches=(128, 8_192),
        batch_steps=117_300,
        curve_steps=78_200,  # Garipov et al.: 200 epochs
        images=50_000,
        calibration=5_000,
        lanczos=80,
    ),
    "smoke": Preset(
        "synthetic",
        2,
        8,
        narrow("smoke", "resnet8"),
        batches=(8, 32),
        batch_steps=8,
        curve_steps=4,
        images=16,
        calibration=16,
        points=3,
        plane_points=3,
        lanczos=3,
    ),
}


@dataclasses.dataclass(frozen=True)
class Args(NetsArgs):
    """Train networks, and draw the loss around them."""

    points: int | None = None
    """Points along each axis of a plane; quick has 25, the paper 51."""
    images: int | None = None
    """Training images whose loss is drawn; quick has 256."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/landscape")
    """Folder for the runs, the arrays, the figures, the summary and the report."""

    @property
    def chosen(self) -> Preset:
        """The preset with the command line's changes; raises UserError for impossible ones."""
        chosen = self.preset_of(PRESETS, points=self.points, images=self.images)
        if chosen.points < 3 or chosen.points % 2 == 0:
            raise UserError(f"--points {chosen.points}: must be odd and at least 3, for the centre")
        return chosen


def pairs(seeds: int) -> list[tuple[int, int]]:
    """The seeds whose minima are connected: each with the next one, and the last with the first."""
    return [(0, 1)] if seeds == 2 else [(one, (one + 1) % seeds) for one in range(seeds if seeds > 1 else 0)]


@dataclasses.dataclass(frozen=True)
class Runs:
    """All runs, a Config by name.

    Attributes:
        nets: the networks, each seed.
        batches: the first network with other batch sizes.
        curves: between the minima of two of its seeds.
        arms: names of `batches` by arm, one for each seed.
    """

    nets: Mapping[str, Config]
    batches: Mapping[str, Config]
    curves: Mapping[str, Config]
    arms: Mapping[str, list[str]]


def plan(args: Args, flips: bool, side: int) -> Runs:
    """The Config of each run; `flips` and `side` are those of `recipe`."""
    chosen = args.chosen
    every = max(1, chosen.steps // CHECKPOINTS)
    nets = {
        name: dataclasses.replace(config, checkpoint_every=every)
        for name, config in args.configs(flips, side).items()
    }
    first = chosen.nets[0]

    def config(steps: int, seed: int, **fields: Any) -> Config:
        """A run of the first network, with a schedule that is as much longer or shorter."""
        own = {"model": first.model, **first.fields, "seed": seed, **fields}
        if "boundaries" in own:
            own["boundaries"] = tuple(step * steps // chosen.steps for step in own["boundaries"])
        return dataclasses.replace(recipe(args.preset, chosen.data, steps, flips, side), **own)

    small, large = chosen.batches
    equal_epochs = max(1, round(chosen.batch_steps * small / large))
    sizes = zip((small, large, large), (chosen.batch_steps, equal_epochs, chosen.batch_steps), strict=True)
    batches: dict[str, Config] = {}
    arms: dict[str, list[str]] = {}
    for arm, (size, steps) in zip(ARMS, sizes, strict=True):
        arms[arm] = [f"batch{size}_steps{steps}_seed{seed}" for seed in range(chosen.seeds)]
        batches |= {name: config(steps, seed, batch_size=size) for seed, name in enumerate(arms[arm])}
    curves = {
        f"curve_{one}_{other}": config(
            chosen.curve_steps,
            one,
            model=f"{__package__}.curve:curve",
            model_options={"ends": [str(args.out / first.run(seed)) for seed in (one, other)]},
            warmup_steps=0,
        )
        for one, other in pairs(chosen.seeds)
    }
    return Runs(nets, batches, curves, arms)
