"""Data sets as uint8 arrays, from the program itself, local archives, a cache or tensorflow-datasets.

`load` never uses the network; `fetch` may. Batches (`cnnjax.data.batches`) are a function of (seed, step) and
augmentation (`cnnjax.data.augment`) is pure and runs inside jit. Photographs too many for memory are a
`Stream`, decoded and augmented on the host by the same rule.
"""

from cnnjax.data.dataset import Dataset
from cnnjax.data.examples import Arrays, Source, as_data
from cnnjax.data.sources import Fetched, fetch, find, load
from cnnjax.data.specs import Spec, list_datasets, spec
from cnnjax.data.streams import Stream, is_streamed, open_stream, prepare_imagenet

Data = Dataset | Arrays | Stream | Source
"""What can be trained on: arrays in memory, or examples that are read as steps need them."""

__all__ = [
    "Arrays",
    "Data",
    "Source",
    "as_data",
    "Dataset",
    "Fetched",
    "Spec",
    "Stream",
    "fetch",
    "find",
    "is_streamed",
    "list_datasets",
    "load",
    "open_data",
    "open_stream",
    "prepare_imagenet",
    "spec",
]


def open_data(name: str, workers: int = 0) -> Dataset | Stream:
    """What `load` gives, or what `open_stream` gives for ImageNet and folders."""
    return open_stream(name, workers) if is_streamed(name) else load(name)
