"""The console command `cnnjax`. It parses and calls; jax is imported only by the verbs that compute."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

import cnnjax
from cnnjax.command import parse
from cnnjax.config import Config, Dtype, Shard
from cnnjax.errors import UserError, one_line_errors
from cnnjax.evaluating import Evaluate
from cnnjax.launch import joined
from cnnjax.papers import RECIPES, find, recipe
from cnnjax.reporting import Report, Watch, write_run_report
from cnnjax.run_flags import RUNNING, Running
from cnnjax.slurm import Slurm


@dataclasses.dataclass(frozen=True)
class Models:
    """List the networks, with the paper each is from."""

    pattern: tyro.conf.Positional[str] = "*"
    """Shell pattern for the names, such as 'resnet*'."""

    def run(self) -> None:
        """Print one line per network, with its name and reference."""
        from cnnjax.models.registry import build, find, list_models

        names = list_models(self.pattern)
        if not names:
            build(
                self.pattern
            )  # a name in no paper's table that builds all the same, or an error that says why
            names = [self.pattern]
        width = max(map(len, names))
        for name in names:
            print(f"{name.ljust(width)}  {find(name)[0].reference}")


@dataclasses.dataclass(frozen=True)
class Summary:
    """Count a network layer by layer: output, parameters, multiply-adds, connections, receptive field."""

    name: tyro.conf.Positional[str] = ""
    """The network; without one, the comparisons of the papers."""
    input: int | None = None
    """Side of a square image, in pixels; the network's own by default."""
    compare: tuple[str, ...] = ()
    """Networks whose totals to compare side by side."""

    def run(self) -> None:
        """Print the table."""
        from cnnjax.comparison import compare, story
        from cnnjax.counting import summary

        if self.compare:
            names = filter(None, (self.name, *self.compare))
            print(compare(*(summary(name, self.input) for name in names)))
        else:
            print(summary(self.name, self.input) if self.name else story())


@dataclasses.dataclass(frozen=True)
class Predict:
    """Classify image files, by a run or with weights that others publish: the five most probable classes."""

    name: tyro.conf.Positional[str]
    """A run's folder, or the name of a network where its weights are from, such as resnet50."""
    images: tyro.conf.Positional[tuple[Path, ...]]
    """The image files."""
    weights: Path | None = None
    """File of weights of torchvision, timm, Keras or Caffe, or folder of timm's (docs/guides/weights.md)."""
    labels: Path | None = None
    """Text file with one class name per line."""
    resize: int | None = None
    """Pixels of an image's shorter side before cropping; 232 for torchvision's IMAGENET1K_V2 weights."""

    def run(self) -> None:
        """Print probability, index and label of each guess."""
        try:
            labels = self.labels.read_text().splitlines() if self.labels else []
        except UnicodeDecodeError as error:
            raise UserError(f"--labels {self.labels}: is not a text file") from error
        for path, best in zip(self.images, self._guesses(), strict=True):
            print(path)
            for index, probability in best:
                label = labels[index] if index < len(labels) else ""
                print(f"  {100 * probability:5.1f} %  {index:4}  {label}".rstrip())

    def _guesses(self) -> Any:
        from cnnjax.interop.predict import predict
        from cnnjax.runs import open_run

        if self.weights is not None:
            return predict(self.name, self.weights, self.images, self.resize)
        if not Path(self.name).is_dir():
            raise UserError(f"{self.name} is no run: give --weights FILE for a network of that name")
        if self.resize is not None:
            raise UserError("--resize is for --weights: a run's pictures are prepared as its data was")
        return open_run(self.name).predict(self.images)


def _from_recipe() -> Config:
    """What the command line's flags change: a recipe's Config if it names one, or else the default."""
    flag = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    flag.add_argument("--recipe", nargs="?")
    name = flag.parse_known_args()[0].recipe
    return Config() if name is None else recipe(name)


@dataclasses.dataclass(frozen=True)
class Recipes:
    """List the papers' recipes, with the paper each is from."""

    def run(self) -> None:
        """Print one line per recipe."""
        width = max(map(len, RECIPES))
        for name, one in RECIPES.items():
            print(f"{name.ljust(width)}  {one.paper}")


