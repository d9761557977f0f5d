"""What classes are called, where a data set says it."""

from typing import Any

from cnnjax.data.dataset import Dataset
from cnnjax.data.folders import FolderRecords
from cnnjax.data.streams import Part, Stream

_FASHION = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
_NAMES = {
    "cifar10": (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    ),
    "fashion_mini": _FASHION,
    "fashion_mnist": _FASHION,
}  # fmt: skip
"""As the data sets' authors have them, in the order of the labels."""


def class_names(data: Any) -> tuple[str, ...] | None:
    """The names of a data set's classes by label: of its folders, or its authors'; None if it has none."""
    if isinstance(data, Dataset):
        return _NAMES.get(data.name)
    records = data.train if isinstance(data, Stream) else None
    while isinstance(records, Part):
        records = records.whole
    return records.class_names if isinstance(records, FolderRecords) else None
