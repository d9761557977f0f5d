"""Examples without a named data set: arrays of any shape, and sources that are read item by item."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from cnnjax.data.batches import batch_indices
from cnnjax.data.dataset import Dataset, draw_held_out
from cnnjax.errors import UserError

SAMPLED = 64  # items of a source that its digest reads


@dataclasses.dataclass(frozen=True, eq=False)
class Arrays:
    """Inputs and labels in memory, in two splits; each is an array [example, ...] or a tree of such.

    They reach the network unchanged. `classes` is the number of classes if labels are whole numbers
    [example], and None otherwise.
    """

    train_inputs: Any
    train_labels: Any
    test_inputs: Any
    test_labels: Any
    classes: int | None = None
    name: str = "arrays"
    source: str = "arrays given"

    def __post_init__(self) -> None:
        for split in ("train", "test"):
            parts = {part: getattr(self, f"{split}_{part}") for part in ("inputs", "labels")}
            lengths = {
                part: {len(leaf) if np.ndim(leaf) else 0 for leaf in _leaves(tree)}
                for part, tree in parts.items()
            }
            if lengths["inputs"] != lengths["labels"] or len(lengths["inputs"]) != 1:
                counts = " and ".join(f"{sorted(each)} {part}" for part, each in lengths.items())
                raise UserError(f"data=: the {split} split has {counts}; their numbers must agree")
            if lengths["inputs"] == {0}:
                raise UserError(f"data=: the {split} split is empty; give it at least one example")
            for part, tree in parts.items():
                for leaf in _leaves(tree):
                    _check_finite(f"data=, {split} {part}", np.asarray(leaf))
        shapes = [_shapes(inputs) for inputs in (self.train_inputs, self.test_inputs)]
        if shapes[0] != shapes[1]:
            raise UserError(f"data=: training inputs are {shapes[0]}, but test inputs are {shapes[1]}")

    def __str__(self) -> str:
        return (
            f"{self.name}: {_length(self.train_inputs):,} training and {_length(self.test_inputs):,} test "
            f"examples of {_shapes(self.train_inputs)}"
        )

    @property
    def digest(self) -> str:
        """SHA-256 of all arrays."""
        digest = hashlib.sha256()
        splits = self.train_inputs, self.train_labels, self.test_inputs, self.test_labels
        for leaf in _leaves(splits):
            array = np.ascontiguousarray(leaf)
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(array.view(np.uint8).data if array.size else b"")
        return digest.hexdigest()

    def split(self, validation: int, seed: int) -> "Arrays":
        """Hold out `validation` training examples, drawn by `seed`, as the new test split."""
        held_out, kept = draw_held_out(self.name, _length(self.train_inputs), validation, seed)
        return dataclasses.replace(
            self,
            train_inputs=_take(self.train_inputs, kept),
            train_labels=_take(self.train_labels, kept),
            test_inputs=_take(self.train_inputs, held_out),
            test_labels=_take(self.train_labels, held_out),
            source=f"{self.source}, {validation} training examples held out by seed {seed}",
        )

    def downsampled(self, factor: int) -> "Arrays":
        """Accept only a factor of 1: these are not images of a data set."""
        return _never_downsampled(self, factor)


class Items(Protocol):
    """A random-access source of examples: grain's, a Hugging Face data set, a list, your own class.

    An item is a pair (input, label), a mapping with the entry "label" whose first other entry is the
    input, or a mapping of two entries; Pillow's pictures become uint8 [height, width, channel].
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Examples read as steps need them; see `Items`. All inputs must have one shape."""

    train: Items
    test: Items
    classes: int | None = None
    name: str = "source"
    source: str = "a source given"
    workers: int = 0

    def __post_init__(self) -> None:
        for split, items in (("train", self.train), ("test", self.test)):
            if not len(items):
                raise UserError(f"data=: the {split} source is empty")
            read_item(items, 0)

    def __str__(self) -> str:
        return f"{self.name}: {len(self.train):,} training and {len(self.test):,} test examples"

    @property
    def first(self) -> tuple[np.ndarray, np.ndarray]:
        """Input and label of the first training example."""
        return read_item(self.train, 0)

    @property
    def digest(self) -> str:
        """SHA-256 of the numbers of examples and of a sample of them; reading all would take a pass."""
        digest = hashlib.sha256()
        for items in (self.train, self.test):
            digest.update(str(len(items)).encode())
            for index in sorted({round(i) for i in np.linspace(0, len(items) - 1, SAMPLED)}):
                for part in read_item(items, index):
                    array = np.ascontiguousarray(part)
                    digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
        return digest.hexdigest()

    def split(self, validation: int, seed: int) -> "Source":
        """Hold out `validation` training examples, drawn by `seed`, as the new test split."""
        held_out, kept = draw_held_out(self.name, len(self.train), validation, seed)
        return dataclasses.replace(self, train=_Some(self.train, kept), test=_Some(self.train, held_out))

    def downsampled(self, factor: int) -> "Source":
        """Accept only a factor of 1: items are used as the source gives them."""
        return _never_downsampled(self, factor)


@dataclasses.dataclass(frozen=True)
class _Some:
    """Some items of `whole`."""

    whole: Items
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> Any:
        return self.whole[int(self.indices[index])]


@dataclasses.dataclass(frozen=True)
class TrainingItems:
    """Read rows of training batches: from the step to inputs and labels [run, 1, row, ...]."""

    items: Items
    seeds: Sequence[int]
    batch_size: int
    rows: range

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels of the batch after `step` steps."""
        runs = []
        for seed in self.seeds:
            indices = batch_indices(seed, step, self.batch_size, len(self.items))
            runs.append(_stack(self.items, [int(indices[row]) for row in self.rows]))
        inputs, labels = (np.stack(part)[:, None] for part in zip(*runs, strict=True))
        return inputs, labels


