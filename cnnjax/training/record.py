"""The files of a run besides its checkpoints: metrics.jsonl, result.json and arrays."""

import contextlib
import hashlib
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from cnnjax.data.whiten import Whitening
from cnnjax.distributed import on_process_zero
from cnnjax.errors import Diverged, UserError
from cnnjax.files import append_lines, read_json, replacing, set_aside, sort_lines, write_json
from cnnjax.npz import read_arrays, write_arrays
from cnnjax.sinks.group import Sinks
from cnnjax.training.run_dir import Identity, environment, with_defaults

WHITENING = "whitening.npz"


class Record:
    """The lines of metrics.jsonl, one object a line, which the sinks are given too.

    A run that continues from `step` keeps the lines up to that step and writes the later ones again, so that,
    apart from times, the file is that of an uninterrupted run. All processes know the lines; process 0 has
    the file. Nothing is written before the first new line, and nothing that was written is lost: unreadable
    lines go to metrics.jsonl.damaged, those of steps that are repeated to metrics.jsonl.before.
    """

    def __init__(
        self, folder: Path, step: int, sinks: Sinks, written: str | None, say: Callable[[str], None]
    ):
        """`written` is the digest of the lines up to `step`, if it is known."""
        self.path = folder / "metrics.jsonl"
        self._step, self._sinks = step, sinks
        self._file: IO[bytes] | None = None
        self.begun = False
        self._digest = hashlib.sha256()
        self.lines, self.verified = on_process_zero(lambda: self._read(written, say))
        for line in self.lines:
            self._digest.update(_text(line))

    def _read(self, written: str | None, say: Callable[[str], None]) -> tuple[list[dict[str, Any]], bool]:
        """The lines, and whether they are known to be those that were written."""
        whole, damaged = sort_lines(self.path)
        lines = [line for line in whole if line["step"] <= self._step]
        if damaged:
            aside = self.path.with_name(f"{self.path.name}.damaged")
            append_lines(aside, (line + b"\n" for line in damaged))
            with replacing(self.path, "wb") as file:
                file.writelines(map(_text, whole))
            say(f"{self.path}: {len(damaged)} damaged line{'s' * (len(damaged) > 1)} moved to {aside}")
        if len(lines) < len(whole):
            aside = self.path.with_name(f"{self.path.name}.before")
            say(f"{self.path}: its lines after step {self._step} are kept in {aside}")
        verified = written == hashlib.sha256(b"".join(map(_text, lines))).hexdigest()
        if written and not verified and not damaged:
            say(f"{self.path} is damaged: up to step {self._step} it is not what was written; it stays so")
        return lines, verified

    @property
    def digest(self) -> str:
        """SHA-256 of the lines."""
        return self._digest.hexdigest()

    def begin(self) -> None:
        """Open the file for new lines; those of later steps make room."""
        self.begun = True
        on_process_zero(self._open)
        self._sinks.start()

    def _open(self) -> None:
        whole, _ = sort_lines(self.path)
        if later := [line for line in whole if line["step"] > self._step]:
            append_lines(self.path.with_name(f"{self.path.name}.before"), map(_text, later))
            with replacing(self.path, "wb") as file:
                file.writelines(map(_text, self.lines))
        self._file = open(self.path, "ab")  # noqa: SIM115 - `close` does

    def write(self, step: int, **metrics: float) -> None:
        """Add one line for `step`, the number of steps taken; raises Diverged when a value is not finite."""
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise Diverged(
                    f"{name} is {value} at step {step} in {self.path.parent}: training diverged and "
                    "stops here; any checkpoints are from before that. Try a lower learning rate or a longer "
                    "warm-up"
                )
        line = {"step": step, **metrics, "time": round(time.time(), 3)}
        self.lines.append(line)
        self._digest.update(_text(line))
        if self._file:
            self._file.write(_text(line))
            self._file.flush()  # a process that is killed leaves whole lines
        self._sinks.write(step, metrics)

    def histograms(self, step: int, arrays: Mapping[str, Any]) -> None:
        """Hand the sinks what probes measured, as arrays by name."""
        self._sinks.histograms(step, arrays)

    def value(self, metric: str, step: int) -> float | None:
        """This metric's value in the lines of `step`, if one has it."""
        recent = itertools.takewhile(lambda line: line["step"] >= step, reversed(self.lines))
        return next((line[metric] for line in recent if metric in line), None)

    def flush(self) -> None:
        """Bring all lines to disk."""
        on_process_zero(self._flush)
        self._sinks.flush()

    def _flush(self) -> None:
        if self._file:
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Bring all lines to disk and close the file."""
        with contextlib.closing(self._file) if self._file else contextlib.nullcontext():
            self._flush()
        if self.begun:
            self._sinks.close()


def _text(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line).encode() + b"\n"


def final_metrics(lines: Sequence[Mapping[str, Any]], step: int) -> dict[str, float]:
    """Training metrics averaged over the last tenth of `step` steps, and the test metrics of the last one."""
    tail = [line for line in lines if step - max(1, step // 10) < line["step"] <= step]
    names = dict.fromkeys(name for line in tail for name in line)
    train = {
        name: sum(values) / len(values)
        for name in names
        if name.startswith("train_") and (values := [line[name] for line in tail if name in line])
    }
    tests = [line for line in tail if "test_loss" in line]
    tested = {
        name: value
        for name, value in (tests[-1] if tests else {}).items()
        if name.startswith(("test_", "averaged_test_"))
    }
    return {**train, **tested}


def finished(out: Path, identity: Identity) -> dict[str, float] | None:
    """The final metrics of a finished run of this identity, if its files agree."""
    with contextlib.suppress(OSError, UserError, TypeError, KeyError):
        recorded, found = read_json(out / "config.json"), read_json(out / "result.json")
        lines, damaged = sort_lines(out / "metrics.jsonl")
        metrics = final_metrics(lines, found.get("step", identity["config"]["steps"]))
        agrees = all(
            {**each, "config": with_defaults(each["config"])}.get(name, value) == value
            for each in (recorded, found)
            for name, value in identity.items()
        )
        if not damaged and agrees and found.get("metrics") == metrics:
            return metrics
    return None


def read_result(
    out: Path, identity: Identity, step: int, record: Record, say: Callable[[str], None]
) -> dict[str, float] | None:
    """The final metrics in result.json of a run that ended at `step`; None if it must be written.

    It is set aside if it can't be read or contradicts `record`.
    """
    path = out / "result.json"
    if not path.exists():
        say(f"{path} is missing: it is written from metrics.jsonl")
        return None
    try:
        found = read_json(path)
        settings = with_defaults(found["config"])
        metrics, data = dict(found["metrics"]), found.get("data", identity["data"])
    except (UserError, AttributeError, KeyError, TypeError, ValueError):
        say(f"{path} is damaged: moved to {set_aside(path)}")
        return None
    ours = identity["config"]
    if settings != {**settings, "steps": ours["steps"]} == ours:
        return None  # the run was made longer
    if (settings, data) != (ours, identity["data"]) or (
        record.verified and metrics != final_metrics(record.lines, step)
    ):
        say(f"{path} is damaged, other files disagree with it: moved to {set_aside(path)}")
        return None
    return metrics


def write_result(out: Path, identity: Identity, step: int, metrics: Mapping[str, float]) -> None:
    """Write result.json of a run that ended at `step`; a different one that exists is set aside."""
    path = out / "result.json"
    with contextlib.suppress(FileNotFoundError):
        set_aside(path, "before")
    found = {**identity, "step": step, "metrics": dict(metrics)}
    write_json(path, {**found, "environment": environment(identity["config"])})


def write_whitening(out: Path, whitening: Whitening) -> None:
    """Keep what the training images were whitened by, unless the run has it."""
    if not (out / WHITENING).exists():
        write_arrays(out / WHITENING, whitening._asdict())


def kept_whitening(outs: Sequence[Path]) -> Whitening | None:
    """What runs of one program were whitened by, from the first that keeps it."""
    return on_process_zero(lambda: next(filter(None, map(read_whitening, outs)), None))


def read_whitening(out: Path) -> Whitening | None:
    """What the run in `out` was whitened by, if it keeps it; raises UserError when the file is damaged."""
    with contextlib.suppress(FileNotFoundError):
        arrays = read_arrays(out / WHITENING)
        if arrays.keys() != set(Whitening._fields):
            raise UserError(f"{out / WHITENING} is damaged: move it away, and it is fitted again")
        return Whitening(**arrays)
