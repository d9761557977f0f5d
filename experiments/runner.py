"""The common parts of experiments: run configs, keep arrays, summarise over seeds, write the results."""

import dataclasses
import functools
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from cnnjax.config import Config, MultiRunMode
from cnnjax.counting import summary
from cnnjax.data import Dataset, Stream
from cnnjax.data.batches import batch_indices
from cnnjax.distributed import first, on_process_zero
from cnnjax.errors import Diverged, UserError
from cnnjax.files import read_json, set_aside, sort_lines, write_json
from cnnjax.machine import usable_cores
from cnnjax.mesh import parse_mesh
from cnnjax.npz import read_arrays, write_arrays
from cnnjax.objects import is_object
from cnnjax.recipes import Objects, resolve
from cnnjax.report.contents import report_of, write_findings
from cnnjax.report.page import Study, Table, write_page
from cnnjax.running import train_many
from cnnjax.sinks import Sinks, make_sinks
from cnnjax.terminal import Page, show, table
from cnnjax.training import program_key
from cnnjax.training.inputs import example
from cnnjax.training.record import finished
from cnnjax.training.rewind import check_rewind, has_begun

from . import parts
from .workers import Job, one_by_one, side_by_side


def run_all(
    runs: Mapping[str, Config],
    out: Path,
    data: Dataset | Stream,
    *,
    how: MultiRunMode = "sequential",
    mesh: str | None = None,
    workers: int | None = None,
    part: str | None = None,
    resume: int | None = None,
    may_diverge: bool = False,
    **options: Any,
) -> dict[str, dict]:
    """Train every config in `out`/NAME, and return the final metrics by name. Finished runs are not repeated.

    Runs that can share a program, such as the seeds of one network, do; `how`, `resume` and the options are
    those of `train_many`, as is `mesh`, as text for `parse_mesh`. `workers` programs are trained side by
    side: by default one, or on a CPU one for each core, but not more than there are programs. Of several
    processes that train together, only process 0 returns, to summarise and draw; the others exit here. Of
    several jobs that share the folder, each with its own `part` of the runs such as "0/4", so does the one
    that ends last.

    A run that diverges ends all, as an error, unless runs `may_diverge`: then its result is `diverged_at`,
    the last step with finite numbers. They are trained one after the other, whatever `how`.

    Raises:
        UserError: there are fewer cores than `workers`, or no such part; or as in `train_many`.
    """
    if mesh is not None:
        parse_mesh(mesh)  # what cannot be is said here, not by every worker
    make_sinks(options.get("sinks", ()))
    everything, runs = runs, runs if part is None else parts.of(part, runs)
    groups: dict[str, list[str]] = {}
    for name, config in runs.items():
        groups.setdefault(json.dumps(program_key(config)), []).append(name)
    # Of all groups, not of those left: a run must get as many cores when it goes on.
    workers = how_many(workers, len(groups))

    if resume is None:
        identities = {
            name: {"config": config.to_json(), "data": data.digest} for name, config in runs.items()
        }
        done = on_process_zero(
            lambda: {
                name
                for name, identity in identities.items()
                if finished(out / name, identity) or (may_diverge and _diverged(out / name, identity))
            }
        )
    else:  # they may have to go back, which `train_many` finds out
        check_rewind([out / name for name in runs], resume)
        done = set()
    unfinished = [left for names in groups.values() if (left := [one for one in names if one not in done])]
    print(f"{len(runs) - sum(map(len, unfinished))} of {len(runs)} runs are finished")

    def job(names: list[str]) -> Job:
        configs, outs = [runs[name] for name in names], [out / name for name in names]
        train = _train_unless_diverged if may_diverge else _train
        act = functools.partial(train, configs, outs, how, mesh, data=data, resume=resume, **options)
        steps = len(names) * configs[0].steps
        return Job(act, len(names), steps, steps * _cost(configs[0]))

    do([job(names) for names in unfinished], workers)
    if not first():
        raise SystemExit
    results = [out / name / "result.json" for name in everything]
    if part is not None:
        parts.leave_unless_last(out, results)
    return {path.parent.name: _outcome(path) for path in results}


def how_many(workers: int | None, jobs: int) -> int:
    """How many of the jobs to do at once: by default one, or on a CPU one for each core.

    Raises:
        UserError: there are fewer cores than `workers`, or the launcher has started several processes.
    """
    cores = len(usable_cores())
    if workers is None:
        workers = min(cores, jobs) if jax.default_backend() == "cpu" and jax.device_count() == 1 else 1
    if not 1 <= workers <= cores:
        raise UserError(f"--workers {workers}: must be 1 to {cores}, the number of cores")
    if workers > 1 and jax.process_count() > 1:
        raise UserError(f"--workers {workers}: the launcher's processes train one network at a time")
    return workers


def do(jobs: Sequence[Job], workers: int) -> None:
    """Do every job, in this process or in several workers, to which the jobs are pickled."""
    if not jobs:
        return
    if workers > 1:
        side_by_side(jobs, workers)
    else:
        one_by_one(jobs)


def do_missing(jobs: Mapping[Path, Job], workers: int | None) -> None:
    """Do the jobs whose file is not there yet; `workers` as in `how_many`."""
    left = [job for file, job in jobs.items() if not file.exists()]
    do(left, how_many(workers, max(1, len(left))))


class Instrument(Protocol):
    """Measures once, and keeps what it measured as arrays in a file."""

    @property
    def file(self) -> Path:
        """The file."""
        ...

    @property
    def arrays(self) -> Callable[..., dict[str, np.ndarray]]:
        """A function that returns them, by name."""
        ...


