"""Flags that experiments share; nothing here imports jax, so that a mistyped flag is reported immediately."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from cnnjax.config import RUNNING, MultiRunMode, Running

Preset = TypeVar("Preset")


@dataclasses.dataclass(frozen=True)
class TrainingArgs:
    """The flags of every experiment that trains networks of growing depth."""

    preset: Literal["quick", "paper", "smoke"] = "quick"
    """quick: minutes on a laptop; paper: CIFAR-10, 64,000 steps, 3 seeds; smoke: seconds."""
    data: str | None = None
    """Data set; quick has fashion_mini (embedded), paper has cifar10, smoke has synthetic."""
    data_dir: Path | None = None
    """Folder that holds the data set's official archives."""
    verify: bool = True
    """Whether archives must have the official checksums."""
    depths: tuple[int, ...] | None = None
    """Depths, each 6n + 2; quick has 20 and 56."""
    seeds: int | None = None
    """Number of seeds: 0, 1, 2, ..."""
    run_seeds: MultiRunMode = "sequential"
    """Train seeds one after the other, in one program, or in one divided over devices; same numbers."""
    steps: int | None = None
    """Gradient steps of each run."""
    workers: int | None = None
    """Networks to train at once, each on its share of the cores; by default one per core on a CPU."""
    part: str | None = None
    """One of several jobs that share the folder, 0/4 to 3/4; the one to end last draws the figure."""
    running: Annotated[Running, tyro.conf.arg(name="")] = RUNNING

    @property
    def training(self) -> dict[str, Any]:
        """The options of `experiments.runner.run_all`: how to train; they change no numbers."""
        return {
            "how": self.run_seeds,
            "workers": self.workers,
            "part": self.part,
            **vars(self.running),
        }


def preset_with(preset: Preset, **given: Any) -> Preset:
    """A preset, which is a dataclass, with those fields replaced that were given."""
    fields = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(preset, **fields)  # pyright: ignore[reportArgumentType]
