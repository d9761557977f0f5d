"""Read and decode the rows of batches of pictures: functions of the step."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image

from cnnjax.data.batches import batch_indices
from cnnjax.data.pictures import CROPS, centre
from cnnjax.data.records import Records
from cnnjax.images import decode

Rows = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TrainingRows:
    """Reads rows of training batches: a function of the step.

    Attributes:
        seeds: of the runs that train together; each has its own batch.
        rows: which of a batch.
        augment: a name in `CROPS`.
        side: of the square images.
    """

    records: Records
    seeds: Sequence[int]
    batch_size: int
    rows: range
    augment: str
    side: int

    def __call__(self, step: int) -> Rows:
        """Images uint8 [run, 1, row, side, side, 3] and labels int32 [run, 1, row]."""
        shape = len(self.seeds), 1, len(self.rows)
        images, labels = np.empty((*shape, self.side, self.side, 3), np.uint8), np.empty(shape, np.int32)
        for run, seed in enumerate(self.seeds):
            indices = batch_indices(seed, step, self.batch_size, len(self.records))
            for place, row in enumerate(self.rows):
                picture, labels[run, 0, place] = _read(self.records, indices[row])
                images[run, 0, place] = self.crop(seed, step, row, picture)
        return images, labels

    def crop(self, seed: int, step: int, row: int, picture: Image.Image) -> np.ndarray:
        """What augmentation makes of a picture in this place of a batch: uint8 [side, side, 3]."""
        # The third number sets these draws apart from those of the epochs' orders.
        rng = np.random.default_rng([seed, step * self.batch_size + row, 1])
        return np.asarray(CROPS[self.augment](picture, self.side, rng))

    def pictures(self, seed: int, step: int) -> tuple[list[Image.Image], np.ndarray]:
        """The pictures of a step's rows, whole, and their labels int32 [row]."""
        indices = batch_indices(seed, step, self.batch_size, len(self.records))
        read = [_read(self.records, indices[row]) for row in self.rows]
        return [picture for picture, _ in read], np.array([label for _, label in read], np.int32)


@dataclasses.dataclass(frozen=True)
class EvaluationRows:
    """Read rows of test batches by the batch's number. The last one is filled up with the first examples."""

    records: Records
    batch_size: int
    rows: range
    side: int

    def __call__(self, number: int) -> Rows:
        """Images uint8 [row, side, side, 3] and labels int32 [row]."""
        images = np.empty((len(self.rows), self.side, self.side, 3), np.uint8)
        labels = np.empty(len(self.rows), np.int32)
        for place, row in enumerate(self.rows):
            index = (number * self.batch_size + row) % len(self.records)
            picture, labels[place] = _read(self.records, index)
            images[place] = np.asarray(centre(picture, self.side))
        return images, labels


def _read(records: Records, index: int) -> tuple[Image.Image, int]:
    encoded, label = records[index]
    return decode(encoded, records.name(index)), label
