"""Existing runs: what was trained, variables, metrics, and predictions on other examples."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from PIL import Image

from cnnjax.config import Config
from cnnjax.data import Stream, is_streamed, list_datasets
from cnnjax.data.pictures import centre
from cnnjax.errors import UserError, short
from cnnjax.evaluation import Cropping, Crops, Predictions, as_cropping, classify, reestimate_averages
from cnnjax.files import read_json, sort_lines
from cnnjax.images import decode
from cnnjax.network import Variables
from cnnjax.recipes import Objects, resolve
from cnnjax.running import evaluate
from cnnjax.training.checkpoint import kept_steps
from cnnjax.training.inputs import example
from cnnjax.training.record import read_whitening
from cnnjax.training.run import read_variables
from cnnjax.training.task import Task


@dataclasses.dataclass(frozen=True)
class OpenRun:
    """A run on disk, for reading only.

    Attributes:
        out: its folder.
        config: what was run.
        objects: those that replaced names, as given to `open_run`.
        held: the content of its config.json.
    """

    out: Path
    config: Config
    objects: Objects
    held: Mapping[str, Any] = dataclasses.field(repr=False)

    @functools.cached_property
    def task(self) -> Task:
        """What was trained, as objects; opens its data."""
        return resolve(self.config, Objects(**self._given()))

    def _given(self, **others: Any) -> dict[str, Any]:
        """The objects that were given, or `others` in their place, by name.

        Raises:
            UserError: one is missing that the network or its test depends on.
        """
        given = {name: value for name, value in vars(self.objects).items() if value is not None}
        given = {"whitening": read_whitening(self.out), **given, **others, "probes": ()}
        there, replaced = self.held["config"], set(self.held.get("objects", {}))
        if there.get("model_options") is not None:
            replaced -= {"model"}  # it was named by its file
        if not is_streamed(there["data"]) and there["data"] not in list_datasets():
            replaced |= {"data"}
        for name in ("model", "data", "loss"):
            if name in replaced - set(given):
                raise UserError(
                    f"{self.out} was trained with an object, {name}={short(there[name])}: "
                    f"open it by cnnjax.open_run(folder, {name}=...)"
                )
        if "optimizer" in replaced:
            given.setdefault("optimizer", optax.identity())  # nothing is trained any more
        return given

    @property
    def model(self) -> Any:
        """The network, such as a `flax.linen.Module`."""
        return self.task.network.source

    @property
    def steps(self) -> list[int]:
        """The steps with a checkpoint."""
        return kept_steps(self.out / "checkpoints")

    @property
    def state(self) -> str:
        """`finished`, or `at step S of N`."""
        if (self.out / "result.json").exists():
            return "finished"
        return f"at step {self.step} of {self.config.steps}"

    @property
    def step(self) -> int:
        """The last step in its record."""
        return max((line["step"] for line in self.lines), default=0)

    @functools.cached_property
    def lines(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl that can be read."""
        return sort_lines(self.out / "metrics.jsonl")[0]

    @functools.cached_property
    def metrics(self) -> dict[str, np.ndarray]:
        """Each metric as [line, 2]: its steps and its values."""
        names = dict.fromkeys(name for line in self.lines for name in line if name not in ("step", "time"))
        return {
            name: np.array([(line["step"], line[name]) for line in self.lines if name in line])
            for name in names
        }

    @property
    def frame(self) -> Any:
        """The metrics as a `pandas.DataFrame`, one row per step.

        Raises:
            UserError: pandas is not installed.
        """
        try:
            import pandas  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise UserError("run.frame needs pandas: pip install pandas, or use run.metrics") from None
        return pandas.DataFrame(self.lines).groupby("step").first().drop(columns="time")

    @property
    def final(self) -> dict[str, float] | None:
        """The final metrics of a finished run, else None."""
        path = self.out / "result.json"
        return read_json(path)["metrics"] if path.exists() else None

    @property
    def seconds(self) -> float:
        """From the first line to the last, pauses included."""
        times = [line["time"] for line in self.lines if "time" in line]
        return times[-1] - times[0] if times else 0.0

    @property
    def variables(self) -> Variables:
        """The variables of the newest checkpoint, as arrays."""
        return self.at()

    def at(self, step: int | None = None, averaged: bool = False) -> Variables:
        """The variables in the checkpoint of `step`, by default the newest; or the `averaged` ones.

        Raises:
            UserError: there is no such checkpoint, or it is damaged, or has no averages.
        """
        return jax.device_put(read_variables(self.out, step, averaged))

    def predict(self, images: Iterable[Path | str], best: int = 5) -> list[list[tuple[int, float]]]:
        """The `best` classes of each image file and their probabilities, the most probable first.

        Pictures are prepared like the test examples: photographs are cropped to the network's square, others
        are converted to the data set's size and colours.
        """
        task = self.task
        raw, _ = example(task.data, 1, task.network.source)
        if getattr(raw, "ndim", 0) != 4 or raw.dtype != np.uint8:
            raise UserError(f"{self.out} was not trained on pictures")
        variables = self.variables

        @jax.jit
        def probabilities(pixels: jax.Array) -> jax.Array:
            outputs, _ = task.network.apply(variables, task.normalize(pixels), train=False)
            return jax.nn.softmax(outputs[0])

        guesses = []
        for path in images:
            picture = decode(Path(path).read_bytes(), str(path))
            found = np.asarray(
                probabilities(_as_example(picture, raw.shape[1:], isinstance(task.data, Stream))[None])
            )
            order = np.argsort(-found, kind="stable")[:best]
            guesses.append([(int(index), float(found[index])) for index in order])
        return guesses

    def predictions(
        self,
        step: int | None = None,
        *,
        averaged: bool = False,
        crops: Crops | Cropping = 1,
        reestimate: bool = False,
        data: Any = None,
        say: Callable[[str], None] = print,
    ) -> Predictions:
        """The probabilities of each test example, by the variables of `step` or their average.

        The other arguments are those of `cnnjax.evaluate`; `data` may be others than in training.
        """
        how = as_cropping(crops)
        task = self.task if data is None else resolve(self.config, Objects(**self._given(data=data)))
        if task.omitted:
            say(task.omitted)
        variables = self.at(step, averaged)
        if reestimate:
            variables = reestimate_averages(task, variables)
        return classify(task, variables, how)

    def evaluate(
        self,
        step: int | None = None,
        *,
        crops: Crops | Cropping = 1,
        reestimate: bool = False,
        say: Callable[[str], None] = print,
        **objects: Any,
    ) -> dict[str, float]:
        """Compute the test metrics of the variables of `step`, and of their average if the run has one.

        `data`, `metrics` or `loss` may be others than in training; the rest is as in `cnnjax.evaluate`.
        """
        given = self._given(**{name: value for name, value in objects.items() if value})
        test = functools.partial(evaluate, self.config, crops=crops, reestimate=reestimate, **given)
        found = test(self.at(step), say=say)
        if self.config.ema:
            averaged = test(self.at(step, averaged=True), say=lambda line: None)
            found |= {f"averaged_{name}": value for name, value in averaged.items()}
        return found


