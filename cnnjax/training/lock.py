"""Allow only one run in a folder at a time."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from cnnjax.distributed import on_process_zero
from cnnjax.errors import UserError


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder`, in process 0; raises UserError if another process holds it.

    The lock file is in the folder, so that all machines that share the folder see it. Afterwards it is
    removed, together with the folders that were made for it if nothing else was written there.
    """
    with contextlib.ExitStack() as held:
        on_process_zero(lambda: _lock(folder, held))
        yield


def _lock(folder: Path, held: contextlib.ExitStack) -> None:
    path = folder / ".lock"
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    while (file := _try(path)) is None:  # whoever held it before has just removed it
        pass
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    held.callback(_unlock, file, path, missing)


def _try(path: Path) -> IO[str] | None:
    """The lock file, locked, or None if it is no longer the one at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = open(path, "a+")  # noqa: SIM115 - held until `_unlock`
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise UserError(
            f"{path.parent} is in use by process {holder}: wait for it or give another --out"
        ) from None
    except FileNotFoundError:
        pass
    file.close()
    return None


def _unlock(file: IO[str], path: Path, made: list[Path]) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()  # while it is held: the next one to open this file finds that it is gone
    file.close()
    with contextlib.suppress(OSError):  # up to the first that is not empty
        for folder in made:
            folder.rmdir()