@dataclasses.dataclass(frozen=True)
class Train:
    """Train and test a network; the same command continues where it was stopped."""

    out: Path | None = None
    """Folder of the run."""
    recipe: str | None = None
    """The paper whose recipe to follow, of those that `cnnjax recipes` lists; other flags change it."""
    explain: bool = False
    """Print every value of the run and where it is from, and train nothing."""
    config: Annotated[Config, tyro.conf.arg(name="")] = dataclasses.field(default_factory=_from_recipe)
    options: tuple[str, ...] = ()
    """Fields of the network to override, such as width=8 shortcut=B."""
    optimizer_options: tuple[str, ...] = ()
    """Arguments of the optimizer, such as b2=0.95."""
    schedule_options: tuple[str, ...] = ()
    """Arguments of optax's schedule, such as decay_rate=0.5."""
    groups: tuple[str, ...] = ()
    """Parameters with their own rate or decay, such as '*/bias:rate=2,decay=0'."""
    data_dir: Path | None = None
    """Folder that holds the data set's official archives."""
    verify: bool = True
    """Whether archives must have the official checksums."""
    workers: int = 0
    """Processes that read photographs ahead; 0 uses threads. Changes no numbers."""
    running: Annotated[Running, tyro.conf.arg(name="")] = RUNNING

    def run(self) -> None:
        """Print the final metrics."""
        if self.workers < 0:
            raise UserError(f"--workers {self.workers}: must not be negative")
        config = _with_options(self)
        paper = None if self.recipe is None else find(self.recipe)
        if self.explain:
            if paper is None:
                raise UserError("--explain: give a --recipe too; `cnnjax recipes` lists them")
            print(paper.explain(config))
            return
        if self.out is None:
            raise UserError(
                f"--out: give the run's folder, such as --out runs/{config.model.rpartition(':')[2]}"
            )

        from cnnjax.compilation import use_cache
        from cnnjax.data import open_data
        from cnnjax.mesh import parse_mesh
        from cnnjax.running import train

        use_cache()
        mesh = None if self.running.mesh is None else parse_mesh(self.running.mesh)
        data = open_data(config.data, self.workers, self.data_dir, verify=self.verify)
        result = train(config, self.out, data=data, **{**vars(self.running), "mesh": mesh})
        write_run_report(self.out)
        print("\n".join(f"{name} {value:.4f}" for name, value in result.metrics.items()))
        if paper is not None and config.model in paper.published:
            print(f"published {paper.published[config.model]}")


@dataclasses.dataclass(frozen=True)
class Plan:
    """Compile a run's training step for accelerators that are not here: memory, exchanges, speed at most."""

    topology: str
    """Accelerator and devices: h100:8 (a100, h200, b200), v5e:4x4 (v5p, v6e), or cpu:8, of this machine."""
    config: Annotated[Config, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=lambda: Config(data="")
    )
    options: tuple[str, ...] = ()
    """Fields of the network to override, such as width=8 shortcut=B."""
    optimizer_options: tuple[str, ...] = ()
    """Arguments of the optimizer, such as b2=0.95."""
    schedule_options: tuple[str, ...] = ()
    """Arguments of optax's schedule, such as decay_rate=0.5."""
    groups: tuple[str, ...] = ()
    """Parameters with their own rate or decay, such as '*/bias:rate=2,decay=0'."""
    mesh: str | None = None
    """Devices of each axis, such as data=4,model=2; all are on the data axis when not given."""
    shard: Shard = "replicated"
    """How weights and the optimizer's state are divided over the devices."""
    compare: tuple[str, ...] | None = None
    """Settings to plan in all combinations, such as shard=replicated shard=fsdp batch_size=1024."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> None:
        """Print the table."""
        config = _with_options(self)

        import jax

        # The compilers need none of the devices that they compile for, nor those that may be here.
        jax.config.update("jax_platforms", "cpu")
        kind, _, devices = self.topology.partition(":")
        if kind == "cpu" and devices.isdecimal():
            jax.config.update("jax_num_cpu_devices", int(devices))

        from cnnjax.counting.plan import plan
        from cnnjax.counting.plans import compare_plans

        where: Any = {"topology": self.topology, "mesh": self.mesh, "shard": self.shard}
        found = (
            plan(config, **where) if self.compare is None else compare_plans(config, self.compare, **where)
        )
        print(json.dumps(found.to_json()) if self.json else found)


def _with_options(verb: Train | Plan) -> Config:
    """The config of a command, with what has flags of its own."""
    own = verb.config
    return dataclasses.replace(
        own,
        model_options={**own.model_options, **_options("--options", verb.options)},
        optimizer_options={
            **own.optimizer_options,
            **_options("--optimizer-options", verb.optimizer_options),
        },
        schedule_options={**own.schedule_options, **_options("--schedule-options", verb.schedule_options)},
        groups={**own.groups, **dict(map(_group, verb.groups))},
    )


def _options(flag: str, texts: Sequence[str]) -> dict[str, Any]:
    """Names and values of NAME=VALUE, where a value is JSON or else a plain word."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UserError(f"{flag} {text}: must be NAME=VALUE, such as width=8")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def _group(text: str) -> tuple[str, dict[str, Any]]:
    """Pattern and values of PATTERN:rate=R,decay=D."""
    pattern, _, values = text.rpartition(":")
    if not pattern:
        raise UserError(f"--groups {text}: must be PATTERN:rate=R,decay=D, such as '*/bias:rate=2,decay=0'")
    return pattern, _options("--groups", values.split(","))


