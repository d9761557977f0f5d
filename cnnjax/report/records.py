"""What a report needs of runs and experiments on disk, read without jax and without their objects."""

import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.errors import UserError
from cnnjax.files import parse_lines, read_json
from cnnjax.npz import read_arrays

SEEDS = ("seed", "data_seed")
NO_METRICS = ("step", "time")  # of a line
FINDINGS = "report.json"


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """One run's folder, as it is at the moment.

    Attributes:
        folder: of the run.
        held: the content of its config.json.
        lines: of metrics.jsonl, those that are whole, each step once.
        final: the final metrics, once it has finished.
        diverged_at: the last step with finite numbers, if an experiment has noted that it diverged.
    """

    folder: Path
    held: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]
    final: Mapping[str, float] | None
    diverged_at: int | None

    @property
    def config(self) -> Mapping[str, Any]:
        """The run's configuration as JSON."""
        return self.held["config"]

    @property
    def family(self) -> Mapping[str, Any]:
        """What runs share that differ in nothing but their seeds."""
        config = {name: value for name, value in self.config.items() if name not in SEEDS}
        return {"config": config, "data": self.held.get("data"), "objects": self.held.get("objects")}

    @property
    def seeds(self) -> tuple[Any, Any]:
        """Of the initial weights, and of the data, which has the same one unless it is told."""
        seed, data_seed = (self.config.get(name) for name in SEEDS)
        return seed, seed if data_seed is None else data_seed

    @property
    def parameters(self) -> int | None:
        """How many are trained; None of a run that was begun before this was recorded."""
        return self.held.get("parameters")

    @property
    def step(self) -> int:
        """The last step in its record."""
        return max((line["step"] for line in self.lines), default=0)

    @property
    def state(self) -> str:
        """`finished`, `diverged at step S`, or `step S of N`."""
        if self.final is not None:
            return "finished"
        if self.diverged_at is not None:
            return f"diverged at step {self.diverged_at:,}"
        return f"step {self.step:,} of {self.config.get('steps', 0):,}"

    @property
    def last(self) -> dict[str, float]:
        """The final metrics, and the newest value of all that are none."""
        newest = {name: value for line in self.lines for name, value in line.items()}
        return {name: one for name, one in {**newest, **(self.final or {})}.items() if name not in NO_METRICS}

    @property
    def seconds(self) -> float:
        """From the first line to the last, pauses included."""
        times = [line["time"] for line in self.lines if "time" in line]
        return max(times) - min(times) if times else 0.0

    def measured(self, probe: str = "") -> dict[int, dict[str, np.ndarray]]:
        """The arrays of a probe by step, in order; without a name, those of `LayerProbe`.

        A file that is damaged is left out.
        """
        found = {}
        for path in (self.folder / "probes" / probe).glob("step_*.npz"):
            step = path.stem.removeprefix("step_")
            if step.isdecimal() and (arrays := _arrays(path, _stamp(path))) is not None:
                found[int(step)] = arrays
        return dict(sorted(found.items()))


def find_records(folders: Sequence[Path]) -> list[RunRecord]:
    """The runs in the folders or below them, each once, by path.

    Raises:
        UserError: there is no such folder.
    """
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}")
    places = dict.fromkeys(place.resolve() for folder in folders for place in _places(folder))
    return [record for place in places if (record := _read_record(place)) is not None]


def find_findings(folders: Sequence[Path]) -> dict[Path, Mapping[str, Any]]:
    """What experiments have found, by their folder, if the folder itself is given."""
    found = {}
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        held = _json(folder / FINDINGS)
        if isinstance(held, dict) and {"title", "text", "figures", "tables"} <= held.keys():
            found[folder] = held
    return found


def experiment_of(folder: Path) -> Mapping[str, Any]:
    """The content of an experiment's config.json; empty if the folder has none."""
    held = _json(folder / "config.json")
    return held if isinstance(held, dict) and isinstance(held.get("experiment"), dict) else {}


def changes_of(folders: Sequence[Path]) -> tuple[Any, ...]:
    """A value that differs once anything that a report is made of has changed; cheap."""
    files = []
    for folder in folders:
        for place in _places(folder):
            for path in (*place.glob("*.json*"), *place.glob("probes/**/*.npz")):
                files.append((str(path), _stamp(path)))
        files += [(str(path), _stamp(path)) for path in folder.glob("*.json")]
    return tuple(sorted(files))


def _places(folder: Path) -> Iterator[Path]:
    """The folders at or below `folder` with a config.json of a run, without those inside of runs."""
    for place, inner, files in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        held = _json(Path(place, "config.json")) if "config.json" in files else None
        if isinstance(held, dict) and isinstance(held.get("config"), dict):
            inner.clear()
            yield Path(place)


def _read_record(folder: Path) -> RunRecord | None:
    held, result = _json(folder / "config.json"), _json(folder / "result.json")
    if not held:
        return None
    diverged = (_json(folder / "diverged.json") or {}).get("diverged_at")
    final = result.get("metrics") if isinstance(result, dict) and not _is_longer(held, result) else None
    return RunRecord(folder, held, _lines(folder / "metrics.jsonl"), final, diverged)


def _is_longer(held: Mapping[str, Any], result: Mapping[str, Any]) -> bool:
    """Whether the run was made longer after it had that result, and has not ended again."""
    return result.get("config", held["config"]).get("steps") != held["config"].get("steps")


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _json(path: Path) -> Any:
    return _json_of(path, _stamp(path))


# A file is read again only when it has changed: a page that is watched asks every second.


@functools.lru_cache(4096)
def _json_of(path: Path, stamp: tuple[int, ...]) -> Any:
    try:
        return read_json(path) if stamp else None
    except (OSError, UserError):
        return None


_read: dict[Path, tuple[int, int, dict[Any, dict[str, Any]]]] = {}
"""Of each metrics file: its inode, how many bytes of it were read, and the lines in them."""


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines in order of their steps; of a step that was repeated, the later one.

    A run appends to its file, or puts another in its place; only what is new is read. A last line that is
    not finished yet is left for later.
    """
    inode, *_ = _stamp(path) or (0,)
    known, start, merged = _read.get(path, (0, 0, {}))
    if inode != known or start > path.stat().st_size:
        start, merged = 0, {}
    if inode:
        with open(path, "rb") as file:
            file.seek(start)
            raw = file.read()
        whole = raw[: raw.rfind(b"\n") + 1]
        for line in parse_lines(whole)[0]:
            merged[line["step"], *sorted(line)] = line
        _read[path] = inode, start + len(whole), merged
    return [merged[key] for key in sorted(merged)]


@functools.lru_cache(2048)
def _arrays(path: Path, stamp: tuple[int, ...]) -> dict[str, np.ndarray] | None:
    try:
        return read_arrays(path) if stamp else None
    except (OSError, UserError):
        return None