@dataclasses.dataclass(frozen=True)
class EvaluationItems:
    """Read rows of test batches by the batch's number. The last one is filled up with the first examples."""

    items: Items
    batch_size: int
    rows: range

    def __call__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels [row, ...] of batch `number`."""
        first = number * self.batch_size
        return _stack(self.items, [(first + row) % len(self.items) for row in self.rows])


def read_item(items: Items, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Split an item into input and label; raises UserError if that is impossible."""
    item = items[index]
    if isinstance(item, Mapping):
        inputs = [value for name, value in item.items() if name != "label"]
        pair = [inputs[0], item["label"]] if inputs and "label" in item else inputs
    else:
        pair = list(item) if isinstance(item, tuple | list) else [item]
    if len(pair) != 2:
        raise UserError(
            f"data=: item {index} is a {type(item).__name__}, not a pair (input, label) or a mapping "
            "with both"
        )
    inputs, label = (np.asarray(part) for part in pair)
    if inputs.dtype.kind not in "biuf" or label.dtype.kind not in "biuf":
        raise UserError(f"data=: item {index} holds {pair[0]!r:.60} and {pair[1]!r:.60}, which are no arrays")
    if label.dtype == np.int64:
        label = label.astype(np.int32)
    return inputs, label


def as_data(data: Any) -> Any:
    """Convert what a user passed as `data=` to a `Dataset`, `Arrays`, `Source` or stream.

    Four arrays (x, y, x_test, y_test), two sources (train, test), or a mapping of "train" and "test" to
    sources; anything else is returned as it is.

    Raises:
        UserError: they do not fit together.
    """
    if isinstance(data, str):
        raise UserError(
            f"data={data!r}: a name goes into Config(data=...); data= takes "
            "arrays (x, y, x_test, y_test) or sources (train, test)"
        )
    if isinstance(data, Mapping):
        if missing := {"train", "test"} - set(data):
            raise UserError(
                f"data=: a mapping must have 'train' and 'test'; {sorted(missing)[0]!r} is missing"
            )
        data = data["train"], data["test"]
    if not isinstance(data, tuple | list):
        return data
    if len(data) == 4:
        return _from_arrays(*data)
    if len(data) == 2 and all(hasattr(part, "__len__") and hasattr(part, "__getitem__") for part in data):
        if any(hasattr(part, "dtype") for part in data):
            raise UserError("data=: two arrays are no train and test data; give (x, y, x_test, y_test)")
        labels = read_item(data[0], 0)[1]
        classes = _count_classes_of(data) if labels.ndim == 0 and labels.dtype.kind in "iu" else None
        return Source(*data, classes=classes)
    raise UserError(f"data=: {len(data)} parts; give (x, y, x_test, y_test) or two sources (train, test)")


