"""Read a task's examples as the windows of its images that are to be tested."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from cnnjax.config import Config
from cnnjax.data import Arrays, Dataset, Source, Stream
from cnnjax.data.records import Records
from cnnjax.data.specs import SPECS
from cnnjax.errors import UserError
from cnnjax.evaluation.crops import pad, picture_windows, windows
from cnnjax.evaluation.views import CROPS, SCALE, SCALES, Crops, View, views
from cnnjax.images import decode
from cnnjax.training.inputs import InMemory, Streamed, example, make_input
from cnnjax.training.task import Task

PADDING = 4
"""Of ten crops of a small image: by so much is it padded in training (He et al. 2015, section 4.2)."""


@dataclasses.dataclass(frozen=True)
class Cropping:
    """Which windows of an image are tested; the default is the one that tests during training take.

    Attributes:
        crops: how many, or "dense" for the whole image; see `cnnjax.evaluation.views`.
        side: of the windows in pixels; by default of what the network was trained on.
        padding: pixels of padding around each image, after normalisation and as in training by zeros or
            reflection. By default 4 for 5 and 10 crops as large as the image itself, and else none.
        scales: shorter sides to resize an image to, for a network that takes 224 pixels and in proportion for
            others. By default the papers' for 144 and 150 crops, 256 for photographs, and none for arrays.
    """

    crops: Crops = 1
    side: int | None = None
    padding: int | None = None
    scales: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.crops not in CROPS:
            raise UserError(f"crops={self.crops!r}: must be one of {', '.join(map(str, CROPS))}")
        for name, least in (("side", 1), ("padding", 0)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise UserError(f"{name}={value!r}: must be a number of pixels, at least {least}")
        if self.scales is not None:
            object.__setattr__(self, "scales", tuple(self.scales))
            if not self.scales or any(not isinstance(one, int) or one < 1 for one in self.scales):
                raise UserError(f"scales={self.scales!r}: must be numbers of pixels, such as 256 384 512")


AS_TRAINED = Cropping()
"""The one window that tests during training take."""


def as_cropping(crops: Crops | Cropping) -> Cropping:
    """A Cropping from the number of windows, or itself."""
    return crops if isinstance(crops, Cropping) else Cropping(crops)


@dataclasses.dataclass(frozen=True)
class Cut:
    """How a batch becomes windows.

    Attributes:
        source: of the test batches.
        windows: from a raw batch to windows [batch, height, width, channel] that the network takes, inside
            `jit`.
        views: of each image; of a photograph they differ in where they lie, not in number and output.
    """

    source: InMemory | Streamed
    windows: Callable[[Any], list[jax.Array]]
    views: tuple[View, ...]


def cut(task: Task, how: Cropping, mesh: Mesh) -> Cut:
    """The test examples of a task as windows. So many are computed together as a training batch has images.

    Raises:
        UserError: the data are no images, or too small.
    """
    raw, _ = example(task.data, 1, task.network.source)
    if getattr(raw, "ndim", 0) != 4:
        raise UserError(f"{task.short_name}: its inputs are not images [batch, height, width, channel]")
    height, width = raw.shape[1:3]
    side = how.side or min(height, width)
    if isinstance(task.data, Stream):
        if how.padding:
            raise UserError(f"padding={how.padding}: is for arrays; photographs are resized, by scales")
        how = dataclasses.replace(how, scales=how.scales or tuple(SCALES.get(how.crops, (SCALE,))))
        wanted = views(how.crops, side, side, side, how.scales)
        config = _smaller(task.config, len(wanted), mesh)
        rows = _Photographs(task.data, config, how, side)
        source = Streamed(task.data, config, mesh, rows, example(task.data, 1, task.network.source))
        return Cut(source, lambda raw: [task.normalize(window) for window in raw], wanted)
    padding = how.padding
    if padding is None:
        is_whole = how.crops in (5, 10) and side == min(height, width) and how.scales is None
        padding = PADDING if is_whole else 0
    wanted = views(how.crops, height + 2 * padding, width + 2 * padding, side, how.scales)
    entry = SPECS.get(task.data.name)
    if entry is not None and not entry.flips and any(view.mirrored for view in wanted):
        raise UserError(
            f"crops={how.crops}: a mirrored image of {entry.name} is none of its class; take 1 or 5"
        )
    mode = "reflect" if task.config.augment == "reflect_crop_flip" else "constant"
    source = make_input(task.data, _smaller(task.config, len(wanted), mesh), mesh, task.network.source)
    return Cut(source, lambda raw: windows(pad(task.normalize(raw), padding, mode), wanted), wanted)


def _smaller(config: Config, windows: int, mesh: Mesh) -> Config:
    """The config with batches of as many images as a training batch has, counted in windows."""
    if windows == 1:
        return config
    devices = mesh.size
    return dataclasses.replace(config, batch_size=max(1, config.batch_size // windows // devices) * devices)


@dataclasses.dataclass(frozen=True)
class _Photographs:
    """Test photographs, as windows; in the place of the rows that training reads."""

    data: Stream
    config: Config
    how: Cropping
    side: int

    def training(self, seeds: Sequence[int], rows: range) -> Callable[[int], Any]:
        raise NotImplementedError("what is read here is tested")

    def testing(self, rows: range) -> Callable[[int], Any]:
        return functools.partial(_read, self.data.test, self.config.batch_size, rows, self.how, self.side)


def _read(
    records: Records, batch_size: int, rows: range, how: Cropping, side: int, number: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Windows uint8 [row, height, width, 3] and labels int32 [row] of a batch, by its number."""
    found, labels = [], np.empty(len(rows), np.int32)
    for place, row in enumerate(rows):
        index = (number * batch_size + row) % len(records)
        encoded, labels[place] = records[index]
        picture = decode(encoded, records.name(index))
        if how.crops == "dense":  # one shape for all, so that they are computed together
            short = min(picture.size)
            left, top = (round((length - short) / 2) for length in picture.size)
            picture = picture.crop((left, top, left + short, top + short))
        wanted = views(how.crops, picture.height, picture.width, side, how.scales)
        found.append(picture_windows(picture, wanted))
    return [np.stack(window) for window in zip(*found, strict=True)], labels


def of_training(task: Task) -> Task:
    """The same task with its training examples as test examples."""
    data = task.data
    if isinstance(data, Dataset):
        swapped: Any = dataclasses.replace(data, test_images=data.train_images, test_labels=data.train_labels)
    elif isinstance(data, Arrays):
        swapped = dataclasses.replace(data, test_inputs=data.train_inputs, test_labels=data.train_labels)
    else:
        assert isinstance(data, Stream | Source)
        swapped = dataclasses.replace(data, test=data.train)  # pyright: ignore[reportArgumentType]
    return dataclasses.replace(task, data=swapped)
