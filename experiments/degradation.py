"""Degradation: does a deeper plain network train worse, and do shortcuts cure it?

He et al. 2015, figures 1 and 6 (CIFAR-10): plain and residual nets of growing depth, trained in the same way.
The training error of a 56-layer plain net stays above that of a 20-layer one, so this is not overfitting;
with shortcuts the order is reversed.

`quick` asks the same on Fashion-MNIST at half its resolution with half the filters, in minutes on a laptop;
`paper` is the paper's experiment; `smoke` only shows that everything runs.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from cnnjax.command import parse
from cnnjax.config import Config
from cnnjax.errors import UserError, one_line_errors
from cnnjax.launch import joined
from cnnjax.report.page import Table

from .settings import (
    WARMED_UP,
    WIDTHS,
    Net,
    TrainingArgs,
    check_counts,
    check_names,
    preset_with,
    recipe,
)

Family = Literal["plain", "resnet"]


@dataclasses.dataclass(frozen=True)
class Preset:
    """What a preset trains unless the command line changes it."""

    data: str
    seeds: int
    steps: int
    plain_depths: tuple[int, ...]
    resnet_depths: tuple[int, ...]


PRESETS = {
    "quick": Preset("fashion_mini", 1, 400, (20, 56), (20, 56)),
    "paper": Preset("cifar10", 3, 64_000, (20, 32, 44, 56), (20, 32, 44, 56, 110)),
    "smoke": Preset("synthetic", 1, 40, (8, 14), (8, 14)),
}

# Test error in percent. Residual nets: table 6 of the paper (110 layers: mean of five runs). The paper prints
# no numbers for its plain nets; these are read off its figure 6.
PUBLISHED = {
    "plain20": "about 9.5",
    "plain32": "about 10",
    "plain44": "about 12",
    "plain56": "about 13.5",
    "resnet20": "8.75",
    "resnet32": "7.51",
    "resnet44": "7.17",
    "resnet56": "6.97",
    "resnet110": "6.61 ± 0.16",
    "resnet1202": "7.93",
}


@dataclasses.dataclass(frozen=True)
class Args(TrainingArgs):
    """Train plain and residual networks of growing depth and draw their errors."""

    families: tuple[Family, ...] = ("plain", "resnet")
    """Kinds of network."""
    models: tuple[str, ...] = ()
    """Networks of your own instead, such as path/net.py:Shallow path/net.py:Deep, or others by name."""
    validation: int = 0
    """Number of training images to hold out and test on; the paper chose its schedule with 5,000."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/degradation")
    """Folder for the runs, the figure, the summary and the report."""

    @property
    def chosen(self) -> Preset:
        """The preset with the command line's changes; raises UserError for impossible ones."""
        chosen = preset_with(
            PRESETS[self.preset],
            data=self.data,
            seeds=self.seeds,
            steps=self.steps,
            plain_depths=self.depths,
            resnet_depths=self.depths,
        )
        check_counts(seeds=chosen.seeds, steps=chosen.steps)
        if () in (self.families, self.depths):
            raise UserError("--families and --depths: there must be one of each")
        for depth in self.depths or ():
            if depth < 8 or (depth - 2) % 6:
                near = max(8, round((depth - 2) / 6) * 6 + 2)
                raise UserError(f"--depths {depth}: a CIFAR net has 6n + 2 layers, such as {near}")
        return chosen


@dataclasses.dataclass(frozen=True)
class Compared(Net):
    """One network of the comparison.

    Attributes:
        family: the panel it is drawn in.
        label: its name in the figure; by default its own.
        depth: of a net of ours.
    """

    family: str = "networks"
    label: str = ""
    depth: int | None = None


def networks(args: Args) -> list[Compared]:
    """The networks to train, in order."""
    if args.models:
        nets = [Compared(model) for model in args.models]
        check_names(nets)
        return nets
    depths = {"plain": args.chosen.plain_depths, "resnet": args.chosen.resnet_depths}
    return [
        Compared(f"{family}{depth}", family=family, label=f"{depth} layers", depth=depth)
        for family in args.families
        for depth in depths[family]
    ]


