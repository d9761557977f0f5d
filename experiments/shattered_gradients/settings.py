"""Settings: families of fully connected nets, the sizes of the presets, the command line."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from cnnjax.errors import UserError

from ..settings import check_counts, preset_with

Part = Literal["one_dimensional", "depth", "convolutional", "looks_linear"]


@dataclasses.dataclass(frozen=True)
class Family:
    """Networks that differ only in depth; feedforward nets have no beta."""

    net: Literal["feedforward", "residual"]
    norm: Literal["none", "center", "batch"]
    beta: float | None = None

    @property
    def name(self) -> str:
        """The name of its file."""
        return "_".join([self.net, self.norm, *([] if self.beta is None else [f"{self.beta:g}"])])

    @property
    def title(self) -> str:
        """Its name in figures."""
        norm = {"none": "no norm", "center": "mean-centred", "batch": "BatchNorm"}[self.norm]
        return f"{self.net}, {norm}" + ("" if self.beta is None else f", β = {self.beta:g}")

    @property
    def fields(self) -> dict[str, Any]:
        """Its fields in a row of the summary."""
        return {"net": self.net, "norm": self.norm, "beta": self.beta}


NO_NORM, CENTER, BATCH = (Family("feedforward", norm) for norm in ("none", "center", "batch"))
RESIDUAL_NO_NORM = Family("residual", "none", 1.0)
RESIDUAL, RESIDUAL_HALF, RESIDUAL_TENTH = (Family("residual", "batch", beta) for beta in (1.0, 0.5, 0.1))


@dataclasses.dataclass(frozen=True)
class Convolutional:
    """Of the convolutional part.

    Attributes:
        data: a data set.
        samples: images of a batch.
        nets: each with a batch of its own.
        width: channels of the families' nets.
        families: of the paper's nets.
        depths: theirs.
        models: networks that `build` knows, to be measured beside them.
    """

    data: str = "low_pass"
    samples: int = 256
    nets: int = 3
    width: int = 16
    families: tuple[Family, ...] = (BATCH, RESIDUAL, RESIDUAL_TENTH)
    depths: tuple[int, ...] = (2, 4, 10, 24, 50)
    models: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Training:
    """Of the training curves: looks-linear nets, their controls and residual nets; one seed per run.

    Attributes:
        data: a data set.
        downsample: side of the squares of pixels to average.
        width: filters of the first stage.
        depths: each 4n + 2; there is no residual net of 6 layers.
        steps: of each run.
        batch_size: of each step.
        seeds: runs of each net.
    """

    data: str = "fashion_mini"
    downsample: int = 2
    width: int = 8
    depths: tuple[int, ...] = (18, 98)
    steps: int = 60
    batch_size: int = 64
    seeds: int = 1


@dataclasses.dataclass(frozen=True)
class Preset:
    """How large a preset is.

    Attributes:
        width: neurons per layer.
        points: inputs: of the grid, or normal vectors.
        nets: that the autocorrelation is averaged over.
        covariance_nets: for the covariance matrices.
        depth_nets: for correlation and variance against depth.
        grid_families: of the autocorrelation functions.
        grid_depths: theirs.
        signals: nets whose gradients are drawn, with their covariance.
        families: of correlation and variance.
        depths: theirs.
        linear_depths: of looks-linear nets.
        convolutional: of the convolutional part.
        training: of the looks-linear nets' training curves.
    """

    width: int = 200
    points: int = 256
    nets: int = 20
    covariance_nets: int = 100
    depth_nets: int = 8
    grid_families: tuple[Family, ...] = (NO_NORM, CENTER, BATCH, RESIDUAL_NO_NORM, RESIDUAL, RESIDUAL_TENTH)
    grid_depths: tuple[int, ...] = (2, 4, 10, 24, 50)
    signals: tuple[tuple[Family, int], ...] = ((BATCH, 1), (CENTER, 24), (RESIDUAL_TENTH, 50))
    families: tuple[Family, ...] = (NO_NORM, BATCH, RESIDUAL_NO_NORM, RESIDUAL, RESIDUAL_HALF, RESIDUAL_TENTH)
    depths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 50)
    linear_depths: tuple[int, ...] = (2, 10, 50, 200)
    convolutional: Convolutional = Convolutional()
    training: Training = Training()


PRESETS = {
    "quick": Preset(),
    "paper": Preset(
        nets=100,
        covariance_nets=1000,
        depth_nets=100,
        convolutional=Convolutional("cifar10", nets=30, models=("plain56", "resnet56")),
        training=Training("cifar10", 1, depths=(6, 22, 50, 98, 198), steps=20_000, batch_size=128, seeds=10),
    ),
    "smoke": Preset(
        width=16,
        points=32,
        nets=3,
        covariance_nets=3,
        depth_nets=2,
        grid_families=(BATCH, RESIDUAL),
        grid_depths=(2,),
        signals=((BATCH, 2),),
        families=(BATCH, RESIDUAL),
        depths=(1,),
        linear_depths=(1,),
        convolutional=Convolutional(samples=16, nets=2, width=2, families=(RESIDUAL,), depths=(2,)),
        training=Training("synthetic", 2, depths=(10,), steps=2, batch_size=8),
    ),
}


@dataclasses.dataclass(frozen=True)
class Args:
    """Measure how similar gradients at different inputs are, against depth."""

    preset: Literal["quick", "paper", "smoke"] = "quick"
    """quick: minutes on a laptop; paper: the same with more nets; smoke: seconds."""
    parts: tuple[Part, ...] = ("one_dimensional", "depth", "convolutional", "looks_linear")
    """What to measure."""
    models: tuple[str, ...] | None = None
    """Networks that `build` knows, to measure in the convolutional part too, such as plain56 resnet56."""
    steps: int | None = None
    """Gradient steps of each net that is trained; quick has 60."""
    seeds: int | None = None
    """Runs of each of these nets; quick has 1."""
    data_dir: Path | None = None
    """Folder that holds the official archives of a data set."""
    nets: int | None = None
    """Networks of each kind: on the grid, where quick has the paper's 20, and on images, where it has 3."""
    statistics: Literal["frozen", "batch"] = "frozen"
    """What a derivative in one dimension takes the statistics for: constants (frozen), so that it is of the
    point's own output, or functions of all points (batch), so that it is of the sum of all outputs."""
    seed: int = 0
    """Seed of all weights and inputs."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/shattered_gradients")
    """Folder for the arrays, the figures, the summary and the report."""

    @property
    def chosen(self) -> Preset:
        """The preset with the command line's changes; raises UserError for impossible ones."""
        if not self.parts:
            raise UserError("--parts: there must be one")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"--seed {self.seed}: must be from 0 to 2**32 - 1")
        if self.nets is not None and self.nets < 2:
            raise UserError(f"--nets {self.nets}: must be at least 2, for an error of the mean")
        check_counts(steps=self.steps, seeds=self.seeds)
        chosen = PRESETS[self.preset]
        return preset_with(
            chosen,
            nets=self.nets,
            convolutional=preset_with(chosen.convolutional, nets=self.nets, models=self.models),
            training=preset_with(chosen.training, steps=self.steps, seeds=self.seeds),
        )

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that decide the numbers, and the parts, as JSON."""
        chosen = dataclasses.asdict(self.chosen)
        common = {"preset": self.preset, "seed": self.seed, "statistics": self.statistics}
        return json.loads(json.dumps({**common, "parts": self.parts, **chosen}))
