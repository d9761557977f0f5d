"""The verb `cnnjax evaluate`: one run's metrics, or runs and checkpoints as the papers tested them."""

import dataclasses
import functools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from cnnjax.errors import UserError

if TYPE_CHECKING:
    from cnnjax.evaluation import Predictions


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Test networks of runs: loss, error and other metrics, each example once; crops, ensembles, classes."""

    run_dirs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """The runs' folders."""
    step: tuple[int, ...] = ()
    """Steps of the checkpoints; by default the newest."""
    averaged: bool = False
    """Whether to test the moving averages of the parameters, in a table of predictions."""
    crops: Literal["1", "5", "10", "144", "150", "dense"] = "1"
    """Windows of each image to average: AlexNet's 10, GoogLeNet's 144, VGG's 150, or the whole image."""
    side: int | None = None
    """Of the windows, in pixels; by default what the network was trained on."""
    padding: int | None = None
    """Pixels around small images; by default 4 for 5 and 10 crops as large as the image."""
    scales: tuple[int, ...] = ()
    """Shorter sides to resize images to, for a network of 224 pixels and in proportion for others."""
    reestimate: bool = False
    """Whether to estimate BatchNorm's averages over the training set first."""
    ensemble: bool = False
    """Whether to average the probabilities of all that are tested, too."""
    per_class: bool = False
    """Whether to print precision and recall of each class, of the last row."""
    csv: Path | None = None
    """File for the predictions, a line for each image of each row."""
    predictions: Path | None = None
    """The same with all probabilities, as a Parquet file."""
    json: bool = False
    """Print one JSON object."""
    data: str | None = None
    """Another data set than the run's."""
    metrics: tuple[str, ...] = ()
    """More metrics of a single run, such as top5_error."""
    data_dir: Path | None = None
    """Folder that holds the data set's official archives."""
    verify: bool = True
    """Whether archives must have the official checksums."""

    def run(self) -> None:
        """Print the metrics, or the tables."""
        if not self.run_dirs:
            raise UserError("give a run's folder, such as runs/resnet20")
        if len({folder.resolve() for folder in self.run_dirs}) < len(self.run_dirs):
            raise UserError("a run is named twice: name each once")
        for flag, path in (("--csv", self.csv), ("--predictions", self.predictions)):
            if path is not None and not path.absolute().parent.is_dir():
                raise UserError(f"{flag} {path}: there is no folder {path.parent}")
        if self.ensemble and len(self.run_dirs) * max(1, len(self.step)) < 2:
            raise UserError("--ensemble: give several runs, or several checkpoints by --step 100 200")

        from cnnjax.compilation import use_cache

        use_cache()
        if self._is_plain:
            self._metrics()
            return
        if self.metrics:
            raise UserError("--metrics: is for one run without other flags; the table has all of ours")
        members = self._members()
        self._write(members)
        self._print(members)

    @property
    def _is_plain(self) -> bool:
        """Whether one network is asked for its metrics alone, of whatever outputs."""
        tables = self.averaged, self.per_class, self.csv, self.predictions, self.json
        return len(self.run_dirs) == 1 and len(self.step) < 2 and not any(tables)

    @property
    def _how(self) -> dict[str, Any]:
        from cnnjax.evaluation import Cropping

        crops: Any = self.crops if self.crops == "dense" else int(self.crops)
        how = Cropping(crops, self.side, self.padding, self.scales or None)
        say = functools.partial(print, file=sys.stderr)  # the table or JSON is alone in stdout
        return {"crops": how, "reestimate": self.reestimate, "say": say}

    def _metrics(self) -> None:
        (folder,) = self.run_dirs
        run, data = self._open(folder)
        step = self.step[0] if self.step else None
        found = run.evaluate(step, data=data, metrics=self.metrics, **self._how)
        print("\n".join(f"{name} {value:.4f}" for name, value in found.items()))

    def _members(self) -> "dict[str, Predictions]":
        """Predictions by run and step, and of all together if that is asked for."""
        from cnnjax.evaluation import average

        members = {}
        for folder in self.run_dirs:
            run, data = self._open(folder)
            for step in self.step or (None,):
                name = str(folder) if step is None else f"{folder} at {step}"
                members[name] = run.predictions(step, averaged=self.averaged, data=data, **self._how)
        if self.ensemble:
            members[f"mean of {len(members)}"] = average(list(members.values()))
        return members

    def _open(self, folder: Path) -> tuple[Any, Any]:
        from cnnjax.data import open_data
        from cnnjax.runs import open_run

        run = open_run(folder)
        return run, open_data(self.data or run.config.data, 0, self.data_dir, verify=self.verify)

    def _write(self, members: "dict[str, Predictions]") -> None:
        from cnnjax.evaluation import write_csv, write_parquet

        if self.csv is not None:
            write_csv(self.csv, members)
        if self.predictions is not None:
            write_parquet(self.predictions, members)

    def _print(self, members: "dict[str, Predictions]") -> None:
        from cnnjax.evaluation import report

        if self.json:
            print(json.dumps(report.to_json(members)))
            return
        print(report.scores_table(members))
        if len(members) > 1:
            print("", report.paired_table(members), sep="\n")
        if self.ensemble:
            *single, together = members.values()
            print("", report.ensemble_text(single, together), sep="\n")
        if self.per_class:
            name, last = list(members.items())[-1]
            print("", f"Classes of {name}", report.classes_table(last), sep="\n")
