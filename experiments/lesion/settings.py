"""Settings: the networks, the sizes of the presets, the command line."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..settings import WARMED_UP, WIDTHS, Net, NetsArgs, narrow

Statistics = Literal["running", "reestimated"]
STATISTICS: tuple[Statistics, ...] = ("running", "reestimated")
"""BatchNorm's averages: as they were trained, or from training images through each lesioned network."""


# Pixels of variance 1: without BatchNorm their size matters, and the papers' nets had raw pixels.
VGG = Net(
    f"{__package__}.vgg:vgg11",
    {"model_options": {"width": WIDTHS["quick"]}, "downsample": 1, "normalize": "channel"},
)


@dataclasses.dataclass(frozen=True)
class Preset:
    """How large a preset is.

    Attributes:
        data: a data set.
        seeds: runs of each network.
        steps: of each run.
        nets: what is trained.
        deleted: numbers of blocks to delete at random, where a network has more.
        taus: Kendall's rank correlations with the trained order, where it has enough equal blocks.
        draws: of blocks for each number, and of orders for each correlation.
        calibration: training images from which averages are estimated.
    """

    data: str
    seeds: int
    steps: int
    nets: tuple[Net, ...]
    deleted: tuple[int, ...] = (2, 3, 5, 7, 10, 14)
    taus: tuple[float, ...] = (0.98, 0.95, 0.9, 0.8, 0.7, 0.6)
    draws: int = 4
    calibration: int = 1_024


PRESETS = {
    "quick": Preset(
        "fashion_mini",
        3,
        600,
        (*narrow("quick", "resnet56", "resnet20", "plain20"), VGG, Net("highway20")),
    ),
    "paper": Preset(
        "cifar10",
        3,
        64_000,
        (
            Net("resnet110", WARMED_UP),
            Net("plain56"),
            Net("resnet20"),
            Net("plain20"),
            Net(
                "vgg16",
                {"model_options": {"head": "cifar", "kernel_init": "torchvision"}}
                | {"normalize": "channel", "learning_rate": 0.05, "weight_decay": 5e-4},
            ),
            Net("highway_cifar19", {"learning_rate": 0.025, "nesterov": True}),
        ),
        draws=20,
        calibration=5_000,
    ),
    "smoke": Preset(
        "synthetic", 1, 8, narrow("smoke", "resnet14", "plain8"), (2,), (0.8,), draws=2, calibration=64
    ),
}


@dataclasses.dataclass(frozen=True)
class Args(NetsArgs):
    """Train networks, then delete and reorder their blocks."""

    draws: int | None = None
    """Random choices for each number of deleted blocks, and for each degree of disorder; quick has 4."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/lesion")
    """Folder for the runs, the arrays, the figures, the summary and the report."""

    @property
    def chosen(self) -> Preset:
        """The preset with the command line's changes; raises UserError for impossible ones."""
        return self.preset_of(PRESETS, draws=self.draws)