def _from_arrays(x: Any, y: Any, x_test: Any, y_test: Any) -> Dataset | Arrays:
    x, y, x_test, y_test = (_map(_as_array, part, _is_list_of_numbers) for part in (x, y, x_test, y_test))
    classes = None
    are_labels = all(
        isinstance(part, np.ndarray) and part.dtype.kind in "iu" and part.ndim == 1 for part in (y, y_test)
    )
    if are_labels and len(y) and len(y_test):
        y, y_test = y.astype(np.int32), y_test.astype(np.int32)
        if min(y.min(), y_test.min()) < 0:
            raise UserError(f"data=: labels must not be negative, but one is {min(y.min(), y_test.min())}")
        classes = int(max(y.max(), y_test.max())) + 1
        if all(
            isinstance(part, np.ndarray) and part.dtype == np.uint8 and part.ndim == 4 for part in (x, x_test)
        ):
            return Dataset("arrays", x, y, x_test, y_test, classes, "arrays given")
    return Arrays(x, y, x_test, y_test, classes)


def _count_classes_of(sources: Sequence[Items]) -> int:
    """The number of classes: as the source says, or one more than the largest label of all its items."""
    names = getattr(getattr(sources[0], "features", {}).get("label", None), "num_classes", None)
    if names:  # Hugging Face's
        return int(names)
    return 1 + max(int(read_item(items, i)[1]) for items in sources for i in range(len(items)))


def _stack(items: Items, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    read = [read_item(items, index) for index in indices]
    shapes = {inputs.shape: index for (inputs, _), index in zip(read, indices, strict=True)}
    if len(shapes) > 1:
        (one, first), (other, second), *_ = shapes.items()
        raise UserError(
            f"data=: item {first} has shape {one}, item {second} has {other}; all inputs must have one shape"
        )
    inputs, labels = (np.stack(part) for part in zip(*read, strict=True))
    return inputs, labels


def _leaves(tree: Any) -> list[Any]:
    import jax  # names of data sets are listed without it

    return jax.tree.leaves(tree)


def _map(function: Callable[..., Any], tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> Any:
    import jax

    return jax.tree.map(function, tree, is_leaf=is_leaf)


def _is_list_of_numbers(value: Any) -> bool:
    """Whether a list is an array in the making, and no tree of arrays."""
    while isinstance(value, list) and value:
        value = value[0]
    return isinstance(value, int | float | np.number)


def _as_array(values: Any) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:  # lists of several lengths
        raise UserError(f"data=: lists that make no array ({error})") from None


def _take(tree: Any, indices: np.ndarray) -> Any:
    return _map(lambda leaf: leaf[indices], tree)


def _length(tree: Any) -> int:
    return len(_leaves(tree)[0])


def _shapes(tree: Any) -> str:
    return ", ".join(f"{leaf.dtype}{list(leaf.shape[1:])}" for leaf in _leaves(tree))


def _check_finite(what: str, array: np.ndarray) -> None:
    if array.dtype == object:
        raise UserError(f"{what}: an array of Python objects; give numbers")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))[0]
        raise UserError(f"{what}: example {bad[0]} (counted from 0) holds {array[tuple(bad)]}")


def _never_downsampled(data: Any, factor: int) -> Any:
    if factor != 1:
        raise UserError(f"downsample={factor}: averages the pixels of images; leave it out for other data")
    return data
