"""Settings: depths, rates, the sizes of the presets, the command line."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro

from cnnjax.config import Config
from cnnjax.errors import UserError

from ..settings import WIDTHS, TrainingArgs, check_counts, preset_with, recipe


@dataclasses.dataclass(frozen=True)
class Start:
    """Weights from which training goes on.

    Attributes:
        name: what it is called in files and results.
        title: what it is called in figures and tables, given the depths.
        deep: whether the net is the deep one.
        folded: whether BatchNorm is folded into the convolutions.
        calibrated: whether an inserted BatchNorm has the stream's mean and variance.
    """

    name: str
    title: str
    deep: bool
    folded: bool = False
    calibrated: bool = False


STARTS = (
    Start("shallow", "plain{shallow}", False),
    Start("exact", "plain{deep}, inserted BatchNorm of mean 0, variance 1", True),
    Start("calibrated", "plain{deep}, inserted BatchNorm calibrated", True, calibrated=True),
    Start("shallow_folded", "plain{shallow}, BatchNorm folded", False, folded=True),
    Start("folded", "plain{deep}, BatchNorm folded", True, folded=True),
)


@dataclasses.dataclass(frozen=True)
class Preset:
    """How large a preset is.

    Attributes:
        data: a data set.
        seeds: runs of each kind.
        depths: of the shallow net and of the deep one.
        width: filters of the first stage.
        steps: of the shallow net.
        further: steps from each start; the deep net is trained from scratch for both together.
        rates: peak rates of these, as multiples of the recipe's.
        calibration: training images by which BatchNorm is calibrated.
        images: test images on which outputs are compared.
    """

    data: str
    seeds: int
    depths: tuple[int, ...]
    width: int
    steps: int
    further: int
    rates: tuple[float, ...] = (1.0, 0.3, 0.1)
    calibration: int = 1_024
    images: int = 256


PRESETS = {
    "quick": Preset("fashion_mini", 3, (20, 56), WIDTHS["quick"], 600, 150),
    "paper": Preset("cifar10", 3, (20, 56), 16, 64_000, 16_000),
    "smoke": Preset("synthetic", 1, (8, 14), WIDTHS["smoke"], 8, 8, (1.0, 0.1), calibration=64, images=32),
}


@dataclasses.dataclass(frozen=True)
class Args(TrainingArgs):
    """Grow a trained plain net by layers that are the identity, and train it further."""

    depths: tuple[int, ...] | None = None
    """The shallow and the deep net's, each 6n + 2; quick has 20 and 56."""
    further: int | None = None
    """Gradient steps from each start; quick has 150."""
    rates: tuple[float, ...] | None = None
    """Peak rates of these, as multiples of the recipe's; quick has 1, 0.3 and 0.1."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/identity_solution")
    """Folder for the runs, the weights to start from, the figures, the summary and the report."""

    @property
    def chosen(self) -> Preset:
        """The preset with the command line's changes; raises UserError for impossible ones."""
        fields = ("data", "seeds", "depths", "steps", "further", "rates")
        chosen = preset_with(PRESETS[self.preset], **{name: getattr(self, name) for name in fields})
        check_counts(seeds=chosen.seeds, steps=chosen.steps, further=chosen.further)
        if len(chosen.depths) != 2 or chosen.depths[0] >= chosen.depths[1]:
            given = " ".join(map(str, chosen.depths))
            raise UserError(f"--depths {given}: must be two, the shallow net's and a larger one")
        if not chosen.rates or min(chosen.rates) <= 0 or len(set(chosen.rates)) < len(chosen.rates):
            given = " ".join(f"{rate:g}" for rate in chosen.rates)
            raise UserError(f"--rates {given}: must be different positive numbers, such as 1 0.1")
        return chosen

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that decide the numbers, as JSON."""
        chosen = dataclasses.asdict(self.chosen)
        return {"preset": self.preset, **chosen, "depths": [*chosen["depths"]], "rates": [*chosen["rates"]]}


@dataclasses.dataclass(frozen=True)
class Runs:
    """All runs by name: `first` are trained from their own initial weights, `further` from those of a start.

    `of` has the names by start, seed and multiple of the rate.
    """

    first: Mapping[str, Config]
    further: Mapping[str, Config]
    of: Mapping[tuple[str, int, float], str]


def plan(args: Args, flips: bool, side: int) -> Runs:
    """A Config for each run; `flips` and `side` are those of `recipe`."""
    chosen = args.chosen
    first, further, names = {}, {}, {}

    def config(steps: int, seed: int, deep: bool, **fields: Any) -> Config:
        shared = recipe(args.preset, chosen.data, steps, flips, side)
        options = {"width": chosen.width, **fields.pop("model_options", {})}
        model = f"plain{chosen.depths[deep]}"
        return dataclasses.replace(shared, model=model, model_options=options, seed=seed, **fields)

    for seed in range(chosen.seeds):
        first[scratch(chosen, False, seed)] = config(chosen.steps, seed, False)
        first[scratch(chosen, True, seed)] = config(chosen.steps + chosen.further, seed, True)
        for start in STARTS:
            for rate in chosen.rates:
                name = names[start.name, seed, rate] = f"{start.name}_rate{rate:g}_seed{seed}"
                further[name] = config(
                    chosen.further,
                    seed,
                    start.deep,
                    model_options={"norm": "none"} if start.folded else {},
                    initial=str(weights(args.out, start, seed)),
                    learning_rate=rate * first[scratch(chosen, False, seed)].learning_rate,
                    warmup_steps=0,  # a warm-up would begin with the lower rates
                )
    return Runs(first, further, names)


def scratch(chosen: Preset, deep: bool, seed: int) -> str:
    """The folder of the shallow or the deep net's run from its own initial weights."""
    return f"plain{chosen.depths[deep]}_seed{seed}"


def weights(out: Path, start: Start, seed: int) -> Path:
    """The file of the weights of a start."""
    return out / "starts" / f"{start.name}_seed{seed}.safetensors"
