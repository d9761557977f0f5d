"""Data sets through tensorflow-datasets, in its array_record format: the only file that imports it."""

import contextlib
import functools
import hashlib
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from cnnjax.data.archives import Arrays
from cnnjax.data.without_tensorflow import without_tensorflow
from cnnjax.errors import UserError
from cnnjax.files import cache_root

_BATCH = 1000  # records read at once: one by one takes five times as long


def home() -> Path:
    """Say where tensorflow-datasets keeps its data by default; without a home it is in our cache."""
    folder = Path(os.path.expanduser(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"))
    if "TFDS_DATA_DIR" in os.environ or folder.is_dir() or os.access(folder.parent, os.W_OK):
        return folder
    return cache_root() / "tensorflow_datasets"


def prepared(name: str) -> Path | None:
    """Find the newest version of a data set that lies ready in `home()`, without importing anything."""
    ready = [info.parent for info in (home() / name).glob("*/dataset_info.json")]
    ready = [folder for folder in ready if any(folder.glob("*.array_record*"))]
    return max(ready, default=None, key=lambda folder: folder.stat().st_mtime)


def holds_tfrecord(name: str) -> bool:
    """Whether the data set's place in `home()` is taken by the format that only TensorFlow reads."""
    return any((home() / name).glob("*/*.tfrecord*"))


def prepare(name: str, folder: Path, archives: Path | None, progress: bool) -> Path:
    """Prepare a data set below `folder` and return the folder of its records.

    The archives are taken from the folder `archives` as they are, or downloaded and checked if it is None.
    """
    with contextlib.ExitStack() as scope:
        scope.enter_context(_quiet(progress))
        import tensorflow_datasets as tfds

        scope.enter_context(without_tensorflow())
        config: dict[str, Any] = {"try_download_gcs": False}
        downloads = home() / "downloads"
        try:
            builder = tfds.builder(name, data_dir=folder, file_format="array_record")
            if archives is not None:
                # An unpacked archive is reused by its file's name whatever it held: start with none.
                downloads = Path(scope.enter_context(tempfile.TemporaryDirectory()))
                config["manual_dir"] = archives
                scope.enter_context(_accepting(builder, archives))
            builder.download_and_prepare(
                download_dir=downloads, download_config=tfds.download.DownloadConfig(**config)
            )
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(
                f"tensorflow-datasets could not prepare {name} ({type(error).__name__}: {reason}); "
                "try again, or fetch the archives yourself and use --data-dir FOLDER"
            ) from error
        return Path(builder.data_dir)


def read(folder: Path, progress: bool) -> Arrays:
    """Decode the training and test splits of a prepared data set, in the order of its records."""
    with _quiet(progress):
        import tensorflow_datasets as tfds

        skip = {"image": tfds.decode.SkipDecoding()}
        try:
            builder: Any = tfds.builder_from_directory(folder)
            return (
                *_decode(builder.as_data_source("train", decoders=skip), f"{builder.name} train", progress),
                *_decode(builder.as_data_source("test", decoders=skip), f"{builder.name} test", progress),
            )
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(
                f"{folder}, prepared by tensorflow-datasets, cannot be read ({type(error).__name__}: "
                f"{reason}); remove it and run `cnnjax data {folder.parent.name}`"
            ) from error


class TfdsRecords:
    """The pictures of one split of a prepared data set, still encoded, with their labels.

    A worker process gets the folder's name and opens it itself.
    """

    def __init__(self, folder: Path, split: str):
        self._folder, self._split = folder, split

    @functools.cached_property
    def source(self) -> Any:
        """What tensorflow-datasets reads them with."""
        with _quiet(progress=False):
            import tensorflow_datasets as tfds

            builder: Any = tfds.builder_from_directory(self._folder)
            return builder.as_data_source(self._split, decoders={"image": tfds.decode.SkipDecoding()})

    def __getstate__(self) -> dict[str, Any]:
        return {"_folder": self._folder, "_split": self._split}

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        record = self.source[int(index)]
        return record["image"], int(record["label"])

    def name(self, index: int) -> str:
        """The record, for messages."""
        return f"{self._folder}, {self._split} record {index}"

    def digest(self) -> str:
        """SHA-256 over the split's name and the names and sizes of the shards."""
        shards = sorted((path.name, path.stat().st_size) for path in self._folder.glob("*.array_record*"))
        return hashlib.sha256(f"{self._split} {shards}".encode()).hexdigest()


def open_records(folder: Path) -> tuple[TfdsRecords, TfdsRecords, int]:
    """The training split, the validation or else the test split, and the number of classes."""
    train = TfdsRecords(folder, "train")
    try:
        info = train.source.dataset_info
        test = TfdsRecords(folder, "validation" if "validation" in info.splits else "test")
        for split in (train, test):
            split[0]
        return train, test, info.features["label"].num_classes
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{folder} cannot be read as pictures with labels ({type(error).__name__}: {reason}); it must be "
            "prepared by tensorflow-datasets with file_format='array_record'"
        ) from error


def _decode(records: Any, title: str, progress: bool) -> tuple[np.ndarray, np.ndarray]:
    # tensorflow-datasets decodes images itself, but more slowly and with a warning that it does so with PIL.
    from PIL import Image

    from cnnjax import terminal

    height, width, channels = records.dataset_info.features["image"].shape
    images = np.empty((len(records), height, width, channels), np.uint8)
    labels = np.empty(len(records), np.int32)
    quiet = contextlib.nullcontext(lambda done: None)
    shown = terminal.progress(title, len(records), "images") if progress else quiet
    with shown as show_done:
        for start in range(0, len(records), _BATCH):
            batch = records.__getitems__(range(start, min(start + _BATCH, len(records))))
            for index, record in enumerate(batch, start):
                with Image.open(io.BytesIO(record["image"])) as image:
                    images[index] = np.frombuffer(image.tobytes(), np.uint8).reshape(height, width, channels)
                labels[index] = record["label"]
            show_done(start + len(batch))
    return images, labels


@contextlib.contextmanager
def _accepting(builder: Any, archives: Path) -> Iterator[None]:
    """Make tensorflow-datasets accept local archives: whether they are official is checked before."""
    from tensorflow_datasets.core.download import checksums

    infos = {
        url: checksums.compute_url_info(archives / info.filename)
        for url, info in builder.url_infos.items()
        if info.filename  # ImageNet's have none: nothing is downloaded
    }
    # The download manager would write these into its table of every known checksum, for good.
    table = checksums.get_all_url_infos()
    with mock.patch.dict(table), mock.patch.object(type(builder), "url_infos", infos):
        yield


@contextlib.contextmanager
def _quiet(progress: bool) -> Iterator[None]:
    """Silence tensorflow-datasets' notes, and its progress bars unless they are wanted and seen."""
    from absl import logging

    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    bars = progress and sys.stderr.isatty()
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            mock.patch("tensorflow_datasets.core.utils.tqdm_utils._active", bars),
        ):
            yield
    finally:
        logging.set_verbosity(level)