def measure_all(
    instruments: Mapping[str, Instrument], workers: int | None, *arguments: Any
) -> dict[str, dict[str, np.ndarray]]:
    """The `arrays(*arguments)` of all, by name; what is not there yet is measured side by side, in order."""
    do_missing(
        {one.file: Job(functools.partial(one.arrays, *arguments)) for one in instruments.values()}, workers
    )
    return {name: one.arrays(*arguments) for name, one in instruments.items()}


def _cost(config: Config) -> float:
    """Multiply-adds of a step, up to a factor that runs on the same images share; 1 for a user's network."""
    if is_object(config.model):
        return 1.0
    return summary(config.model, **config.model_options).macs * config.batch_size


def _train(
    configs: list[Config],
    outs: list[Path],
    how: MultiRunMode,
    mesh: str | None,
    resume: int | None = None,
    **options: Any,
) -> None:
    step = resume
    if step is not None and not on_process_zero(lambda: any(has_begun(out, step) for out in outs)):
        resume = None  # other runs of the experiment go back; these begin
    whole = parse_mesh(mesh) if mesh is not None else None
    train_many(configs, outs, how, mesh=whole, resume=resume, **options)


DIVERGED = "diverged.json"


def _train_unless_diverged(
    configs: list[Config], outs: list[Path], how: MultiRunMode, mesh: str | None, **options: Any
) -> None:
    """Train one run after the other; the folder of one that diverges says so."""
    while configs:
        try:
            return _train(configs, outs, "sequential", mesh, **options)
        except Diverged as error:
            # Those before it are finished, those after it have not begun.
            ended = next(index for index, out in enumerate(outs) if not (out / "result.json").exists())
            print(str(error))
            identity = {"config": configs[ended].to_json(), "data": options["data"].digest}
            on_process_zero(functools.partial(_note_divergence, outs[ended], identity))
            configs, outs = configs[ended + 1 :], outs[ended + 1 :]


def _note_divergence(out: Path, identity: Mapping[str, Any]) -> None:
    lines, _ = sort_lines(out / "metrics.jsonl")
    out.mkdir(parents=True, exist_ok=True)
    step = max((line["step"] for line in lines), default=0)
    write_json(out / DIVERGED, {**identity, "diverged_at": step})


def _diverged(out: Path, identity: Mapping[str, Any]) -> bool:
    """Whether the run of this identity is known to diverge."""
    path = out / DIVERGED
    held = read_json(path) if path.exists() else {}
    return all(held.get(name) == value for name, value in identity.items())


def _outcome(result: Path) -> dict[str, float]:
    """The final metrics of a run, or where it diverged."""
    if result.exists():
        return read_json(result)["metrics"]
    return {"diverged_at": read_json(result.with_name(DIVERGED))["diverged_at"]}


def cached_npz(path: Path, compute: Callable[[], Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """The arrays that `compute` returns, by name, cached in the npz file `path`.

    A damaged file is set aside, and its arrays are computed again.
    """
    if path.exists():
        try:
            return read_arrays(path)
        except UserError as error:
            print(f"{error}: moved to {set_aside(path)}, and computed again")
    write_arrays(path, compute())
    return read_arrays(path)


def check_on_shapes(config: Config, data: Dataset, probe: Callable[[Any, Any, tuple], Any]) -> None:
    """Raise what `probe` does for a config's network, its variables and a batch; nothing is computed."""
    task = resolve(config, Objects(data=data))
    images, labels = example(task.data, 2, task.network.source)

    def look(key: jax.Array, images: Any, labels: Any) -> None:
        inputs = task.normalize(images)
        probe(task.network, task.init(key, inputs), (inputs, labels))

    jax.eval_shape(look, jax.random.key(0), images, labels)


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and sample standard deviation over seeds, and the values themselves."""
    return {
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else 0.0,
        "values": list(values),
    }


def percent(fractions: Sequence[float], digits: int = 1) -> str:
    """Mean and sample standard deviation, in percent."""
    over = spread(fractions)
    return f"{100 * over['mean']:.{digits}f} ± {100 * over['std']:.{digits}f}"


def fixed_choice(number: int, of: int) -> np.ndarray:
    """Indices of so many examples, or of all if there are fewer: always the same ones."""
    return batch_indices(0, 0, min(number, of), of)


@dataclasses.dataclass
class Findings:
    """The results of an experiment, for its summary, its page and the terminal; captions are the keys."""

    results: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    figures: dict[str, dict[str, Path]] = dataclasses.field(default_factory=dict)
    tables: dict[str, Table] = dataclasses.field(default_factory=dict)
    others: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    """Results with other fields, by name."""

    def log(self, out: Path, names: Sequence[str]) -> None:
        """Send the figures to sinks, by their names, as those of a run in `out`."""
        sinks = Sinks(make_sinks(names), out, read_json(out / "config.json")["experiment"], 0, print)
        sinks.start()
        for paths in self.figures.values():
            sinks.figure(0, paths["png"].stem, paths["png"])
        sinks.close()

    def write(self, out: Path, question: str) -> None:
        """Write summary.json and report.html, print tables and paths; `question` is a title and its text."""
        write_json(out / "summary.json", {"results": self.results, **self.others})
        title, text = question.split("\n\n", 1)
        drawn = {caption: paths["json"] for caption, paths in self.figures.items()}
        write_findings(out, Study(title, text, tables=self.tables), drawn)
        write_page(out / "report.html", report_of([out]))
        for caption, (header, rows) in self.tables.items():
            show(Page("", table(rows, header), caption))
        print()
        for path in (path for paths in self.figures.values() for path in paths.values()):
            print(path)
        for name in ("summary.json", "report.html"):
            print(out / name)
