"""Files that are whole or absent: written under a temporary name, then renamed."""

import contextlib
import functools
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from cnnjax.errors import UserError


def cache_root() -> Path:
    """The user's folder for what can be made again: `$CNNJAX_CACHE`, else `$XDG_CACHE_HOME`/cnnjax.

    Where neither this nor ~/.cache can be written, as in a container without a home, it is a private folder
    among the temporary files, and one line says so.
    """
    if chosen := os.environ.get("CNNJAX_CACHE"):
        return Path(chosen).expanduser()
    return _writable_cache(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))


@functools.cache
def _writable_cache(parent: str) -> Path:
    folder = Path(parent) / "cnnjax"
    if parent[0] != "~":  # there is a home
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    other = Path(tempfile.gettempdir()) / f"cnnjax-{os.getuid()}"
    other.mkdir(mode=0o700, exist_ok=True)
    status = other.lstat()
    # Programs are compiled into it and loaded from it: it must be nobody else's.
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise UserError(f"neither {folder} nor {other} can be used: set CNNJAX_CACHE to a folder of your own")
    print(
        f"cnnjax: {folder} cannot be written, so the cache is in {other}; CNNJAX_CACHE names another",
        file=sys.stderr,
    )
    return other


@contextlib.contextmanager
def replacing(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; on a clean exit it takes the place of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with open(handle, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())  # mkstemp makes private files
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on a clean exit it takes the place of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        yield folder
        os.chmod(folder, 0o777 & ~_umask())
        if path.exists():
            shutil.rmtree(path)
        os.replace(folder, path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    with replacing(path) as file:
        json.dump(value, file, indent=2)
        file.write("\n")


def read_json(path: Path) -> Any:
    """The value in a JSON file; raises UserError when it is none."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is no whole JSON file ({error}): remove it or give another folder") from None


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines up to the first that is cut short; none when there is no file."""
    lines = []
    with contextlib.suppress(FileNotFoundError), open(path) as file:
        for text in file:
            try:
                lines.append(json.loads(text))
            except ValueError:
                break
    return lines


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
