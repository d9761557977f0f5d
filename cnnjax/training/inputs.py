"""The sources of a step's examples.

A compiled step selects its batch from arrays that stay on the devices (`dataset_arrays`) and from those that
come with each dispatch (`batch_inputs`).
"""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from cnnjax.config import Config
from cnnjax.data import Arrays, Data, Dataset, Source, Stream
from cnnjax.data.ahead import reading_ahead
from cnnjax.data.batches import batch_indices
from cnnjax.data.examples import EvaluationItems, TrainingItems
from cnnjax.data.rows import EvaluationRows, TrainingRows
from cnnjax.distributed import place
from cnnjax.errors import UserError
from cnnjax.mesh import over_data, over_seeds_and_data, replicated, share

Batch = tuple[Any, Any]  # raw inputs [batch, ...] and labels [batch]


def make_input(data: Data, config: Config, mesh: Mesh, module: Any) -> "InMemory | Streamed":
    """The input for a data set; photographs are cropped to the squares that `module` takes."""
    if isinstance(data, Stream):
        rows = _Photographs(data, config, _side_of(module))
        return Streamed(data, config, mesh, rows, example(data, 1, module))
    if isinstance(data, Source):
        return Streamed(data, config, mesh, _Items(data, config), example(data, 1, module))
    return InMemory(data, config, mesh)


def example(data: Data, batch_size: int, module: Any) -> Batch:
    """Shapes and types of a batch of raw inputs and labels."""
    if isinstance(data, Stream):
        side = _side_of(module)
        return _shape((batch_size, side, side, 3), np.uint8), _shape((batch_size,), np.int32)
    one = data.first if isinstance(data, Source) else jax.tree.map(lambda leaf: leaf[0], train_of(data))
    return jax.tree.map(lambda leaf: _shape((batch_size, *leaf.shape), leaf.dtype), one)


class InMemory:
    """A data set in memory: the devices hold all of it, and a dispatch brings indices.

    Attributes:
        most_steps: of a dispatch.
        test_examples: how many there are.
    """

    most_steps = sys.maxsize

    def __init__(self, data: Dataset | Arrays, config: Config, mesh: Mesh):
        self._config, self._mesh = config, mesh
        self._train, self._test = train_of(data), _test_of(data)
        self.train_examples, self.test_examples = (
            len(jax.tree.leaves(part)[0]) for part in (self._train, self._test)
        )

    @functools.cached_property
    def train_arrays(self) -> Batch:
        """The arrays that stay on the devices for training: all examples."""
        return place(jax.tree.map(np.asarray, self._train), replicated(self._mesh))

    @property
    def train_shapes(self) -> Batch:
        """Shapes of `train_arrays`."""
        return jax.tree.map(lambda leaf: _shape(leaf.shape, leaf.dtype), self._train)

    def batch_shapes(self, steps: int) -> jax.ShapeDtypeStruct:
        """Shapes of what a dispatch brings for one run: indices [step, batch]."""
        return _shape((steps, self._config.batch_size), np.int32)

    @functools.cached_property
    def test_arrays(self) -> Batch:
        """The arrays that stay on the devices for evaluation: all examples."""
        return place(jax.tree.map(np.asarray, self._test), replicated(self._mesh))

    @staticmethod
    def select_batch(dataset_arrays: Batch, indices: jax.Array) -> Batch:
        """The batch of these indices, inside the step."""
        return jax.tree.map(lambda leaf: leaf[indices], dataset_arrays)

    @contextlib.contextmanager
    def training(self, configs: Sequence[Config], step: int) -> Iterator[Callable[[range], jax.Array]]:
        """Yield the function from the steps of a dispatch to its batch inputs: indices [run, step, batch].

        It is called for each dispatch from `step` on, in turn.
        """

        def indices(steps: range) -> jax.Array:
            per_run = [
                [batch_indices(run.order_seed, now, run.batch_size, self.train_examples) for now in steps]
                for run in configs
            ]
            return place(np.array(per_run), over_seeds_and_data(self._mesh))

        yield indices

    @contextlib.contextmanager
    def testing(self) -> Iterator[Iterator[jax.Array]]:
        """Yield the indices [batch] of the test batches; the last is filled up with the first examples."""
        size = self._config.batch_size
        starts = range(0, self.test_examples, size)
        indices = (np.arange(start, start + size) % self.test_examples for start in starts)
        yield (place(batch, over_data(self._mesh)) for batch in indices)


