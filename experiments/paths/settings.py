"""Settings: the networks, the sizes of the presets, the command line."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..settings import WARMED_UP, WIDTHS, Net, NetsArgs, narrow


def short(model: str, opened: int, width: int, **fields: Any) -> Net:
    """A net trained with so many open blocks in each step."""
    options = {"model": model, "opened": opened, "width": width}
    return Net(f"{__package__}.short:short_paths", {"model_options": options, **fields})


@dataclasses.dataclass(frozen=True)
class Preset:
    """How large a preset is.

    Attributes:
        data: a data set.
        seeds: runs of each network.
        steps: of each run.
        nets: what is trained.
        images: test images by which gradients are taken.
        draws: random paths of each length.
    """

    data: str
    seeds: int
    steps: int
    nets: tuple[Net, ...]
    images: int = 32
    draws: int = 8


# Veit et al. open 23 of the 54 blocks of ResNet-110: 43 %.
PRESETS = {
    "quick": Preset(
        "fashion_mini",
        3,
        600,
        (*narrow("quick", "resnet56", "resnet20"), short("resnet56", 12, WIDTHS["quick"])),
    ),
    "paper": Preset(
        "cifar10",
        3,
        64_000,
        (
            Net("resnet110", WARMED_UP),
            Net("resnet56"),
            Net("resnet20"),
            short("resnet110", 23, 16, **WARMED_UP),
        ),
        images=128,
        draws=64,
    ),
    "smoke": Preset(
        "synthetic",
        1,
        8,
        (*narrow("smoke", "resnet8"), short("resnet8", 2, WIDTHS["smoke"])),
        images=4,
        draws=2,
    ),
}


@dataclasses.dataclass(frozen=True)
class Args(NetsArgs):
    """Measure the gradient of residual networks by the lengths of paths, at initialisation and trained."""

    images: int | None = None
    """Test images by which gradients are taken; quick has 32."""
    draws: int | None = None
    """Random paths of each length; quick has 8."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/paths")
    """Folder for the runs, the arrays, the figure, the summary and the report."""

    @property
    def chosen(self) -> Preset:
        """The preset with the command line's changes; raises UserError for impossible ones."""
        return self.preset_of(PRESETS, images=self.images, draws=self.draws)