def configs(args: Args, flips: bool, side: int) -> dict[str, Config]:
    """A Config for each run, by name, for every network and seed; a pure function of its arguments.

    `flips` says whether a mirrored image keeps its label, `side` is the images' smaller side in pixels.
    """
    chosen = args.chosen
    shared = recipe(args.preset, chosen.data, chosen.steps, flips, side)
    narrow = {} if args.models or args.preset == "paper" else {"width": WIDTHS[args.preset]}

    def config(net: Compared, seed: int) -> Config:
        own = {"model": net.model, "model_options": narrow, "seed": seed, "validation": args.validation}
        if args.preset == "paper" and (net.depth or 0) >= 110:
            own |= WARMED_UP
        return dataclasses.replace(shared, **own)

    # The deepest, which take longest, first: workers then end at about the same time.
    nets = sorted(networks(args), key=lambda net: -(net.depth or 0))
    return {net.run(seed): config(net, seed) for net in nets for seed in range(chosen.seeds)}


def main(args: Args) -> None:
    """Run the experiment and write its folder; the terminal ends with the table and the paths."""
    chosen, nets = args.chosen, networks(args)  # what cannot be is said before jax is imported

    from cnnjax.compilation import use_cache
    from cnnjax.data import load, spec
    from cnnjax.report.curves import error_curves
    from cnnjax.training.run_dir import experiment_dir

    from .runner import Findings, run_all, spread

    use_cache()
    flips = spec(chosen.data).flips
    data = load(chosen.data, args.data_dir, verify=args.verify)
    runs = configs(args, flips, min(data.train_images.shape[1:3]))
    shared = next(iter(runs.values())).to_json()
    for name in ("model", "seed", "warmup_steps", "warmup"):  # these differ from run to run
        del shared[name]
    settings = {
        "preset": args.preset,
        "networks": [net.model for net in nets],
        "seeds": chosen.seeds,
        "data_source": data.source,
        **shared,
    }
    with experiment_dir(args.out, settings, growing=("networks", "seeds", "data_source")):
        metrics = run_all(runs, args.out, data, **args.training)

    results = [
        {
            "model": net.name,
            "family": net.family,
            "depth": net.depth,
            "seeds": chosen.seeds,
            **{
                name: spread([metrics[net.run(seed)][name] for seed in range(chosen.seeds)])
                for name in ("train_error", "test_error", "train_loss", "test_loss")
            },
        }
        for net in nets
    ]
    panels: dict[str, dict[str, list[Path]]] = {net.family: {} for net in nets}
    for net in nets:
        panels[net.family][net.label or net.name] = [
            args.out / net.run(seed) / "metrics.jsonl" for seed in range(chosen.seeds)
        ]
    figures = error_curves(panels, args.out / "degradation", f"{data.name}, {chosen.steps:,} steps")
    caption = (
        "Errors in percent, losses in nats; training values are means over the last tenth of the steps, "
        "test values are those of the last step."
    )
    tables = {caption: table(results, published=args.preset == "paper")}
    found = Findings(results, {"": figures}, tables)
    found.write(args.out, str(__doc__))
    found.log(args.out, args.running.sinks)


def table(results: list[dict[str, Any]], published: bool) -> Table:
    """Header and rows for the terminal and the page, errors in percent."""

    def percent(value: dict[str, Any]) -> str:
        spread = f" ± {100 * value['std']:.2f}" if len(value["values"]) > 1 else ""
        return f"{100 * value['mean']:.2f}{spread}"

    header = ["model", "seeds", "training error", "test error", "training loss", "test loss"]
    rows = [
        [
            row["model"],
            str(row["seeds"]),
            percent(row["train_error"]),
            percent(row["test_error"]),
            f"{row['train_loss']['mean']:.3f}",
            f"{row['test_loss']['mean']:.3f}",
        ]
        for row in results
    ]
    if published:
        header = [*header, "published test error"]
        rows = [[*row, PUBLISHED.get(row[0], "none")] for row in rows]
    return header, rows


if __name__ == "__main__":
    with joined(), one_line_errors("degradation"):
        main(parse(Args, __doc__))
