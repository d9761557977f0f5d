"""Data of the shapes of a data set that need not be here, for what is compiled and never run."""

import dataclasses

import numpy as np

from cnnjax.data.dataset import Dataset
from cnnjax.data.specs import SPECS, spec
from cnnjax.data.streams import IMAGENET, Stream, is_streamed, open_stream


@dataclasses.dataclass(frozen=True)
class _Unread:
    """So many pictures, none of which can be read."""

    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> tuple[bytes, int]:
        raise IndexError(index)

    def name(self, index: int, /) -> str:
        return f"picture {index}"

    def digest(self) -> str:
        return f"{self.count} unread"


def stand_in(name: str) -> Dataset | Stream:
    """A data set as large as the one called `name`, of zeros: nothing is read, but folders are looked into.

    Raises:
        UserError: there is no such data set or folder.
    """
    if name == IMAGENET:
        return Stream(IMAGENET, _Unread(1_281_167), _Unread(50_000), 1000, "shapes alone")
    if is_streamed(name):
        return open_stream(name)
    about = spec(name)
    (x, y), (x_test, y_test) = (
        (np.zeros((count, *about.shape), np.uint8), np.zeros(count, np.int32))
        for count in (about.train, about.test)
    )
    return Dataset(name, x, y, x_test, y_test, about.classes, "shapes alone")


def natural(input_shape: tuple[int, int, int] | None) -> str:
    """The data set that a network of images [height, width, channel] is for: MNIST, CIFAR-10 or ImageNet."""
    height, _, channels = input_shape or SPECS["cifar10"].shape
    return "mnist" if channels == 1 else "cifar10" if height <= SPECS["cifar10"].shape[0] else IMAGENET