@dataclasses.dataclass(frozen=True)
class Diagnose:
    """Examine a network on one batch: will it train, and if not, why?"""

    name: tyro.conf.Positional[str]
    """A network, a run's folder, package.module:Net or path/net.py:Net."""
    data: str | None = None
    """Data set in memory; by default the run's, Fashion-MNIST's embedded part, or generated photographs."""
    options: tuple[str, ...] = ()
    """Fields of the network to override, such as width=8 shortcut=B."""
    batch_size: int = 32
    """Images of the one batch."""
    optimizer: str = "sgd"
    """sgd (with momentum 0.9), adam, or any other of optax's."""
    optimizer_options: tuple[str, ...] = ()
    """Arguments of the optimizer, such as b2=0.95."""
    learning_rate: float = 0.1
    """Its learning rate."""
    dtype: Dtype = "float32"
    """Of the network's computation."""
    seed: int = 0
    """Of the initial weights."""
    steps: int = 50
    """Steps of the trial to learn the batch by heart."""
    over: str | None = None
    """Check sizes against a field instead: width=8,16,32,64, or depth=8,20,44 for networks of ours."""
    json: bool = False
    """Print one JSON object."""
    figure: Path | None = None
    """PNG to draw the statistics to; an SVG lies beside it."""

    def run(self) -> None:
        """Print the report."""
        config = Config(
            model_options=_options("--options", self.options),
            batch_size=self.batch_size,
            optimizer=self.optimizer,
            optimizer_options=_options("--optimizer-options", self.optimizer_options),
            learning_rate=self.learning_rate,
            schedule="constant",
            weight_decay=0.0,
            dtype=self.dtype,
            seed=self.seed,
        )
        if self.over is not None and self.figure is not None:
            raise UserError("--figure is for a diagnosis; leave it out with --over")

        from cnnjax.checkup import diagnose_named, over
        from cnnjax.compilation import use_cache

        use_cache()
        if self.over is not None:
            scaling = over(self.name, *_values(self.over), config, self.data)
            print(json.dumps(scaling.to_json()) if self.json else scaling)
            return
        health = diagnose_named(self.name, config, self.data, self.steps)
        print(json.dumps(health.to_json()) if self.json else health)
        if self.figure is not None:
            print(health.figure(self.figure), file=sys.stderr if self.json else sys.stdout)


def _values(text: str) -> tuple[str, list[float]]:
    """Field and numbers of FIELD=NUMBER,NUMBER,..."""
    field, equals, numbers = text.partition("=")
    try:
        values = [float(number) for number in numbers.split(",")]
    except ValueError:
        values = []
    if not field or not equals or len(values) < 2:
        raise UserError(f"--over {text}: must be FIELD=NUMBER,NUMBER,..., such as width=8,16,32,64")
    return field, values


@dataclasses.dataclass(frozen=True)
class Runs:
    """List the runs below a folder: what was trained, the step reached, final errors, seconds."""

    folder: tyro.conf.Positional[Path] = Path("runs")
    """The folder to search."""

    def run(self) -> None:
        """Print the table."""
        from cnnjax.counting.table import table
        from cnnjax.runs import runs_table

        rows = runs_table(self.folder)
        if len(rows) == 1:
            raise UserError(f"there is no run in {self.folder}")
        print("\n".join(table(rows, left=4, ruled={0})))


