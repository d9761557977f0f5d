"""Find archives, or their unpacked contents, in a user's folder, and check them by checksum."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from cnnjax.data.cache import OFFICIAL
from cnnjax.data.specs import Archive, Packing, Spec
from cnnjax.errors import UserError


def find_packing(packings: Sequence[Packing], folder: Path) -> Packing | None:
    """Find the first packing whose archives all lie directly in `folder`, or are `folder`."""
    for packing in packings:
        if all(place(archive, folder).exists() for archive in packing.archives):
            return packing
    return None


def place(archive: Archive, folder: Path) -> Path:
    """Where an archive is, if `folder` holds it; `folder` may also be the unpacked folder itself."""
    return folder if folder.name == archive.name else folder / archive.name


def require_packing(entry: Spec, packings: Sequence[Packing], folder: Path) -> Packing:
    """Find the first packing as `find_packing` does, or raise a UserError that lists the missing files."""
    if not folder.is_dir():
        raise UserError(f"{entry.name}: there is no folder {folder}; give --data-dir one that exists")
    if packing := find_packing(packings, folder):
        return packing
    for inner in filter(Path.is_dir, [*folder.glob("*"), *folder.glob("*/*")]):
        if find_packing(packings, inner):
            raise UserError(f"{entry.name}: the archives lie deeper; give --data-dir {inner}")
    missing = ", or ".join(
        _list(packing.archives, absent_from=folder)
        for packing in packings
        if all(archive.sha256 for archive in packing.archives)  # nobody should unpack them to be read
    )
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
        path = place(archive, folder)
        if verify and not archive.sha256:
            raise UserError(
                f"{path} is unpacked, and only archives have a published checksum: bring the archive, or use "
                "--no-verify to accept it as it is"
            )
        digests.append(_digest(path))
        if verify and not archive.is_official(digests[-1]):
            raise UserError(
                f"{path} is not the published file: expected sha256 {archive.sha256}, {archive.bytes} bytes; "
                f"got {digests[-1]}, {path.stat().st_size} bytes; fetch it again, or use --no-verify to "
                "accept it as it is"
            )
    if all(archive.is_official(digest) for archive, digest in zip(archives, digests, strict=True)):
        return OFFICIAL
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]


def _digest(path: Path) -> str:
    """The SHA-256 of a file, or one over those of a folder's files and their names."""
    if path.is_dir():
        inner = sorted((file.name, _digest(file)) for file in path.iterdir() if file.is_file())
        return hashlib.sha256(repr(inner).encode()).hexdigest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
