"""Parquet files as Hugging Face's datasets writes pictures: which there are, and what each says of itself.

A row is a picture, a struct of `bytes` and `path` (which is not looked at), and the whole number `label`.
What the classes are called is in the schema's metadata, under "huggingface".
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnnjax.errors import UserError

SUFFIX, LABEL = ".parquet", "label"


class Shard(NamedTuple):
    """A file: its column of pictures, names of the classes, rows of each row group, labels int32 [row]."""

    column: str
    class_names: tuple[str, ...]
    group_sizes: list[int]
    labels: np.ndarray


def parquet_files(folder: Path, names: Sequence[str]) -> list[Path]:
    """The files of the first of the splits `names` that is in `folder`, sorted by name; none if none is.

    They are called `train.parquet` or `train-00000-of-00004.parquet`, in any case.
    """
    paths = sorted(path for path in folder.glob(f"*{SUFFIX}") if path.name[0] != ".")
    for name in names:
        pattern = re.compile(rf"{name}(-\d+-of-\d+)?{re.escape(SUFFIX)}", re.IGNORECASE)
        if found := [path for path in paths if pattern.fullmatch(path.name)]:
            return found
    return []


def check_complete(shards: Sequence[Path]) -> None:
    """Raise UserError if one of `NAME-00000-of-00004.parquet` is not there."""
    numbered = [re.fullmatch(rf"(.*-)(\d+)(-of-(\d+){re.escape(SUFFIX)})", path.name) for path in shards]
    for start, digits, end, count in {
        (found[1], len(found[2]), found[3], int(found[4])) for found in numbered if found
    }:
        wanted = [f"{start}{number:0{digits}}{end}" for number in range(count)]
        if missing := sorted(set(wanted) - {path.name for path in shards}):
            raise UserError(f"{shards[0].with_name(missing[0])} is missing: there must be {count} files")


def describe(path: Path) -> Shard:
    """Read what a file says of itself, and its labels.

    Raises:
        UserError: it is damaged, empty, has another layout, or a picture without a label.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            column = _picture_column(path, schema)
            labels = file.read([LABEL]).column(0)
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is no whole Parquet file ({in_one_line(error)})") from None
    if not len(labels):
        raise UserError(f"{path} holds no pictures")
    if labels.null_count:
        row = labels.is_null().index(True).as_py()
        raise UserError(f"{path} row {row} has no label")
    return Shard(column, _class_names(schema), sizes, labels.to_numpy().astype(np.int32))


def _picture_column(path: Path, schema: Any) -> str:
    """The name of the one column of pictures, beside which there are labels."""
    import pyarrow.types as types

    columns = [
        field.name
        for field in schema
        if types.is_struct(field.type)
        and (inner := field.type.get_field_index("bytes")) >= 0
        and (types.is_binary(field.type[inner].type) or types.is_large_binary(field.type[inner].type))
    ]
    label = schema.get_field_index(LABEL)
    if len(columns) != 1 or label < 0 or not types.is_integer(schema.field(label).type):
        there = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise UserError(
            f"{path}: must have one column of pictures, a struct of bytes and path, and the whole number "
            f"{LABEL}; it has {there or 'no column'}"
        )
    return columns[0]


def _class_names(schema: Any) -> tuple[str, ...]:
    """What Hugging Face's metadata calls the classes; empty without it."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return tuple(map(str, features[LABEL]["names"]))
    except (TypeError, KeyError, ValueError):
        return ()


def in_one_line(error: BaseException) -> str:
    """What an error of Arrow says."""
    return " ".join(str(error).split())[:200]