@dataclasses.dataclass(frozen=True)
class Data:
    """Fetch, check and prepare a data set, and show where it is stored; without a name, list all."""

    name: tyro.conf.Positional[str] = ""
    """The data set, or a folder of photographs."""
    data_dir: Path | None = None
    """Folder that holds the official archives; then nothing is downloaded."""
    source: Literal["auto", "tfds", "archives"] = "auto"
    """Reader to use: tensorflow-datasets, our own, or whichever works."""
    verify: bool = True
    """Whether archives must have the official checksums."""
    check: bool = False
    """Read every picture of a folder, and list all that is odd; exit code 2 if not all can be used."""
    show: bool = False
    """Draw a batch as training sees it, beside the originals."""
    recipe: str | None = None
    """The paper's recipe to show, of those that `cnnjax recipes` lists."""
    settings: tuple[str, ...] = ()
    """Fields of the run to show, such as augment=crop_flip cutout=8 seed=1."""
    step: int = 0
    """The step whose batch to show."""
    out: Path = Path("contact_sheet.png")
    """PNG to draw it to."""

    def run(self) -> None:
        """Print where the data lies and what it holds."""
        from cnnjax.data import fetch, find, is_streamed, list_datasets, open_data, prepare_imagenet, spec
        from cnnjax.data.streams import IMAGENET

        if (self.recipe or self.settings or self.step) and not self.show:
            raise UserError("--recipe, --settings and --step say what to --show: give that too")
        if self.check:
            self._check()
            return
        if self.show:
            self._show()
            return
        if not self.name:
            if self.data_dir:
                raise UserError(
                    f"--data-dir {self.data_dir}: say of which data set, as in `cnnjax data cifar10`"
                )
            for name in list_datasets():
                print(f"{name:16}{spec(name).title} ({find(name) or 'not here'})")
            return
        if is_streamed(self.name):
            if self.source != "auto" or not self.verify:
                raise UserError(f"{self.name}: --source and --no-verify are for archives; leave them out")
            if self.data_dir and self.name == IMAGENET:
                print(prepare_imagenet(self.data_dir))
            else:
                print(open_data(self.name, data_dir=self.data_dir))
            return
        print(fetch(self.name, self.data_dir, source=self.source, verify=self.verify))

    def _show(self) -> None:
        from cnnjax.data import open_data
        from cnnjax.showing import show

        if self.step < 0:
            raise UserError(f"--step {self.step}: must not be negative")
        base = Config() if self.recipe is None else recipe(self.recipe)
        changes = {"data": self.name or base.data, **_options("--settings", self.settings)}
        config = Config.from_json({**base.to_json(), **changes})
        data = open_data(config.data, data_dir=self.data_dir, verify=self.verify)
        print(show(config, self.out, self.step, data=data))

    def _check(self) -> None:
        from cnnjax.data.check import check_folder

        if not self.name or not Path(self.name).expanduser().is_dir():
            raise UserError(
                f"--check reads the pictures of a folder: there is no folder {self.name or 'named'}"
            )
        report = check_folder(Path(self.name).expanduser())
        print(report)
        if report.lost:
            raise UserError(
                f"{self.name}: {report.lost:,} pictures can't be used: remove, mend or rename them, or train "
                "with --unreadable skip"
            )


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Show versions, devices, data sets and folders, and what would be slow or fail here."""

    def run(self) -> None:
        """Print the report."""
        from cnnjax.doctor import report

        print(report())


Verb = (
    Annotated[Models, tyro.conf.subcommand("models")]
    | Annotated[Summary, tyro.conf.subcommand("summary")]
    | Annotated[Predict, tyro.conf.subcommand("predict")]
    | Annotated[Plan, tyro.conf.subcommand("plan")]
    | Annotated[Recipes, tyro.conf.subcommand("recipes")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Diagnose, tyro.conf.subcommand("diagnose")]
    | Annotated[Slurm, tyro.conf.subcommand("slurm")]
    | Annotated[Runs, tyro.conf.subcommand("runs")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Watch, tyro.conf.subcommand("watch")]
    | Annotated[Data, tyro.conf.subcommand("data")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
)


DESCRIPTION = "Why deep convolutional networks train, or do not. `cnnjax --version` tells the version."


def main() -> None:
    """Entry point of `cnnjax` and `python -m cnnjax`."""
    with joined(), one_line_errors("cnnjax"):
        if sys.argv[1:] == ["--version"]:
            print(f"cnnjax {cnnjax.__version__}")
        else:
            parse(Verb, DESCRIPTION, prog="cnnjax").run()
        sys.stdout.flush()


if __name__ == "__main__":
    main()
