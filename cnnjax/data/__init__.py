"""Data sets as uint8 arrays, from the program itself, local archives, a cache or tensorflow-datasets.

`load` never uses the network; `fetch` may. Batches (`cnnjax.data.batches`) are a function of (seed, step) and
augmentation (`cnnjax.data.augment`) is pure and runs inside jit.
"""

from cnnjax.data.dataset import Dataset
from cnnjax.data.sources import Fetched, fetch, find, load
from cnnjax.data.specs import Spec, list_datasets, spec

__all__ = ["Dataset", "Fetched", "Spec", "fetch", "find", "list_datasets", "load", "spec"]
