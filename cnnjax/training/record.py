"""What a run leaves on disk besides its checkpoints: metrics.jsonl, and where and how it ran."""

import contextlib
import importlib.metadata
import itertools
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.config import differences
from cnnjax.distributed import first, once
from cnnjax.errors import Diverged, UserError
from cnnjax.files import read_json, read_jsonl, replacing, write_json
from cnnjax.machine import usable_cores
from cnnjax.ops.conv import best_form

PACKAGES = ("cnnjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
FLAGS = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS", "JAX_DEFAULT_MATMUL_PRECISION", "JAX_ENABLE_X64")


class Record:
    """The lines of metrics.jsonl, one object a line; optionally TensorBoard beside it.

    A run that goes on from `step` keeps the lines up to that step and writes the later ones anew, so the file
    is the same, times aside, as that of a run never interrupted. All processes know the lines, the first has
    the file.
    """

    def __init__(self, folder: Path, step: int, tensorboard: bool):
        self._folder = folder
        self._file: IO[str] | None = None
        self._board: Any = None
        self.lines = once(lambda: self._open(step))
        if tensorboard and first():
            from tensorboardX import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def _open(self, step: int) -> list[dict[str, Any]]:
        path = self._folder / "metrics.jsonl"
        lines = [line for line in read_jsonl(path) if line["step"] <= step]
        path.touch()
        self._file = open(path, "r+")  # noqa: SIM115 - `close` does
        self._file.writelines(json.dumps(line) + "\n" for line in lines)
        self._file.truncate()
        return lines

    def write(self, step: int, **metrics: float) -> None:
        """Add one line for `step`, the number of steps taken; raises Diverged when a value is not finite."""
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise Diverged(
                    f"{name} is {value} at step {step} in {self._folder}: training diverged and stops here; "
                    "any checkpoints are from before that. Try a lower learning rate or a longer warm-up"
                )
        line = {"step": step, **metrics, "time": round(time.time(), 3)}
        self.lines.append(line)
        if self._file:
            self._file.write(json.dumps(line) + "\n")
        if self._board:
            for name, value in metrics.items():
                self._board.add_scalar(name, value, step)

    def value(self, metric: str, step: int) -> float | None:
        """This metric's value in the lines of `step`, if one has it."""
        recent = itertools.takewhile(lambda line: line["step"] >= step, reversed(self.lines))
        return next((line[metric] for line in recent if metric in line), None)

    def final(self, steps: int) -> dict[str, float]:
        """Training metrics averaged over the last tenth of the steps, test metrics of the last one."""
        tail = [line for line in self.lines if line["step"] > steps - max(1, steps // 10)]
        train = {
            name: sum(values) / len(values)
            for name in ("train_loss", "train_error")
            if (values := [line[name] for line in tail if name in line])
        }
        test = next(line for line in reversed(tail) if "test_error" in line)
        return {**train, "test_loss": test["test_loss"], "test_error": test["test_error"]}

    def flush(self) -> None:
        """Bring all lines to disk."""
        once(self._flush)

    def _flush(self) -> None:
        if self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
        if self._board:
            self._board.flush()

    def close(self) -> None:
        """Bring all lines to disk and close the file."""
        with contextlib.closing(self._file) if self._file else contextlib.nullcontext():
            self._flush()
        if self._board:
            self._board.close()


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays, by name, as an npz file, whole or not at all."""
    with replacing(path, "wb") as file:
        np.savez(file, **{name: np.asarray(array) for name, array in arrays.items()})  # pyright: ignore


def claim(folder: Path, kind: str, settings: Mapping[str, Any], growing: Sequence[str] = ()) -> None:
    """Make `folder` with a config.json that holds `settings`, or make sure that the one there does.

    `kind` says what the settings are of: a "config" or an "experiment". Those named in `growing` may differ:
    they say which runs are made, not how.

    Raises:
        UserError: the folder holds other settings.
    """
    once(lambda: _claim(folder, kind, settings, growing))


def _claim(folder: Path, kind: str, settings: Mapping[str, Any], growing: Sequence[str]) -> None:
    path = folder / "config.json"
    held = read_json(path) if path.exists() else None
    if held is not None and not (isinstance(held, dict) and kind in held):
        raise UserError(f"{path} holds no {kind}: give another folder")
    found = held and held[kind]
    if found == settings:
        return
    if found is not None:
        fixed = [
            {name: value for name, value in each.items() if name not in growing} for each in (found, settings)
        ]
        if changes := differences(*fixed):
            raise UserError(
                f"{folder} holds another {kind} ({'; '.join(changes)}): give another folder or remove it"
            )
    write_json(path, {kind: dict(settings), "environment": environment(settings)})


def environment(settings: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """Versions, device, command, git commit and what decides programs, for the record.

    `settings` are those of `Config.to_json`, or of an experiment, whose networks compute in float32.
    """
    form = settings.get("model_options", {}).get("convolution", "auto")
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    devices = jax.devices()
    kind = f"{devices[0].device_kind} ({devices[0].platform})"
    return {
        "versions": {"python": sys.version.split()[0], **versions},
        "convolution": best_form(jnp.dtype(settings.get("dtype", "float32"))) if form == "auto" else form,
        "device": f"{len(devices)} x {kind}, {len(usable_cores())} cores",
        "command": " ".join([Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]]),
        "git_commit": _git_commit(),
        "flags": {name: os.environ[name] for name in FLAGS if name in os.environ},
    }


def _git_commit() -> str | None:
    """The commit of the checkout that this file lies in, with "+" when files differ from it."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+" if status.stdout.strip() else "")
