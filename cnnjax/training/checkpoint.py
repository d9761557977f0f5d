"""Checkpoints by orbax, with digests of our own.

Orbax commits a checkpoint atomically, but silently restores flipped bytes and lists steps whose files are
gone. So a committed checkpoint is sealed with the SHA-256 of each of its files, and `restore` goes back to
the newest step whose seal holds. The damaged ones it meets are moved aside, never removed.

This uses orbax's first interface. The next one, `v1`, has what is needed here, but in orbax 0.12 it is still
under `experimental` and its names change. It writes the same layout, so we can switch once it is stable.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from cnnjax.config import CheckpointPolicy
from cnnjax.distributed import on_process_zero
from cnnjax.errors import UserError
from cnnjax.files import set_aside, write_json

SEAL = "sha256.json"
NOTE = "run.json"  # what was trained, in the same words as the run's config.json
UNSEALED = (SEAL, "_CHECKPOINT_METADATA")  # orbax writes the commit's time into the latter afterwards


@dataclasses.dataclass(frozen=True)
class Restored:
    """A checkpoint that was read: its step, its state as host arrays, and the note saved with it."""

    step: int
    state: dict[str, Any]
    note: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run, those of `keep` kept, written in the background.

    They hold whole host arrays: nothing in them depends on the devices, their mesh or the number of
    processes. All processes call the methods together; only process 0 reads and writes.
    """

    def __init__(self, folder: Path, keep: CheckpointPolicy):
        self.folder = folder.absolute()
        self._keep = keep
        self._saving: tuple[int, Mapping[str, Any]] = -1, {}
        self._manager: Any = None

    def _open(self) -> Any:
        """Orbax's manager; the folder is made when there is something to save."""
        if self._manager is None:
            logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax reports every save there
            self.folder.mkdir(parents=True, exist_ok=True)
            alone = {jax.process_index()}
            options = ocp.CheckpointManagerOptions(
                create=False,
                preservation_policy=_policy(self._keep),
                best_fn=_test_error,  # without it no metrics are kept for the policy
                cleanup_tmp_directories=True,
                multiprocessing_options=ocp.options.MultiprocessingOptions(active_processes=alone),
                async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
            )
            self._manager = ocp.CheckpointManager(
                self.folder, options=options, item_handlers=ocp.StandardCheckpointHandler()
            )
        return self._manager

    def save(
        self,
        step: int,
        state: Mapping[str, Any],
        test_error: float | None = None,
        note: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Start writing `state`, trees of arrays, as of `step`; returns once the arrays may be reused.

        `test_error` is that of `step`, if it was evaluated, for `CheckpointPolicy.best`; `note`,
        JSON values, comes back.
        """
        on_process_zero(lambda: self._save(step, state, test_error, note))

    def _save(
        self, step: int, state: Mapping[str, Any], test_error: float | None, note: Mapping[str, Any]
    ) -> None:
        # A copy: the next step may overwrite the device's.
        state = {name: jax.tree.map(np.array, tree) for name, tree in state.items()}
        self._wait()
        self._saving = step, note
        with self._failures_in_one_line():
            args = ocp.args.StandardSave(state)
            metrics = None if test_error is None else {"test_error": test_error}
            if not self._open().save(step, args=args, metrics=metrics, force=True):
                raise OSError(f"orbax did not take step {step}")

    def restore(self, like: Mapping[str, Any], say: Callable[[str], None]) -> Restored | None:
        """The newest whole checkpoint, or None when there is none.

        `like` has trees of arrays or shapes as `save` got them; the state has those of them that were saved,
        as numpy arrays. Damaged checkpoints are moved to checkpoints.damaged and reported through `say`.

        Raises:
            UserError: the checkpoint is of another network.
        """
        return on_process_zero(lambda: self._restore(like, say))

    def _restore(self, like: Mapping[str, Any], say: Callable[[str], None]) -> Restored | None:
        for step in reversed(kept_steps(self.folder)):
            if self._whole(step, say):
                break
        else:
            return None
        try:
            manager = self._open()
            saved = manager.item_metadata(step).tree  # orbax reads all that there is, or nothing
            _check_shapes(self._folder(step), saved, like)
        except UserError:
            raise
        except Exception:  # it looks at older ones too
            if all([self._whole(older, say) for older in kept_steps(self.folder)]):
                raise
            self._manager = None
            return self._restore(like, say)
        whole = {name: _empty(like.get(name, tree)) for name, tree in saved.items()}
        state = manager.restore(step, args=ocp.args.StandardRestore(whole))
        state = {name: state[name] for name in like if name in saved}
        return Restored(step, state, _note(self._folder(step)))

    def _whole(self, step: int, say: Callable[[str], None]) -> bool:
        """Whether a checkpoint is whole; one that is not is moved aside: its step can be saved again."""
        if damage := find_damage(self._folder(step)):
            aside = set_aside(self._folder(step), into=self.folder.with_name(f"{self.folder.name}.damaged"))
            say(f"checkpoint {step} in {self.folder} is damaged ({damage}): moved to {aside}")
        return not damage

    def wait(self) -> None:
        """Return when everything saved is on disk."""
        on_process_zero(self._wait)

    def _wait(self) -> None:
        if self._manager:
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
        step, note = self._saving
        for folder in self.folder.glob(f"{step}.*"):
            write_json(folder / NOTE, dict(note))
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
    """The steps of the checkpoints in a folder, ascending; damaged ones included."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdecimal())


def read_checkpoint(folder: Path, step: int) -> dict[str, Any]:
    """The state of a whole checkpoint as host arrays, by the names it was saved under."""
    path = folder.absolute() / str(step) / "default"
    with _without_warnings(), ocp.StandardCheckpointer() as checkpointer:
        return dict(checkpointer.restore(path, _empty(checkpointer.metadata(path).item_metadata.tree)))


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Orbax warns on stderr of metadata that a checkpoint like ours has nowhere."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def newest_note(folder: Path) -> Any:
    """The note of the newest checkpoint in a folder that has one, or None."""
    notes = (_note(folder / str(step)) for step in reversed(kept_steps(folder)))
    return next((note for note in notes if note), None)


def _note(folder: Path) -> Any:
    try:
        return json.loads((folder / NOTE).read_bytes())
    except (OSError, ValueError):
        return {}  # an older version wrote none


def find_damage(folder: Path) -> str | None:
    """What is wrong with the checkpoint in `folder`, or None."""
    try:
        sealed = dict(json.loads((folder / SEAL).read_bytes()))
    except (OSError, ValueError, TypeError):
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


def _check_shapes(folder: Path, saved: Mapping[str, Any], like: Mapping[str, Any]) -> None:
    for name in saved.keys() & like.keys():
        there, here = ([tuple(leaf.shape) for leaf in jax.tree.leaves(each[name])] for each in (saved, like))
        if sorted(there) != sorted(here):
            raise UserError(f"{folder} is a checkpoint of another network: give another folder")


def _empty(tree: Any) -> Any:
    return jax.tree.map(lambda x: np.empty(x.shape, x.dtype), tree)


def _policy(keep: CheckpointPolicy) -> managers.PreservationPolicy:
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
