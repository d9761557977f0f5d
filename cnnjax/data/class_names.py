"""What classes are called, where a data set says it."""

from typing import Any

from cnnjax.data.dataset import Dataset
from cnnjax.data.specs import SPECS
from cnnjax.data.streams import Stream


def class_names(data: Any) -> tuple[str, ...]:
    """The names of a data set's classes by label: of its folders, or its authors'; empty if it has none."""
    if isinstance(data, Stream):
        return data.class_names
    return SPECS[data.name].class_names if isinstance(data, Dataset) and data.name in SPECS else ()
