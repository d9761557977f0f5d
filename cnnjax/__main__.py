"""The console command `cnnjax`. It parses and calls; jax is imported only by the verbs that compute."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

import cnnjax
from cnnjax.command import parse
from cnnjax.config import RUNNING, Config, Running
from cnnjax.errors import UserError, one_line_errors
from cnnjax.launch import joined


@dataclasses.dataclass(frozen=True)
class Models:
    """List the networks, with the paper each is from."""

    pattern: tyro.conf.Positional[str] = "*"
    """Shell pattern for the names, such as 'resnet*'."""

    def run(self) -> None:
        """Print a name and its reference a line."""
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
    """Networks to set side by side, totals only."""

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
    """Classify image files with torchvision's weights and preprocessing: the five most probable classes."""

    name: tyro.conf.Positional[str]
    """Torchvision's name of the network, such as resnet50."""
    images: tyro.conf.Positional[tuple[Path, ...]]
    """The image files."""
    weights: Path
    """File of its weights, .pth or .safetensors."""
    labels: Path | None = None
    """Text file with the name of a class a line."""
    resize: int | None = None
    """Pixels of an image's shorter side before cropping; 232 for torchvision's IMAGENET1K_V2 weights."""

    def run(self) -> None:
        """Print probability, index and label of each guess."""
        from cnnjax.interop.predict import predict

        try:
            labels = self.labels.read_text().splitlines() if self.labels else []
        except UnicodeDecodeError as error:
            raise UserError(f"--labels {self.labels}: is not a text file") from error
        guesses = predict(self.name, self.weights, self.images, self.resize)
        for path, best in zip(self.images, guesses, strict=True):
            print(path)
            for index, probability in best:
                label = labels[index] if index < len(labels) else ""
                print(f"  {100 * probability:5.1f} %  {index:4}  {label}".rstrip())


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a network and test it; the same command goes on where it was stopped."""

    out: Path
    """Folder of the run."""
    config: Annotated[Config, tyro.conf.arg(name="")]
    options: tuple[str, ...] = ()
    """Fields of the network to override, such as width=8 shortcut=B."""
    data_dir: Path | None = None
    """Folder that holds the data set's official archives."""
    verify: bool = True
    """Whether archives must have the official checksums."""
    workers: int = 0
    """Processes that read photographs ahead; 0 takes threads. The numbers do not depend on it."""
    running: Annotated[Running, tyro.conf.arg(name="")] = RUNNING

    def run(self) -> None:
        """Print the final metrics."""
        if self.workers < 0:
            raise UserError(f"--workers {self.workers}: must not be negative")
        config = dataclasses.replace(self.config, model_options=dict(map(_option, self.options)))

        from cnnjax.compilation import use_cache
        from cnnjax.data import open_data
        from cnnjax.mesh import parse_mesh
        from cnnjax.training import train

        use_cache()
        mesh = None if self.running.mesh is None else parse_mesh(self.running.mesh)
        data = open_data(config.data, self.workers, self.data_dir, verify=self.verify)
        result = train(config, self.out, data=data, **{**vars(self.running), "mesh": mesh})
        print("\n".join(f"{name} {value:.4f}" for name, value in result.metrics.items()))


def _option(text: str) -> tuple[str, Any]:
    """A field and its value, which is JSON or else a plain word."""
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--options {text}: must be FIELD=VALUE, such as width=8")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


@dataclasses.dataclass(frozen=True)
class Data:
    """Fetch, check and prepare a data set, and show where it lies; without a name, list them."""

    name: tyro.conf.Positional[str] = ""
    """The data set, or a folder of photographs."""
    data_dir: Path | None = None
    """Folder that holds the official archives; nothing is downloaded then."""
    source: Literal["auto", "tfds", "archives"] = "auto"
    """Who reads them: tensorflow-datasets, our own readers, or whichever can."""
    verify: bool = True
    """Whether archives must have the official checksums."""

    def run(self) -> None:
        """Print where the data lies and what it holds."""
        from cnnjax.data import fetch, find, is_streamed, list_datasets, open_data, prepare_imagenet, spec
        from cnnjax.data.streams import IMAGENET

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
    | Annotated[Train, tyro.conf.subcommand("train")]
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
