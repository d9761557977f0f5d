"""Sizes of the presets, and the command line."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from cnnjax.errors import UserError

from ..settings import check_counts, preset_with

EXAMINED = (0, 1, 2, 5, 10)
"""The networks are examined after so many steps."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """Sizes; images are those of `data`, downsampled by 2."""

    data: str
    depths: tuple[int, ...]
    width: int
    batch_size: int
    steps: int
    families: tuple[str, ...] = ()
    seeds: int = 1


PRESETS = {
    "quick": Preset("fashion_mini", (8, 20, 44), 4, 32, 300),
    "paper": Preset("fashion_mini", (8, 20, 56, 110), 8, 64, 300, seeds=3),
    "smoke": Preset("fashion_mini", (8,), 2, 8, 12, ("residual MLP",)),
}


@dataclasses.dataclass(frozen=True)
class Args:
    """Measure what tells whether networks train."""

    preset: Literal["quick", "paper", "smoke"] = "quick"
    """quick: a quarter of an hour on two cores; paper: wider and deeper, 3 seeds; smoke: seconds."""
    steps: int | None = None
    """Training steps of each network."""
    families: tuple[str, ...] | None = None
    """Families to study; all by default."""
    seeds: int | None = None
    """Number of seeds: 0, 1, 2, ..."""
    workers: int | None = None
    """Networks to train at once, each on its share of the cores; by default one per core on a CPU."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/trainability")
    """Folder for the measurements, the figures, the summary and the report."""

    @property
    def chosen(self) -> Preset:
        """The preset with the command line's changes; raises UserError for impossible ones."""
        chosen = preset_with(PRESETS[self.preset], steps=self.steps, families=self.families, seeds=self.seeds)
        if chosen.steps <= EXAMINED[-1]:
            raise UserError(f"--steps {chosen.steps}: must be more than {EXAMINED[-1]}, which are examined")
        check_counts(seeds=chosen.seeds)
        return chosen

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that decide the numbers, as JSON."""
        chosen = dataclasses.asdict(self.chosen)
        return {"preset": self.preset, **chosen, "depths": list(chosen["depths"]),
                "families": list(chosen["families"])}  # fmt: skip
