"""Settings: the bases of the studies, the sizes of the presets, the command line."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro

from cnnjax.config import Config
from cnnjax.errors import UserError
from cnnjax.papers import recipe as paper

from ..settings import TrainingArgs, check_counts, preset_with, recipe
from .studies import STUDIES
from .study import Study

PAPER: Mapping[str, Mapping[str, Any]] = {
    "alexnet": {"name": "alexnet"},
    "vgg": {"name": "vgg", "model": "vgg16"},
    "vgg_5x5": {"name": "vgg", "model": "vgg13"},
    "inception": {"name": "inception_v3"},
    "smoothing": {"name": "inception_v3"},
    "batch_size": {"name": "resnet_cifar"},
    "resnext": {"name": "resnext_imagenet", "model": "resnext50_1x64d"},
}
"""The base of each study: a paper's recipe, and what is changed in it."""
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    # The footnote of the VGG paper's section 3.1: so that deep nets need not begin with A's layers.
    "vgg": {"kernel_init": "glorot", "stages": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))},
    "vgg_5x5": {"kernel_init": "glorot", "stages": ((3, 3),) * 5},
}
"""Fields of the papers' nets that the arms change, or that are not the paper's."""

_SMALL_VGG: Mapping[str, Any] = {"model": "vgg16", "downsample": 1}
_SMALL_VGG_OPTIONS: Mapping[str, Any] = {"kernel_init": "glorot", "width": 8}
SMALL: Mapping[str, Mapping[str, Any]] = {
    # Its response normalisation is for pixels from 0 to 255: with others the squares are next to nothing.
    "alexnet": {
        "model": "alexnet",
        "model_options": {"width": 16, "stem": "small", "kernel_init": "he"},
        "downsample": 1,
        "normalize": "raw_mean",
        "colour": 0.1,
        "learning_rate": 0.005,
        "decay": "kernels",
    },
    "vgg": {**_SMALL_VGG, "model_options": {**_SMALL_VGG_OPTIONS, "stages": ((3, 3, 3),) * 2}},
    "vgg_5x5": {**_SMALL_VGG, "model_options": {**_SMALL_VGG_OPTIONS, "stages": ((3, 3),) * 2}},
    "inception": {
        "model": "inception_v3",
        "model_options": {"width": 4, "stem": "small", "aux_heads": False},
    },
    "smoothing": {"model": "resnet20", "model_options": {"width": 8}, "label_smoothing": 0.1},
    "batch_size": {"model": "resnet8", "model_options": {"width": 8}},
    "resnext": {"model": "resnext20_1x64d", "model_options": {"width": 16}},
}
"""The bases of the quick preset, beside `experiments.settings.recipe`."""
SMOKE: Mapping[str, Mapping[str, Any]] = {
    "alexnet": {"width": 4},
    "vgg": {"head": "cifar", "width": 2},
    "vgg_5x5": {"head": "cifar", "width": 2},
    "inception": {"width": 1},
    "smoothing": {"width": 4},
    "batch_size": {"width": 4},
    "resnext": {"width": 16},
}
"""Fields of the nets of the smoke preset, besides."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """How large a preset is.

    Attributes:
        data: a data set.
        seeds: runs of each arm.
        steps: of a base; None takes the papers'.
        batch_size: of a base; None takes the papers'.
        studies: which, by name.
    """

    data: str
    seeds: int
    steps: int | None
    batch_size: int | None
    studies: tuple[str, ...] = tuple(STUDIES)


PRESETS = {
    "quick": Preset("fashion_mini", 3, 200, 64),
    "paper": Preset("imagenet2012", 3, None, None, tuple(name for name in STUDIES if name != "batch_size")),
    "smoke": Preset("synthetic", 2, 4, 16, ("vgg", "smoothing")),
}


@dataclasses.dataclass(frozen=True)
class Args(TrainingArgs):
    """Train classic networks with and without their parts, and compare them seed by seed."""

    data: str | None = None
    """Data set; quick has fashion_mini (embedded), paper has imagenet2012, or cifar10 for batch_size."""
    depths: tyro.conf.Suppress[tuple[int, ...] | None] = None
    studies: tuple[str, ...] | None = None
    """Which: alexnet, vgg, vgg_5x5, inception, smoothing, batch_size, resnext; by default all."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/ablations")
    """Folder for the runs, the figure, the summary and the report."""

    @property
    def chosen(self) -> Preset:
        """The preset with the command line's changes; raises UserError for impossible ones."""
        check_counts(seeds=self.seeds, steps=self.steps)
        if self.studies is not None:
            given = " ".join(self.studies)
            if unknown := [name for name in self.studies if name not in STUDIES]:
                raise UserError(f"--studies {unknown[0]}: must be of {', '.join(STUDIES)}")
            if len(set(self.studies)) < len(self.studies) or not self.studies:
                raise UserError(f"--studies {given}: must be different ones of {', '.join(STUDIES)}")
        chosen = preset_with(PRESETS[self.preset], seeds=self.seeds, steps=self.steps, studies=self.studies)
        return dataclasses.replace(chosen, data=self.data or self._data_of(chosen))

    def _data_of(self, chosen: Preset) -> str:
        """The preset's data set, or that of the studies' papers, which must be one."""
        if self.preset != "paper":
            return chosen.data
        by_data = {paper(PAPER[name]["name"]).data: name for name in chosen.studies}
        if len(by_data) > 1:
            where = " and ".join(f"{name} is of {data}" for data, name in by_data.items())
            raise UserError(f"--studies {' '.join(chosen.studies)}: {where}; start one after the other")
        return next(iter(by_data))

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that decide the numbers, as JSON."""
        return {"preset": self.preset, **vars(self.chosen), "studies": list(self.chosen.studies)}

    def study(self, name: str, images: tuple[bool, int] | None) -> Study:
        """A study by name. `images` are `flips` and `side` of `recipe`; None for photographs of any size.

        Raises:
            UserError: a small preset is to train on photographs.
        """
        chosen = self.chosen
        if self.preset == "paper":
            base = paper(**PAPER[name], data=chosen.data, model_options=OPTIONS.get(name, {}))
            return STUDIES[name](shortened(base, chosen.steps))
        if images is None:
            raise UserError(f"--data {chosen.data}: photographs are for --preset paper")
        steps, batch_size = chosen.steps, chosen.batch_size
        assert steps is not None
        assert batch_size is not None
        shared = recipe(self.preset, chosen.data, steps, *images)
        options = {**SMALL[name]["model_options"], **(SMOKE[name] if self.preset == "smoke" else {})}
        fields = {**SMALL[name], "model_options": options, "batch_size": batch_size}
        once = {"evaluate_every": steps, "checkpoint_every": steps}
        return STUDIES[name](dataclasses.replace(shared, **fields, **once))


def shortened(config: Config, steps: int | None) -> Config:
    """A Config of so many steps, its rate dropping at the same parts of them; None changes nothing."""
    if steps is None:
        return config
    ratio = steps / config.steps
    boundaries = tuple(round(step * ratio) for step in config.boundaries)
    return dataclasses.replace(config, steps=steps, boundaries=boundaries)
