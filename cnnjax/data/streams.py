"""Data sets too large for a device's memory: pictures are read, decoded and cropped as steps need them.

Which pictures make up a batch, and what augmentation does to each, is a function of (seed, step, position in
the batch) alone. So a checkpoint's step is the position in the data: a run is resumed there without reading
what came before, and neither workers nor processes change a batch.
"""

import dataclasses
import functools
import hashlib
import os
from pathlib import Path

import numpy as np

from cnnjax.data import tfds_source
from cnnjax.data.dataset import draw_held_out
from cnnjax.data.folders import open_folder
from cnnjax.data.odd import bad_pictures
from cnnjax.data.records import Part, Records
from cnnjax.data.specs import SPECS
from cnnjax.errors import UserError

IMAGENET = "imagenet2012"
ARCHIVES = ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")


@dataclasses.dataclass(frozen=True, eq=False)
class Stream:
    """A data set of photographs of any size. `source` is for the record of a run, `remarks` for its owner.

    `skipped` are the pictures that `readable` left out, each with the reason; `class_names` are by label, or
    empty where they are not known.

    `test` may be empty until `split` holds something out.
    `workers` processes read ahead, or threads of this one if it is 0; the numbers do not depend on it.
    """

    name: str
    train: Records
    test: Records
    classes: int
    source: str
    workers: int = 0
    remarks: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise UserError(f"workers={self.workers}: must not be negative")

    def __str__(self) -> str:
        counts = (
            f"{self.name}: {len(self.train):,} training and {len(self.test):,} test pictures, "
            f"{self.classes:,} classes, from {self.source}"
        )
        return "; ".join((counts, *self.remarks))

    @property
    def omitted(self) -> str:
        """How many pictures `readable` left out, in words; empty if none."""
        if not self.skipped:
            return ""
        first, *others = self.skipped
        are = "pictures are" if others else "picture is"
        return f"{self.name}: {len(self.skipped):,} unreadable {are} skipped, such as {first}"

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over names, sizes and labels of the picture files, or over names and sizes of the shards.

        The pictures themselves are not read. Where the folder lies makes no difference.
        """
        parts = f"{self.classes} classes {self.train.digest()} {self.test.digest()}"
        return hashlib.sha256(parts.encode()).hexdigest()

    def split(self, validation: int, seed: int) -> "Stream":
        """Hold out `validation` training pictures as the new test split, as `Dataset.split` does."""
        held_out, kept = draw_held_out(self.name, len(self.train), validation, seed)
        return dataclasses.replace(
            self,
            train=Part(self.train, kept),
            test=Part(self.train, held_out),
            source=f"{self.source}, {validation} training images held out by seed {seed}",
            remarks=(),
        )

    def readable(self) -> "Stream":
        """Without the pictures that cannot be used; reads them all.

        Raises:
            UserError: no picture is left of a split that had some.
        """
        parts, skipped = [], []
        for split in (self.train, self.test):
            bad = bad_pictures(split)
            skipped += [f"{found.path}: {found.kinds[0]} ({found.why})" for found in bad.values()]
            if bad and len(bad) == len(split):
                raise UserError(f"{self.name}: none of {len(bad):,} pictures can be read: {skipped[-1]}")
            left = np.delete(np.arange(len(split)), list(bad))
            parts.append(Part(split, left) if bad else split)
        return dataclasses.replace(self, train=parts[0], test=parts[1], skipped=tuple(skipped))

    def downsampled(self, factor: int) -> "Stream":
        """Only by 1: photographs are resized to what the network takes."""
        if factor != 1:
            raise UserError(
                f"{self.name}: photographs are resized to the network's input; leave out downsample"
            )
        return self


def is_streamed(name: str | Path) -> bool:
    """Whether a data set of this name is a stream: ImageNet, or a folder."""
    if isinstance(name, str) and os.sep not in name:
        return name == IMAGENET or (name not in SPECS and os.path.isdir(name))
    return isinstance(name, str | Path)


def open_stream(name: str | Path, workers: int = 0) -> Stream:
    """Open ImageNet, as tensorflow-datasets prepared it, or the photographs in the folder `name`.

    Raises:
        UserError: it is not there, or in no known form.
    """
    folder = Path(name).expanduser()
    if name == IMAGENET:
        if not (found := tfds_source.prepared(IMAGENET)):
            raise UserError(
                f"{name} is not in {tfds_source.home() / IMAGENET}: `cnnjax data {name} --data-dir FOLDER` "
                f"prepares it from {' and '.join(ARCHIVES)} in FOLDER (they are at image-net.org), or name a "
                "folder that holds train/CLASS/*.jpg and val/CLASS/*.jpg"
            )
        folder = found
    elif not folder.is_dir():
        raise UserError(
            f"there is no folder {folder}; a data set in one is named by its path, such as ./pictures"
        )
    if (folder / "dataset_info.json").exists():
        train, test, classes = tfds_source.open_records(folder)
        return Stream(str(name), train, test, classes, f"tensorflow-datasets in {folder}", workers)
    found = open_folder(folder)
    return Stream(
        str(name),
        found.train,
        found.test,
        len(found.classes),
        f"pictures in {folder}",
        workers,
        found.remarks,
        class_names=found.classes,
    )


def prepare_imagenet(archives: Path, progress: bool = True) -> Stream:
    """Bring ImageNet from its two archives in a folder to where `open_stream` finds it."""
    if missing := [name for name in ARCHIVES if not (archives / name).is_file()]:
        raise UserError(f"{archives} lacks {' and '.join(missing)}; image-net.org has them for who registers")
    tfds_source.prepare(IMAGENET, tfds_source.home(), archives, progress)
    return open_stream(IMAGENET)
