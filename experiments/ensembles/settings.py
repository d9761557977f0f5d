"""Settings: the networks, the sizes of the presets, the command line."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from cnnjax.config import CheckpointPolicy, Config

from ..settings import Net, NetsArgs, narrow


@dataclasses.dataclass(frozen=True)
class Preset:
    """How large a preset is.

    Attributes:
        data: a data set.
        seeds: members of the ensemble of each network.
        steps: of each run.
        nets: what is trained.
        checkpoints: of each run, at equal distances, that are averaged from the last one backwards.
        deleted: numbers of blocks to delete at random, where a network has more.
        draws: random choices for each number, which also are averaged.
        calibration: training images from which BatchNorm's averages are estimated for each choice.
    """

    data: str
    seeds: int
    steps: int
    nets: tuple[Net, ...]
    checkpoints: int = 4
    deleted: tuple[int, ...] = (1, 2, 3, 4, 6)
    draws: int = 4
    calibration: int = 512


PRESETS = {
    "quick": Preset("fashion_mini", 5, 200, narrow("quick", "resnet20", "plain20")),
    "paper": Preset(
        "cifar10", 5, 64_000, (Net("resnet56"), Net("resnet20"), Net("plain20")), calibration=5_000, draws=20
    ),
    "smoke": Preset("synthetic", 3, 8, narrow("smoke", "resnet8"), 2, (1,), draws=2, calibration=32),
}


@dataclasses.dataclass(frozen=True)
class Args(NetsArgs):
    """Average networks of several seeds, checkpoints of one run, and networks without some blocks."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/ensembles")
    """Folder for the runs, the arrays, the figure, the summary and the report."""

    @property
    def chosen(self) -> Preset:
        """The preset with the command line's changes; raises UserError for impossible ones."""
        return self.preset_of(PRESETS)

    def configs(self, flips: bool, side: int) -> dict[str, Config]:
        """As for all experiments on trained networks, with a checkpoint at each eighth of the steps."""
        eighth = max(1, self.chosen.steps // 8)
        return {
            name: dataclasses.replace(config, checkpoint_every=eighth)
            for name, config in super().configs(flips, side).items()
        }

    @property
    def keep(self) -> CheckpointPolicy:
        """All checkpoints."""
        return CheckpointPolicy(every=max(1, self.chosen.steps // 8))