def _as_example(picture: Image.Image, shape: tuple[int, ...], is_photograph: bool) -> np.ndarray:
    """Pixels uint8 of `shape` [height, width, channel]."""
    height, width, channels = shape
    if is_photograph:
        return np.asarray(centre(picture, height))
    picture = picture.convert("L" if channels == 1 else "RGB").resize(
        (width, height), Image.Resampling.BILINEAR
    )
    return np.asarray(picture).reshape(shape)


def open_run(folder: Path | str, **objects: Any) -> OpenRun:
    """The run in `folder`.

    Args:
        folder: of a run.
        objects: those that replaced names in training: `model`, `data` and so on. They are needed only for
            what uses them; a model that was named by its file is found automatically.

    Raises:
        UserError: there is no run.
    """
    folder = Path(folder).expanduser()
    path = folder / "config.json"
    if not path.exists():
        raise UserError(f"{folder} holds no run: it has no config.json")
    held = read_json(path)
    if not isinstance(held, dict) or "config" not in held:
        raise UserError(f"{path} is not that of a run")
    decided = set(held.get("objects", {})) & {"loss", "augment"}  # described there in words that are no names
    fields = {name: value for name, value in held["config"].items() if name not in decided}
    return OpenRun(folder, Config.from_json(fields), Objects(**objects), held)


def find_runs(folder: Path | str) -> list[OpenRun]:
    """The runs below `folder`, sorted by path."""
    found = []
    for path in sorted(Path(folder).expanduser().rglob("config.json")):
        try:
            found.append(open_run(path.parent))
        except UserError:
            continue  # an experiment's, or damaged
    return found


RUN_COLUMNS = "run", "model", "data", "state", "steps", "train error", "test error", "seconds"


def run_rows(folder: Path | str) -> list[tuple[str, ...]]:
    """The cells of RUN_COLUMNS for each run below a folder; final errors in percent."""
    rows = []
    for run in find_runs(folder):
        final = run.final or {}
        errors = [
            f"{100 * final[name]:.2f}" if name in final else "" for name in ("train_error", "test_error")
        ]
        place = str(run.out.relative_to(Path(folder).expanduser())) or "."
        model, data = (str(run.held["config"][name]) for name in ("model", "data"))
        model = model.split(" ", 1)[0].rpartition("/")[2]  # without its fields, or its folder
        what = place, model[:40], data[:24], run.state
        rows.append((*what, f"{run.step:,}", *errors, f"{run.seconds:.0f}"))
    return rows
