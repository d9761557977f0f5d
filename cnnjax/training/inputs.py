"""Where the images of a step come from.

A compiled step picks its batch from what the devices hold all the time and what comes with the dispatch.
"""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from cnnjax.config import Config
from cnnjax.data import Dataset
from cnnjax.data.ahead import reading_ahead
from cnnjax.data.augment import augmentation, normalizer, photograph_normalizer
from cnnjax.data.batches import batch_indices
from cnnjax.data.streams import EvaluationRows, Stream, TrainingRows
from cnnjax.distributed import place
from cnnjax.errors import UserError
from cnnjax.mesh import over_data, over_seeds_and_data, replicated, share
from cnnjax.ops.precision import wide

Batch = tuple[jax.Array, jax.Array]  # images uint8 [batch, height, width, channel] and labels [batch]


def make_input(
    data: Dataset | Stream, config: Config, mesh: Mesh, image_shape: tuple[int, ...]
) -> "Resident | Streamed":
    """The input for a data set; photographs get the `image_shape` [height, width, channel] of the network."""
    if isinstance(data, Stream):
        return Streamed(data, config, mesh, image_shape)
    return Resident(data, config, mesh)


class Resident:
    """A data set in memory: the devices hold it whole, and a dispatch brings indices.

    Attributes:
        most_steps: of a dispatch.
        normalize: uint8 images to normalised ones, float32 or wider, inside the step.
        augment: a function of (key, normalised images), inside the step.
    """

    most_steps = sys.maxsize

    def __init__(self, data: Dataset, config: Config, mesh: Mesh):
        self._data, self._batch_size, self._mesh = data, config.batch_size, mesh
        self.image_shape = data.train_images.shape[1:]
        self.test_examples = len(data.test_labels)
        self.normalize = normalizer(data.train_images, config.normalize, wide(config.dtype))
        self.augment = augmentation(config.augment)

    @functools.cached_property
    def train_held(self) -> Batch:
        """What the devices hold for training: all images and labels."""
        data = self._data
        return place((np.asarray(data.train_images), data.train_labels), replicated(self._mesh))

    @functools.cached_property
    def test_held(self) -> Batch:
        """What the devices hold for evaluation: all images and labels."""
        data = self._data
        return place((np.asarray(data.test_images), data.test_labels), replicated(self._mesh))

    @staticmethod
    def pick(held: Batch, indices: jax.Array) -> Batch:
        """The batch of these indices, inside the step."""
        images, labels = held
        return images[indices], labels[indices]

    @contextlib.contextmanager
    def training(self, configs: Sequence[Config], step: int) -> Iterator[Callable[[range], jax.Array]]:
        """Yield the function from the steps of a dispatch to what it brings: indices [run, step, batch].

        It is called for each dispatch from `step` on, in turn.
        """
        examples = len(self._data.train_labels)

        def indices(steps: range) -> jax.Array:
            own = [
                [batch_indices(run.seed, now, run.batch_size, examples) for now in steps] for run in configs
            ]
            return place(np.array(own), over_seeds_and_data(self._mesh))

        yield indices

    @contextlib.contextmanager
    def testing(self) -> Iterator[Iterator[jax.Array]]:
        """Yield the indices [batch] of the test set's batches; the last goes on with the first images."""
        starts = range(0, self.test_examples, self._batch_size)
        indices = (np.arange(start, start + self._batch_size) % self.test_examples for start in starts)
        yield (place(batch, over_data(self._mesh)) for batch in indices)


class Streamed:
    """Photographs: a dispatch is one step and brings its batch, read ahead and cut to the network's input.

    Every process reads the rows that its devices hold. Attributes and methods are those of `Resident`.
    """

    most_steps = 1
    train_held = test_held = ()

    def __init__(self, data: Stream, config: Config, mesh: Mesh, image_shape: tuple[int, ...]):
        height, width, channels = image_shape
        if height != width or channels != 3:
            raise UserError(
                f"{config.model} takes images of {height}x{width}x{channels}, not squares of photographs"
            )
        if not len(data.test):
            raise UserError(f"{data.name} has no test pictures: hold some out, such as --validation 100")
        self._data, self._batch_size, self._mesh = data, config.batch_size, mesh
        self.image_shape, self.test_examples = image_shape, len(data.test)
        self.normalize = photograph_normalizer(config.normalize, wide(config.dtype))

    @staticmethod
    def augment(key: jax.Array, images: jax.Array) -> jax.Array:
        """Nothing more: it is done where the pictures are cropped."""
        return images

    @staticmethod
    def pick(held: tuple[()], brought: Batch) -> Batch:
        """What was brought."""
        return brought

    @contextlib.contextmanager
    def training(self, configs: Sequence[Config], step: int) -> Iterator[Callable[[range], Batch]]:
        """Yield the function from a step, each in turn, to its images and labels [run, 1, batch, ...]."""
        config, sharding = configs[0], over_seeds_and_data(self._mesh)
        shape = len(configs), 1, config.batch_size
        runs, _, rows = share(sharding, shape)
        seeds = [configs[run].seed for run in runs]
        read = TrainingRows(
            self._data.train, seeds, config.batch_size, rows, config.augment, self.image_shape[0]
        )
        put = functools.partial(self._put, sharding=sharding, shape=shape)
        with reading_ahead(read, range(step, config.steps), self._data.workers, put) as batches:
            yield lambda steps: next(batches)

    @contextlib.contextmanager
    def testing(self) -> Iterator[Iterator[Batch]]:
        """Yield the images and labels [batch, ...] of each batch of the test set."""
        sharding, shape = over_data(self._mesh), (self._batch_size,)
        (rows,) = share(sharding, shape)
        read = EvaluationRows(self._data.test, self._batch_size, rows, self.image_shape[0])
        put = functools.partial(self._put, sharding=sharding, shape=shape)
        batches = -(-self.test_examples // self._batch_size)
        with reading_ahead(read, range(batches), self._data.workers, put) as ahead:
            yield ahead

    @staticmethod
    def _put(here: Any, sharding: NamedSharding, shape: tuple[int, ...]) -> Any:
        """What this process holds of arrays [*shape, ...], as those arrays."""
        return jax.tree.map(
            lambda array: jax.make_array_from_process_local_data(
                sharding, array, (*shape, *array.shape[len(shape) :])
            ),
            here,
        )
