"""Checkpoints by orbax, with digests of our own.

Orbax commits a checkpoint atomically, but restores flipped bytes without a word and lists steps whose files
are gone. So a checkpoint is sealed once it is committed, with the SHA-256 of each of its files, and `restore`
walks back to the newest step whose seal holds.
"""

import contextlib
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from cnnjax.config import Keep
from cnnjax.distributed import once
from cnnjax.errors import UserError
from cnnjax.files import write_json

SEAL = "sha256.json"
UNSEALED = (SEAL, "_CHECKPOINT_METADATA")  # orbax writes the commit's time into the latter afterwards


class Checkpoints:
    """The checkpoints of one run, those of `keep` kept, written in the background.

    They hold whole host arrays: nothing in them depends on the devices, their mesh or the number of
    processes. All processes call the methods together; the first alone reads and writes.
    """

    def __init__(self, folder: Path, keep: Keep):
        self.folder = folder.absolute()
        self._saving = -1
        self._manager: Any = None
        once(lambda: self._open(keep))

    def _open(self, keep: Keep) -> None:
        logging.getLogger("absl").setLevel(logging.ERROR)  # orbax reports every save there
        self.folder.mkdir(parents=True, exist_ok=True)
        alone = {jax.process_index()}
        options = ocp.CheckpointManagerOptions(
            create=False,
            preservation_policy=_policy(keep),
            best_fn=_test_error,  # without it no metrics are kept for the policy
            cleanup_tmp_directories=True,
            multiprocessing_options=ocp.options.MultiprocessingOptions(active_processes=alone),
            async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
        )
        self._manager = ocp.CheckpointManager(
            self.folder, options=options, item_handlers=ocp.StandardCheckpointHandler()
        )

    def save(self, step: int, state: Mapping[str, Any], test_error: float | None = None) -> None:
        """Start writing `state`, trees of arrays, as of `step`; returns once the arrays may be reused.

        `test_error` is that of `step`, if it was evaluated, for `Keep.best`.
        """
        once(lambda: self._save(step, state, test_error))

    def _save(self, step: int, state: Mapping[str, Any], test_error: float | None) -> None:
        # A copy: the next step may overwrite the device's.
        state = {name: jax.tree.map(np.array, tree) for name, tree in state.items()}
        self._wait()
        self._saving = step
        with self._failures_in_one_line():
            args = ocp.args.StandardSave(state)
            metrics = None if test_error is None else {"test_error": test_error}
            if not self._manager.save(step, args=args, metrics=metrics, force=True):
                raise OSError(f"orbax did not take step {step}")

    def restore(
        self, like: Mapping[str, Any], say: Callable[[str], None]
    ) -> tuple[int, dict[str, Any]] | None:
        """The newest whole checkpoint as (step, state), or None when there is none.

        `like` has trees of arrays or shapes as `save` got them; the state has those of them that were saved,
        as numpy arrays. Damaged checkpoints are passed over, reported through `say` and removed, so that
        their steps can be saved again.
        """
        return once(lambda: self._restore(like, say))

    def _restore(
        self, like: Mapping[str, Any], say: Callable[[str], None]
    ) -> tuple[int, dict[str, Any]] | None:
        for step in sorted(self._manager.all_steps(), reverse=True):
            if damage := find_damage(self._folder(step)):
                say(f"checkpoint {step} in {self.folder} is damaged ({damage}): passed over")
                shutil.rmtree(self._folder(step))
                self._manager.reload()
            else:
                saved = self._manager.item_metadata(step).tree  # orbax reads all that there is, or nothing
                whole = {name: _empty(like.get(name, tree)) for name, tree in saved.items()}
                state = self._manager.restore(step, args=ocp.args.StandardRestore(whole))
                return step, {name: state[name] for name in like if name in saved}
        return None

    def wait(self) -> None:
        """Return when everything saved is on disk."""
        once(self._wait)

    def _wait(self) -> None:
        with self._failures_in_one_line():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Release orbax's threads."""
        if self._manager:
            with self._failures_in_one_line():  # it first waits for what is being written
                self._manager.close()

    def _folder(self, step: int) -> Path:
        return self.folder / str(step)

    def _seal(self) -> None:
        """Orbax calls this when the files are complete, before it renames their temporary folder."""
        for folder in self.folder.glob(f"{self._saving}.*"):
            write_json(folder / SEAL, _digests(folder))

    @contextlib.contextmanager
    def _failures_in_one_line(self) -> Iterator[None]:
        try:  # orbax wraps a full disk in exceptions of many types
            yield
        except Exception as error:
            free = shutil.disk_usage(self.folder).free / 2**20
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
            raise UserError(
                f"could not write a checkpoint to {self.folder} ({free:.0f} MiB free): {reason}; "
                "the ones before it are intact and the same command goes on from them"
            ) from error


def kept_steps(folder: Path) -> list[int]:
    """The steps that there are checkpoints of in a folder, rising; damaged ones included."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdecimal())


def find_damage(folder: Path) -> str | None:
    """What is wrong with the checkpoint in `folder`, or None."""
    try:
        sealed = json.loads((folder / SEAL).read_text())
    except (OSError, ValueError):
        return "it was not finished"
    found = _digests(folder)
    return next(
        (
            f"{name} is {'not what was saved' if name in found else 'missing'}"
            for name, digest in sealed.items()
            if found.get(name) != digest
        ),
        None,
    )


def _empty(tree: Any) -> Any:
    return jax.tree.map(lambda x: np.empty(x.shape, x.dtype), tree)


def _policy(keep: Keep) -> managers.PreservationPolicy:
    best = managers.BestN(
        get_metric_fn=_test_error, reverse=True, n=keep.best, keep_checkpoints_without_metrics=False
    )
    every = [] if keep.every is None else [managers.EveryNSteps(keep.every)]
    return managers.AnyPreservationPolicy([managers.LatestN(keep.last), best, *every])


def _test_error(metrics: Any) -> float:
    return metrics["test_error"]


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a checkpoint, by its path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in UNSEALED)
    return {str(path.relative_to(folder)): _sha256(path) for path in files}


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
