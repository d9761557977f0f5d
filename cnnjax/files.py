"""Files that are whole or absent: written under a temporary name, then renamed."""

import contextlib
import functools
import itertools
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from cnnjax.errors import UserError


def cache_root() -> Path:
    """The user's folder for files that can be regenerated: `$CNNJAX_CACHE`, else `$XDG_CACHE_HOME`/cnnjax.

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
    """Yield a temporary folder beside `path`; on a clean exit it takes the place of `path`.

    Only for files that can be regenerated, such as a cache: an existing folder is removed once the new one
    has taken its place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    old = folder.with_suffix(".old")
    try:
        yield folder
        os.chmod(folder, 0o777 & ~_umask())
        if path.exists():
            os.replace(path, old)
        os.replace(folder, path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def set_aside(path: Path, why: str = "damaged", into: Path | None = None) -> Path:
    """Move a file or folder to PATH.`why`, or into the folder `into`, and return its new path.

    Nothing is overwritten: a number is added if the name is taken.
    """
    wanted = path.with_name(f"{path.name}.{why}") if into is None else into / path.name
    wanted.parent.mkdir(parents=True, exist_ok=True)
    names = itertools.chain([wanted], (wanted.with_name(f"{wanted.name}.{n}") for n in itertools.count(2)))
    free = next(name for name in names if not os.path.lexists(name))
    os.rename(path, free)
    return free


def append_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Append lines, each ending in a newline, to a file; returns when they are on disk."""
    with open(path, "ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # the last writer was cut short
                file.write(b"\n")
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    with replacing(path) as file:
        json.dump(value, file, indent=2)
        file.write("\n")


def read_json(path: Path) -> Any:
    """Read the value in a JSON file; raises UserError if it is not valid JSON."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is no whole JSON file ({error}): move it away or give another folder"
        ) from None


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The readable lines of a metrics file, in order; none if there is no file."""
    return sort_lines(path)[0]


def sort_lines(path: Path) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Split the lines of a metrics file, in order, into those that are whole and the raw rest."""
    try:
        return parse_lines(path.read_bytes())
    except FileNotFoundError:
        return [], []


def parse_lines(raw: bytes) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Split lines of metrics, in order, into those that are whole and the raw rest.

    A whole line is a JSON object of numbers, one of them the whole number `step`.
    """
    whole, rest = [], []
    for line in raw.split(b"\n"):
        bare = line.strip(b"\0")  # a power cut may leave zeros before the next line
        metrics = _metrics(bare)
        if metrics is not None:
            whole.append(metrics)
        if line and (metrics is None or line != bare):
            rest.append(line)
    return whole, rest


def _metrics(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or type(value.get("step")) is not int:
        return None
    return value if all(type(number) in (int, float) for number in value.values()) else None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
