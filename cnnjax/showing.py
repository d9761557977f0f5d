"""Show training examples as a step gets them: originals, and what augmentation makes of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.config import Config
from cnnjax.data import Dataset, Stream, as_data, open_data
from cnnjax.data.augment import MIXING
from cnnjax.data.batches import batch_indices
from cnnjax.data.class_names import class_names
from cnnjax.data.pictures import centre
from cnnjax.data.rows import TrainingRows
from cnnjax.errors import UserError
from cnnjax.recipes import Objects, resolve
from cnnjax.report.sheet import contact_sheet
from cnnjax.training.inputs import example
from cnnjax.training.step import at_step
from cnnjax.training.task import Task

_Batch = tuple[Sequence[np.ndarray], Sequence[np.ndarray], np.ndarray]


def show(
    config: Config, path: Path, step: int = 0, images: int = 8, versions: int = 6, data: Any = None
) -> Path:
    """Draw the first `images` of the batch of `step`, each as it is and in `versions` of augmentation.

    The first version is what training sees at that step; the others are what the same images would be at the
    steps after it. Normalisation is undone (what was subtracted pixel by pixel stays in its place, and shows
    where a crop moves the rest); with "gcn" and "zca" 3 standard deviations are black and white. Returns
    `path`, a PNG.

    Raises:
        UserError: the data is no set of images.
    """
    opened = as_data(open_data(config.data) if data is None else data)
    if not isinstance(opened, Dataset | Stream):
        raise UserError(f"{config.data}: --show is for images of bytes")
    task = resolve(config, Objects(data=opened))
    count = min(images, config.batch_size)
    steps = range(step, step + versions)
    if isinstance(task.data, Dataset):
        originals, raw, labels = _in_memory(task.data, config, step, versions)
    else:
        originals, raw, labels = _photographs(task, step, steps)
    shown = [_augmented(task, now, batch, labels)[:count] for now, batch in zip(steps, raw, strict=True)]
    pictures = [[originals[row], *(version[row] for version in shown)] for row in range(count)]
    names = class_names(opened)
    return contact_sheet(
        pictures,
        [names[label] if names else f"class {label}" for label in labels[:count]],
        ["original", *(f"step {now}" for now in steps)],
        path,
    )


def _in_memory(data: Dataset, config: Config, step: int, versions: int) -> _Batch:
    """A batch's originals, its raw inputs for each version, and its labels."""
    indices = batch_indices(config.order_seed, step, config.batch_size, len(data.train_labels))
    batch = np.asarray(data.train_images[indices])
    return list(batch), [batch] * versions, data.train_labels[indices]


def _photographs(task: Task, step: int, steps: range) -> _Batch:
    """The same of photographs, which are cropped on the host."""
    config, side = task.config, example(task.data, 1, task.network.source)[0].shape[1]
    assert isinstance(task.data, Stream)
    rows = range(config.batch_size)
    read = TrainingRows(task.data.train, [config.order_seed], config.batch_size, rows, config.augment, side)
    pictures, labels = read.pictures(config.order_seed, step)
    crops = [
        np.stack([read.crop(config.order_seed, now, row, pictures[row]) for row in rows]) for now in steps
    ]
    return [np.asarray(centre(picture, side)) for picture in pictures], crops, labels


def _augmented(task: Task, step: int, raw: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A batch as the step's network gets it, as bytes again."""
    moment, _ = at_step(jax.random.key(task.config.order_seed), jnp.int32(step))
    inputs, _ = task.augment(moment, task.normalize(jnp.asarray(raw)), jnp.asarray(labels))
    black, white = _bounds(task, raw)
    return np.asarray(jnp.rint(255 * jnp.clip((inputs - black) / (white - black), 0, 1))).astype(np.uint8)


def _bounds(task: Task, raw: np.ndarray) -> tuple[Any, Any]:
    """What is shown as black and as white."""
    if task.config.normalize in MIXING:
        spread = 3 * jnp.std(task.normalize(jnp.asarray(raw)))
        return -spread, spread
    black = task.normalize(jnp.zeros(raw.shape[1:], jnp.uint8))
    return black, task.normalize(jnp.full(raw.shape[1:], 255, jnp.uint8))
