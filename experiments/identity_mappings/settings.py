"""Settings: the networks, the sizes of the presets, the command line."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import tyro

from cnnjax.errors import UserError

from ..settings import WARMED_UP, WIDTHS, Net, NetsArgs, preset_with
from .variants import ORDERS, ORIGINAL, Variant, shortcuts


@dataclasses.dataclass(frozen=True)
class Preset:
    """How large a preset is.

    Attributes:
        data: a data set.
        seeds: runs of each network.
        steps: of each run.
        depth: of all networks.
        gate_biases: with which gates start.
        width: filters of the first stage.
        deeper: depth of further networks, in the orders of table 2.
        images: test images of which signal and gradient are measured.
        downsample: side of the squares of pixels to average, if not the recipe's.
        nets: what is trained, if not the paper's variants.
    """

    data: str
    seeds: int
    steps: int
    depth: int
    gate_biases: tuple[float, ...]
    width: int
    deeper: int | None = None
    images: int = 128
    downsample: int | None = None
    nets: tuple[Net, ...] = ()


PRESETS = {
    "quick": Preset("fashion_mini", 3, 240, 56, (0, -6), WIDTHS["quick"], downsample=4),
    "paper": Preset("cifar10", 5, 64_000, 110, (0, -1, -2, -3, -4, -5, -6, -7), 16, 164, images=512),
    "smoke": Preset("synthetic", 1, 8, 8, (-6,), WIDTHS["smoke"], images=4),
}


@dataclasses.dataclass(frozen=True)
class Args(NetsArgs):
    """Train residual networks with other shortcuts and orders of layers; measure what the shortcuts carry."""

    depth: int | None = None
    """Depth, 6n + 2; quick has 56."""
    gate_biases: tuple[float, ...] | None = None
    """Initial biases of the gates; quick has 0 and -6."""
    images: int | None = None
    """Test images of which signal and gradient are measured; quick has 128."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/identity_mappings")
    """Folder for the runs, the arrays, the figures, the summary and the report."""

    @property
    def chosen(self) -> Preset:
        """The preset with the command line's changes; raises UserError for impossible ones."""
        chosen = self.preset_of(PRESETS, images=self.images, depth=self.depth)
        chosen = preset_with(chosen, gate_biases=self.gate_biases)
        biases = " ".join(f"{bias:g}" for bias in chosen.gate_biases)
        if len(set(chosen.gate_biases)) < len(chosen.gate_biases):
            raise UserError(f"--gate-biases {biases}: one comes twice")
        if self.depth is not None and (self.depth < 8 or self.depth % 6 != 2):
            raise UserError(f"--depth {self.depth}: must be 6n + 2, such as 20 or 56")
        return chosen if chosen.nets else dataclasses.replace(chosen, nets=tuple(_nets(self.preset, chosen)))


def variants(chosen: Preset) -> dict[str, tuple[int, Variant]]:
    """The paper's variants with their depths, by the name of the network."""
    first = (*shortcuts(chosen.gate_biases), *ORDERS)
    found = {variant.name: (chosen.depth, variant) for variant in first}
    if chosen.deeper is not None:
        found |= {f"{one.name}_{chosen.deeper}": (chosen.deeper, one) for one in (ORIGINAL, *ORDERS)}
    return found


def _nets(preset: str, chosen: Preset) -> Iterable[Net]:
    for name, (depth, variant) in variants(chosen).items():
        fields: dict[str, Any] = {"model_options": {"width": chosen.width, **variant.options}}
        if preset == "paper":  # small presets have a warm-up of their own
            fields |= WARMED_UP
        if chosen.downsample is not None:
            fields["downsample"] = chosen.downsample
        yield Net(variant.model.format(depth=depth), fields, title=name)
