"""Archives in a folder of the user's: found, and checked against the published checksums."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from cnnjax.data.cache import OFFICIAL
from cnnjax.data.specs import Archive, Packing, Spec
from cnnjax.errors import UserError


def find_packing(packings: Sequence[Packing], folder: Path) -> Packing | None:
    """Find the first packing whose archives all lie directly in `folder`."""
    for packing in packings:
        if all((folder / archive.name).is_file() for archive in packing.archives):
            return packing
    return None


def require_packing(entry: Spec, packings: Sequence[Packing], folder: Path) -> Packing:
    """Find the first packing as `find_packing` does; if there is none, say which files are missing."""
    if not folder.is_dir():
        raise UserError(f"{entry.name}: there is no folder {folder}; give --data-dir one that exists")
    if packing := find_packing(packings, folder):
        return packing
    missing = ", or ".join(_list(packing.archives, absent_from=folder) for packing in packings)
    raise UserError(
        f"{entry.name}: {folder} lacks {missing}; put it there (from {entry.url}), "
        f"or leave out --data-dir and run `cnnjax data {entry.name}` to download"
    )


def describe(packings: Sequence[Packing]) -> str:
    """List the archives of alternative packings with their checksums."""
    return ", or ".join(_list(packing.archives) for packing in packings)


def _list(archives: Sequence[Archive], absent_from: Path | None = None) -> str:
    wanted = [one for one in archives if absent_from is None or not (absent_from / one.name).is_file()]
    return " and ".join(f"{archive.name} (sha256 {archive.sha256})" for archive in wanted)


def check(archives: Sequence[Archive], folder: Path, verify: bool) -> str:
    """Hash the archives and return the key of their content: `OFFICIAL`, or a digest over them all.

    With `verify` an archive that is not the published one is an error.
    """
    digests = []
    for archive in archives:
        with open(folder / archive.name, "rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        if verify and not archive.is_official(digests[-1]):
            path = folder / archive.name
            raise UserError(
                f"{path} is not the published file: expected sha256 {archive.sha256}, {archive.bytes} bytes; "
                f"got {digests[-1]}, {path.stat().st_size} bytes; fetch it again, or use --no-verify to "
                "accept it as it is"
            )
    if all(archive.is_official(digest) for archive, digest in zip(archives, digests, strict=True)):
        return OFFICIAL
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
