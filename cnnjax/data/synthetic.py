"""Data sets made on the spot: small and the same everywhere; one is learnable, one is noise."""

import numpy as np

from cnnjax.data.dataset import Dataset
from cnnjax.errors import UserError

_PROTOTYPES = 4  # per class, so that no linear template suffices
_SHIFT = 3
_NOISE = 1.0  # against patterns of unit standard deviation
_LEVELS = 32.0  # grey levels per unit


def synthetic(
    train: int = 2048, test: int = 512, size: int = 16, classes: int = 10, seed: int = 0
) -> Dataset:
    """Draw images `[image, size, size, 3]`, each a shifted, noisy copy of one of its class's 4 patterns."""
    _check("synthetic", train, test, size, classes)
    for_patterns, for_train, for_test = np.random.default_rng(seed).spawn(3)
    patterns = _low_pass(for_patterns.normal(size=(classes, _PROTOTYPES, size, size, 3)))
    return Dataset(
        "synthetic",
        *_draw(for_train, patterns, train),
        *_draw(for_test, patterns, test),
        classes=classes,
        source=f"generated, seed {seed}",
    )


def low_pass(train: int = 2048, test: int = 512, size: int = 16, classes: int = 10, seed: int = 0) -> Dataset:
    """Draw images `[image, size, size, 3]` of smooth noise; their labels say nothing of them.

    Images alike in nothing but their spectrum, for measures over inputs; and labels to learn by heart.
    """
    _check("low_pass", train, test, size, classes)

    def draw(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        images = _low_pass(rng.normal(size=(count, size, size, 3)))
        return _grey_levels(images), rng.permutation(np.arange(count, dtype=np.int32) % classes)

    for_train, for_test = np.random.default_rng(seed).spawn(2)
    return Dataset(
        "low_pass",
        *draw(for_train, train),
        *draw(for_test, test),
        classes=classes,
        source=f"generated, seed {seed}",
    )


def _check(name: str, train: int, test: int, size: int, classes: int) -> None:
    if min(train, test, classes) < 1 or size < 2 * _SHIFT:
        raise UserError(
            f"{name}: train={train}, test={test}, classes={classes} must be at least 1 and size={size} "
            f"at least {2 * _SHIFT}"
        )


def _low_pass(noise: np.ndarray) -> np.ndarray:
    """Keep frequencies up to 2 cycles per image: `[..., size, size, channel]`, unit standard deviation."""
    frequency = np.fft.fftfreq(noise.shape[-2], 1 / noise.shape[-2])
    low = np.hypot(frequency[:, None], frequency[None, :]) <= 2
    smooth = np.fft.ifft2(np.fft.fft2(noise, axes=(-3, -2)) * low[..., None], axes=(-3, -2)).real
    return smooth / smooth.std(axis=(-3, -2, -1), keepdims=True)


def _draw(rng: np.random.Generator, patterns: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    classes, prototypes, size = patterns.shape[:3]
    labels = rng.permutation(np.arange(count, dtype=np.int32) % classes)
    prototype = rng.integers(prototypes, size=count)
    shift = rng.integers(-_SHIFT, _SHIFT, size=(count, 2), endpoint=True)
    rows, columns = ((np.arange(size) - shift[:, axis, None]) % size for axis in (0, 1))
    images = patterns[
        labels[:, None, None], prototype[:, None, None], rows[:, :, None], columns[:, None, :]
    ] + _NOISE * rng.normal(size=(count, size, size, 3))
    return _grey_levels(images), labels


def _grey_levels(images: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(128 + _LEVELS * images), 0, 255).astype(np.uint8)
