"""Photographs in Parquet files, read in any order."""

import collections
import hashlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.data.parquet_files import check_complete, describe, in_one_line
from cnnjax.errors import UserError
from cnnjax.images import BadPicture

KEPT = 2**28  # bytes of row groups that a process keeps; Hugging Face's have 100 pictures each


class ParquetRecords:
    """The pictures of one split as (encoded picture, label), in the order of the files and in them.

    A picture is read with its row group, the least that Parquet lets read; the last ones are kept. A worker
    process gets the files' names and the labels, and keeps row groups of its own.

    Args:
        shards: the Parquet files.

    Raises:
        UserError: one is damaged, has another layout or other classes than the first, or holds a picture
            without a label; or one of `NAME-00000-of-00004.parquet` is not there.
    """

    def __init__(self, shards: Sequence[Path]):
        check_complete(shards)
        self._shards = list(shards)
        read = [describe(shard) for shard in shards]
        self.class_names = read[0].class_names if read else ()
        for path, shard in zip(shards, read, strict=True):
            if shard.class_names != self.class_names:
                raise UserError(f"{path} has other classes than {shards[0]}")
        self._columns = [shard.column for shard in read]
        self.labels = np.concatenate([np.zeros(0, np.int32), *(shard.labels for shard in read)])
        sizes = [(number, size) for number, shard in enumerate(read) for size in shard.group_sizes]
        self._shard_of = np.array([number for number, _ in sizes], np.int64)  # [group]
        self._first = np.cumsum([0, *(size for _, size in sizes)])  # [group + 1], its first row among all
        self._clear()

    def _clear(self) -> None:
        self._groups: collections.OrderedDict[int, Any] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_groups", "_lock")}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._clear()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        group = self._group_of(index)
        picture = self._pictures(group, index)[int(index - self._first[group])].as_py()
        return picture or b"", int(self.labels[index])

    def name(self, index: int) -> str:
        """The file and the row in it, from 0, for messages."""
        shard = self._shard_of[self._group_of(index)]
        return f"{self._shards[shard]} row {index - self._first[self._shard_of.searchsorted(shard)]}"

    def digest(self) -> str:
        """SHA-256 over the files' names and sizes, and the labels."""
        sizes = [(path.name, path.stat().st_size) for path in self._shards]
        return hashlib.sha256(f"{sizes}".encode() + self.labels.tobytes()).hexdigest()

    def _group_of(self, index: int) -> int:
        return int(self._first.searchsorted(index, "right")) - 1

    def _pictures(self, group: int, index: int) -> Any:
        """The encoded pictures of a row group, an Arrow array; `index` is for the error."""
        with self._lock:
            if group in self._groups:
                self._groups.move_to_end(group)
                return self._groups[group]
        pictures = self._read(group, index)
        with self._lock:
            self._groups[group] = pictures
            while len(self._groups) > 1 and sum(each.nbytes for each in self._groups.values()) > KEPT:
                self._groups.popitem(last=False)
        return pictures

    def _read(self, group: int, index: int) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        shard = int(self._shard_of[group])
        try:
            with pq.ParquetFile(self._shards[shard]) as file:
                column = f"{self._columns[shard]}.bytes"
                number = group - int(self._shard_of.searchsorted(shard))
                (struct,) = file.read_row_group(number, [column], use_threads=False).columns
                return pa.chunked_array([chunk.field("bytes") for chunk in struct.chunks])
        except (pa.ArrowException, OSError) as error:
            why = f"its row group is damaged: {in_one_line(error)}"
            raise BadPicture.of(self.name(index), "unreadable", why) from None