class Streamed:
    """Examples read ahead: a dispatch is one step and brings its batch.

    Every process reads the rows that its devices hold; `one` has the shapes of a batch of one. Attributes and
    methods are those of `InMemory`.
    """

    most_steps = 1
    train_arrays = train_shapes = test_arrays = ()

    def __init__(self, data: Stream | Source, config: Config, mesh: Mesh, rows: "RowReaders", one: Batch):
        if not len(data.test):
            raise UserError(f"{data.name} has no test examples: hold some out, such as --validation 100")
        self._workers, self._config, self._mesh, self._rows = data.workers, config, mesh, rows
        self._one = one
        self.train_examples, self.test_examples = len(data.train), len(data.test)

    def batch_shapes(self, steps: int) -> Batch:
        """Shapes of what a dispatch brings for one run: inputs and labels [step, batch, ...]."""
        leading = steps, self._config.batch_size
        return jax.tree.map(lambda leaf: _shape((*leading, *leaf.shape[1:]), leaf.dtype), self._one)

    @staticmethod
    def select_batch(dataset_arrays: tuple[()], batch_inputs: Batch) -> Batch:
        """Return the examples that came with the dispatch."""
        return batch_inputs

    @contextlib.contextmanager
    def training(self, configs: Sequence[Config], step: int) -> Iterator[Callable[[range], Batch]]:
        """Yield the function from a step, each in turn, to its inputs and labels [run, 1, batch, ...]."""
        config, sharding = configs[0], over_seeds_and_data(self._mesh)
        shape = len(configs), 1, config.batch_size
        runs, _, rows = share(sharding, shape)
        read = self._rows.training([configs[run].order_seed for run in runs], rows)
        put = functools.partial(_put, sharding=sharding, shape=shape)
        with reading_ahead(read, range(step, config.steps), self._workers, put) as batches:
            yield lambda steps: next(batches)

    @contextlib.contextmanager
    def testing(self) -> Iterator[Iterator[Batch]]:
        """Yield the inputs and labels [batch, ...] of each batch of the test set."""
        sharding, shape = over_data(self._mesh), (self._config.batch_size,)
        (rows,) = share(sharding, shape)
        put = functools.partial(_put, sharding=sharding, shape=shape)
        batches = -(-self.test_examples // self._config.batch_size)
        with reading_ahead(self._rows.testing(rows), range(batches), self._workers, put) as ahead:
            yield ahead


class RowReaders(Protocol):
    """What reads the rows of batches: functions of a step, or of a test batch's number."""

    def training(self, seeds: Sequence[int], rows: range) -> Callable[[int], Any]:
        """From a step to inputs and labels [run, 1, row, ...] of runs with these seeds."""
        ...

    def testing(self, rows: range) -> Callable[[int], Any]:
        """From a test batch's number to inputs and labels [row, ...]."""
        ...


class _Photographs:
    """Pictures of any size, cropped to squares."""

    def __init__(self, data: Stream, config: Config, side: int):
        self._data, self._config, self._side = data, config, side

    def training(self, seeds: Sequence[int], rows: range) -> Callable[[int], Any]:
        size, augment = self._config.batch_size, self._config.augment
        return TrainingRows(self._data.train, seeds, size, rows, augment, self._side)

    def testing(self, rows: range) -> Callable[[int], Any]:
        return EvaluationRows(self._data.test, self._config.batch_size, rows, self._side)


class _Items:
    """Items as a source gives them."""

    def __init__(self, data: Source, config: Config):
        self._data, self._size = data, config.batch_size

    def training(self, seeds: Sequence[int], rows: range) -> Callable[[int], Any]:
        return TrainingItems(self._data.train, seeds, self._size, rows)

    def testing(self, rows: range) -> Callable[[int], Any]:
        return EvaluationItems(self._data.test, self._size, rows)


def train_of(data: Dataset | Arrays) -> Batch:
    """All raw inputs and labels of the training split."""
    if isinstance(data, Dataset):
        return data.train_images, data.train_labels
    return data.train_inputs, data.train_labels


def _test_of(data: Dataset | Arrays) -> Batch:
    if isinstance(data, Dataset):
        return data.test_images, data.test_labels
    return data.test_inputs, data.test_labels


def _side_of(module: Any) -> int:
    """Side in pixels of the square photographs that a network takes, from its `input_shape`."""
    name = type(module).__name__
    shape = getattr(module, "input_shape", None)
    if shape is None:
        raise UserError(
            f"{name} has no input_shape, to which photographs are cropped: give it a field or property "
            "input_shape, such as (224, 224, 3)"
        )
    height, width, channels = shape
    if height != width or channels != 3:
        raise UserError(f"{name} takes images of {height}x{width}x{channels}, not squares of photographs")
    return height


def _shape(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype))


def _put(here: Any, sharding: NamedSharding, shape: tuple[int, ...]) -> Any:
    """What this process holds of arrays [*shape, ...], as those arrays."""
    return jax.tree.map(
        lambda array: jax.make_array_from_process_local_data(
            sharding, array, (*shape, *array.shape[len(shape) :])
        ),
        here,
    )
