"""Draw the embedded data set from Fashion-MNIST: `python -m cnnjax.data.fashion_mini.make [FOLDER]`.

FOLDER holds the four official archives; without it the data are what `cnnjax.data.load` finds.
Running it again gives the same file, byte for byte (with the same zlib).
"""

import io
import sys
import zipfile
from pathlib import Path

import numpy as np

from cnnjax.data import Dataset, load
from cnnjax.errors import one_line_errors
from cnnjax.files import replacing

TRAIN_PER_CLASS = 1200
TEST_PER_CLASS = 200
SEED = 2017


def draw(full: Dataset) -> dict[str, np.ndarray]:
    """Draw the same number of images of each class, in the order they have in `full`."""
    rng = np.random.default_rng(SEED)
    train = _balanced(rng, full.train_labels, TRAIN_PER_CLASS)
    test = _balanced(rng, full.test_labels, TEST_PER_CLASS)
    return {
        "train_images": full.train_images[train],
        "train_labels": full.train_labels[train],
        "test_images": full.test_images[test],
        "test_labels": full.test_labels[test],
    }


def write(arrays: dict[str, np.ndarray], path: Path) -> None:
    """Write the arrays as `np.savez_compressed` would, but without the time of day."""
    with replacing(path, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, content.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)


def _balanced(rng: np.random.Generator, labels: np.ndarray, per_class: int) -> np.ndarray:
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return np.sort(np.concatenate([rng.choice(members, per_class, replace=False) for members in classes]))


def main() -> None:
    """Write `images.npz` beside this file."""
    with one_line_errors("make"):
        full = load("fashion_mnist", sys.argv[1] if len(sys.argv) > 1 else None)
        write(draw(full), Path(__file__).with_name("images.npz"))


if __name__ == "__main__":
    main()
