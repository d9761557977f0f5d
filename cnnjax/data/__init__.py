"""Data sets as uint8 arrays, from the package itself, local archives, a cache or tensorflow-datasets.

`load` never uses the network; `fetch` may. Batches (`cnnjax.data.batches`) are a function of (seed, step) and
augmentation (`cnnjax.data.augment`) is pure and runs inside jit. Photographs that do not fit
into memory are a `Stream`, decoded and augmented on the host as the same function of (seed, step).

Data of your own are four arrays (x, y, x_test, y_test), which become a `Dataset` if x are images of bytes and
`Arrays` otherwise; or two sources (train, test) with `len` and `[i]`, a `Source` (`as_data`).
"""

from pathlib import Path

from cnnjax.data.dataset import Dataset
from cnnjax.data.examples import Arrays, Source, as_data
from cnnjax.data.sources import Fetched, fetch, find, load
from cnnjax.data.specs import Spec, list_datasets, spec
from cnnjax.data.streams import IMAGENET, Stream, is_streamed, open_stream, prepare_imagenet
from cnnjax.errors import UserError

Data = Dataset | Arrays | Stream | Source
"""What can be trained on: arrays in memory, or examples that are read as steps need them."""

__all__ = [
    "Arrays",
    "Data",
    "Dataset",
    "Fetched",
    "Source",
    "Spec",
    "Stream",
    "as_data",
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


def open_data(
    name: str | Path, workers: int = 0, data_dir: Path | str | None = None, *, verify: bool = True
) -> Dataset | Stream:
    """Open a data set: by `load`, or by `open_stream` for ImageNet and folders of photographs.

    Args:
        name: of a data set, or the path of a folder.
        workers: number of processes that read photographs ahead; 0 uses threads.
        data_dir: the folder of a data set's archives.
        verify: whether these must have the official checksums.

    Raises:
        UserError: it is missing or damaged, or `data_dir` is given for photographs.
    """
    if not is_streamed(name):
        return load(str(name), data_dir, verify=verify)
    if data_dir is not None:
        raise UserError(
            f"{name}: --data-dir is for archives; first run `cnnjax data {name} --data-dir {data_dir}`, "
            "then leave it out"
            if name == IMAGENET
            else f"{name}: a folder of pictures is read where it is; leave out --data-dir"
        )
    return open_stream(name, workers)
