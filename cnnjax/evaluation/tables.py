"""Predictions as files: a row for each member and example, what it is, what was said, and how surely."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cnnjax.evaluation.predictions import Predictions
from cnnjax.files import replacing


def write_csv(path: Path, members: Mapping[str, Predictions]) -> None:
    """Write them as CSV, probabilities with six digits."""
    with replacing(path) as file:
        lines = csv.writer(file, lineterminator="\n")
        for number, (name, one) in enumerate(members.items()):
            columns = _columns(one)
            if number == 0:
                lines.writerow(("member", *columns))
            for example, label, said, confidence, right in zip(*columns.values(), strict=True):
                lines.writerow((name, example, label, said, f"{confidence:.6g}", f"{right:.6g}"))


def write_parquet(path: Path, members: Mapping[str, Predictions]) -> None:
    """Write them as Parquet, with all `probabilities`, a list of float32; each member is a row group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        {
            "member": pa.string(),
            "example": pa.int64(),
            **dict.fromkeys(("label", "predicted"), pa.string()),
            **dict.fromkeys(("confidence", "probability_of_label"), pa.float32()),
            "probabilities": pa.large_list(pa.float32()),
        }
    )
    with replacing(path, "wb") as file, pq.ParquetWriter(file, schema) as writer:
        for name, one in members.items():
            examples, classes = one.probabilities.shape
            starts, flat = np.arange(examples + 1) * classes, one.probabilities.astype(np.float32).ravel()
            rows = {
                "member": [name] * examples,
                **_columns(one),
                "probabilities": pa.LargeListArray.from_arrays(starts, flat),
            }
            writer.write_table(pa.Table.from_pydict(rows, schema))


def _columns(one: Predictions) -> dict[str, np.ndarray]:
    """What both say of each example, [example]; classes by their names."""
    names = np.array(one.class_names)
    return {
        "example": np.arange(len(one.labels)),
        "label": names[one.labels],
        "predicted": names[one.predicted],
        "confidence": one.probabilities.max(1),
        "probability_of_label": np.take_along_axis(one.probabilities, one.labels[:, None], 1)[:, 0],
    }
