"""Flags that experiments share; nothing here imports jax, so that a mistyped flag is reported immediately."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar

import tyro

from cnnjax.config import Config, MultiRunMode
from cnnjax.errors import UserError
from cnnjax.run_flags import RUNNING, Running

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


WIDTHS = {"quick": 8, "smoke": 4}
"""Filters of the first stage of residual and plain nets; the paper has 16."""
WARMED_UP: Mapping[str, Any] = {"warmup_steps": 400, "warmup": "tenth"}
"""He et al. 2015, section 4.2: their 110-layer net begins at a tenth of the rate, for about 400 steps."""


def recipe(preset: str, data: str, steps: int, flips: bool, side: int) -> Config:
    """How He et al. 2015, section 4.2, train their CIFAR nets ("paper"), or a small version of that.

    `flips` says whether a mirrored image keeps its label, `side` is the images' smaller side in pixels.
    """
    if preset == "paper":
        return Config(
            data=data,
            augment="crop_flip" if flips else "crop",
            steps=steps,
            boundaries=(steps // 2, steps * 3 // 4),
            evaluate_every=400,
            checkpoint_every=1_000,
        )
    eighth = max(1, steps // 8)
    return Config(
        data=data,
        downsample=2 if preset == "quick" and side >= 28 else 1,
        augment="flip" if flips else "none",
        steps=steps,
        batch_size=128 if preset == "quick" else 32,
        learning_rate=0.05,
        schedule="cosine",
        warmup_steps=eighth,
        evaluate_every=eighth,
        checkpoint_every=eighth,
    )


@dataclasses.dataclass(frozen=True)
class Net:
    """A network to train, and the fields of its Config that differ from the recipe.

    `title` tells several variants of one model apart.
    """

    model: str
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    title: str = ""

    @property
    def name(self) -> str:
        """The title; without one the model's name, or for one in a file or module that of the class."""
        return self.title or self.model.rpartition(":")[2]

    @property
    def entry(self) -> tuple[str, dict[str, Any]]:
        """Its name and its fields among the settings of an experiment."""
        if self.title:
            return self.title, {"model": self.model, **self.fields}
        return self.model, dict(self.fields)

    def run(self, seed: int) -> str:
        """The folder of its run with this seed."""
        return f"{self.name}_seed{seed}"


def narrow(preset: str, *names: str) -> tuple[Net, ...]:
    """Residual and plain nets with the filters of a small preset."""
    return tuple(Net(name, {"model_options": {"width": WIDTHS[preset]}}) for name in names)


def check_counts(**counts: int | None) -> None:
    """Raise UserError unless each number that was given, by the name of its flag, is at least 1."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise UserError(f"--{name} {count}: must be at least 1")


def check_names(nets: Sequence[Net]) -> None:
    """Raise UserError unless the networks have names of their own."""
    if len({net.name for net in nets}) < len(nets):
        raise UserError("--models: two have the same name; give each class its own")


def preset_with(preset: Preset, **given: Any) -> Preset:
    """A preset, which is a dataclass, with those fields replaced that were given."""
    fields = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(preset, **fields)  # pyright: ignore[reportArgumentType]


class NetsPreset(Protocol):
    """A preset of an experiment on trained networks."""

    data: str
    seeds: int
    steps: int
    nets: tuple[Net, ...]


@dataclasses.dataclass(frozen=True)
class NetsArgs(TrainingArgs):
    """The flags of an experiment on trained networks of any kind."""

    depths: tyro.conf.Suppress[tuple[int, ...] | None] = None
    models: tuple[str, ...] = ()
    """Other networks instead: names, or your own such as path/net.py:Net."""

    @property
    def chosen(self) -> NetsPreset:
        """The preset with the command line's changes; raises UserError for impossible ones."""
        raise NotImplementedError

    def preset_of(self, presets: Mapping[str, Preset], **own: int | None) -> Preset:
        """What is `chosen`; `own` are the experiment's own counts, None where the command line has none."""
        nets = tuple(map(Net, self.models))
        counts = {"seeds": self.seeds, "steps": self.steps, **own}
        check_counts(**counts)
        check_names(nets)
        return preset_with(presets[self.preset], data=self.data, nets=nets or None, **counts)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that decide the numbers, as JSON; nets by name, so that there can be more of them."""
        chosen = self.chosen
        fields = {
            "preset": self.preset,
            **vars(chosen),
            "nets": dict(net.entry for net in chosen.nets),
        }
        return json.loads(json.dumps(fields, default=dict))

    def configs(self, flips: bool, side: int) -> dict[str, Config]:
        """A Config for each run, by name; `flips` and `side` are those of `recipe`."""
        chosen = self.chosen
        shared = recipe(self.preset, chosen.data, chosen.steps, flips, side)
        return {
            net.run(seed): dataclasses.replace(shared, model=net.model, seed=seed, **net.fields)
            for net in chosen.nets
            for seed in range(chosen.seeds)
        }
