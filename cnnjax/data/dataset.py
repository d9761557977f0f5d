"""A labelled image data set in memory (or memory-mapped): four arrays and where they came from."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cnnjax.errors import UserError

CHUNK = 4096  # images at a time, so that a memory-mapped set is never copied whole


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images uint8 `[image, height, width, channel]` and labels int32 `[image]`, in two splits.

    `source` says where the arrays came from, for the record of a run.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: int
    source: str

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.train_images.shape[1:]))
        return (
            f"Dataset {self.name}: {len(self.train_labels):,} + {len(self.test_labels):,} images of {shape}, "
            f"{self.classes} classes, {self.source}"
        )

    def __post_init__(self) -> None:
        if not isinstance(self.classes, int | np.integer) or self.classes < 1:
            raise UserError(f"{self.name}: classes={self.classes!r}: must be a whole number from 1")
        self._check("training", self.train_images, self.train_labels)
        self._check("test", self.test_images, self.test_labels)
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise UserError(
                f"{self.name}: training images are {self.train_images.shape[1:]} but test images are "
                f"{self.test_images.shape[1:]}; both splits need one [height, width, channel]"
            )

    def _check(self, split: str, images: np.ndarray, labels: np.ndarray) -> None:
        where = f"{self.name}, {split} split ({self.source})"
        wanted = "uint8 [image, height, width, channel]"
        _check_array(f"{where}: images", images, np.uint8, 4, f"{wanted} of 0 to 255")
        _check_array(f"{where}: labels", labels, np.int32, 1, "int32 [image]: use labels.astype(np.int32)")
        if len(images) != len(labels):
            raise UserError(
                f"{where}: {len(images)} images but {len(labels)} labels; their numbers must agree"
            )
        if images.size == 0:
            raise UserError(f"{where}: it is empty, {images.shape}; give it at least one image of one pixel")
        bad = np.flatnonzero((labels < 0) | (labels >= self.classes))
        if bad.size:
            raise UserError(
                f"{where}: image {bad[0]} (counted from 0) has label {labels[bad[0]]}, "
                f"not one of 0 to {self.classes - 1}"
            )

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the arrays (content, order, shapes, dtypes) and the number of classes.

        It reads all images once: a fraction of a second for CIFAR-10.
        """
        arrays = (self.train_images, self.train_labels, self.test_images, self.test_labels)
        digest = hashlib.sha256(f"{self.classes} classes".encode())
        for array in arrays:
            digest.update(f" {array.dtype.str}{array.shape} ".encode())
            for start in range(0, len(array), CHUNK):
                digest.update(np.ascontiguousarray(array[start : start + CHUNK]).data)
        return digest.hexdigest()

    def downsampled(self, factor: int) -> "Dataset":
        """Average boxes of factor × factor pixels (halves round up): `[image, height / factor, ...]`."""
        if factor == 1:
            return self
        height, width = self.train_images.shape[1:3]
        if factor < 1 or height % factor or width % factor:
            raise UserError(
                f"{self.name}: cannot downsample {height}x{width} images by {factor}; "
                "use a whole number that divides both sides"
            )
        return replace(
            self,
            train_images=_box_average(self.train_images, factor),
            test_images=_box_average(self.test_images, factor),
            source=f"{self.source}, averaged over {factor}x{factor} boxes",
        )

    def split(self, validation: int, seed: int) -> "Dataset":
        """Hold out `validation` training images, drawn at random by `seed`, as the new test split.

        The rest stays the training split; the real test split is not in the result. This is the 45k/5k
        protocol of the CIFAR-10 experiments (He et al. 2015, section 4.2).
        """
        held_out, kept = draw_held_out(self.name, len(self.train_labels), validation, seed)
        return replace(
            self,
            train_images=self.train_images[kept],
            train_labels=self.train_labels[kept],
            test_images=self.train_images[held_out],
            test_labels=self.train_labels[held_out],
            source=f"{self.source}, {validation} training images held out by seed {seed}",
        )

    def canonical(self) -> "Dataset":
        """Sort each split by the digest of (image, label).

        Batches are a function of (seed, step) alone, so the order of the images is part of an experiment.
        tensorflow-datasets shuffles what it writes and the archives of one data set differ in order; sorted
        by content, every source gives the same arrays bit for bit.
        """
        train, test = _order(self.train_images, self.train_labels), _order(self.test_images, self.test_labels)
        return replace(
            self,
            train_images=self.train_images[train],
            train_labels=self.train_labels[train],
            test_images=self.test_images[test],
            test_labels=self.test_labels[test],
        )


def _check_array(what: str, array: np.ndarray, dtype: type[np.generic], rank: int, wanted: str) -> None:
    """Raise UserError that names the first faulty record, if there is one."""
    if not isinstance(array, np.ndarray):
        raise UserError(f"{what} are no numpy array but {type(array).__name__}, not {wanted}")
    if array.dtype == dtype and array.ndim == rank:
        return
    first = ""
    if array.dtype == object and array.ndim and array.size:
        shapes = [np.shape(record) for record in array]
        odd = next((index for index, shape in enumerate(shapes) if shape != shapes[0]), 0)
        first = f"; record {odd} (counted from 0) is {type(array[odd]).__name__} of shape {shapes[odd]}"
    elif array.dtype.kind == "f" and (odd := np.argwhere(~np.isfinite(array))).size:
        first = f"; record {odd[0, 0]} (counted from 0) holds {array[tuple(odd[0])]}"
    raise UserError(f"{what} are {array.dtype} of shape {array.shape}{first}, not {wanted}")


def _order(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    digests = [
        hashlib.sha256(image.tobytes() + label.to_bytes(4 if label > 255 else 1, "little")).digest()
        for image, label in zip(images, labels.tolist(), strict=True)
    ]
    return np.array(sorted(range(len(digests)), key=digests.__getitem__))


def _box_average(images: np.ndarray, factor: int) -> np.ndarray:
    count, height, width, channels = images.shape
    small = np.empty((count, height // factor, width // factor, channels), np.uint8)
    area = factor * factor
    for start in range(0, count, CHUNK):
        chunk = images[start : start + CHUNK]
        boxes = chunk.reshape(len(chunk), height // factor, factor, width // factor, factor, channels)
        total = boxes.sum(axis=(2, 4), dtype=np.uint32)
        small[start : start + CHUNK] = (2 * total + area) // (2 * area)
    return small


def draw_held_out(name: str, total: int, validation: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw `validation` of `total` training images by `seed`: sorted indices of these, and of the others.

    Raises:
        UserError: nothing would be held out, or nothing left.
    """
    if not 0 < validation < total:
        raise UserError(
            f"{name}: cannot hold out {validation} of {total} training images; use 1 to {total - 1}"
        )
    order = np.random.default_rng(seed).permutation(total)
    return np.sort(order[:validation]), np.sort(order[validation:])
