import itertools
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.data.augment import (
    AUGMENTATIONS,
    alternating_flip,
    augmentation,
    crop,
    flip,
    normalizer,
    photograph_normalizer,
)
from cnnjax.errors import UserError
from cnnjax.images import IMAGENET_MEAN, IMAGENET_STD

IMAGES = np.random.default_rng(0).normal(size=(256, 8, 6, 3)).astype(np.float32)


def windows(image, padding, mode="constant"):
    """Every window that a crop may give, by corner."""
    height, width, _ = image.shape
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)), mode)
    corners = [(row, column) for row in range(2 * padding + 1) for column in range(2 * padding + 1)]
    return {corner: padded[corner[0] :, corner[1] :][:height, :width] for corner in corners}


@pytest.mark.parametrize("padding", [0, 1, 4])
def test_crop_is_a_window_of_the_padded_image(padding):
    cropped = np.asarray(jax.jit(crop, static_argnums=2)(IMAGES, jax.random.key(1), padding))
    seen = set()
    for before, after in zip(IMAGES, cropped, strict=True):
        (corner,) = [at for at, window in windows(before, padding).items() if np.array_equal(window, after)]
        seen.add(corner)
    rows, columns = zip(*seen, strict=True)
    assert set(rows) == set(columns) == set(range(2 * padding + 1))  # 256 draws miss one of 9 with p < 1e-12
    assert len(seen) > 2 * padding + 1 or padding == 0  # rows and columns are drawn apart


def test_a_crop_may_be_padded_by_reflection():
    augmented = np.asarray(jax.jit(AUGMENTATIONS["reflect_crop_flip"])(jax.random.key(1), IMAGES[:32]))
    for before, after in zip(IMAGES[:32], augmented, strict=True):
        possible = windows(before, 4, "reflect").values()
        assert any(np.array_equal(one, after) or np.array_equal(one[:, ::-1], after) for one in possible)


def test_every_corner_of_a_crop_is_as_likely():
    images = np.zeros((4096, 3, 3, 1), np.float32)
    images[:, 1, 1] = 1  # where it is afterwards says which corner
    cropped = np.asarray(jax.jit(crop, static_argnums=2)(images, jax.random.key(0), 1))[..., 0]
    counts = cropped.sum(axis=0)
    np.testing.assert_allclose(counts, 4096 / 9, atol=5 * np.sqrt(4096 / 9))


def test_crop_depends_on_the_key_alone():
    one, same, other = (np.asarray(crop(jnp.asarray(IMAGES), jax.random.key(k))) for k in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_flip_mirrors_about_half_of_the_images():
    flipped = np.asarray(jax.jit(flip)(IMAGES, jax.random.key(0)))
    mirrored = (flipped == IMAGES[:, :, ::-1]).all(axis=(1, 2, 3))
    unchanged = (flipped == IMAGES).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(mirrored, ~unchanged)
    assert 128 - 40 < mirrored.sum() < 128 + 40  # five standard deviations


def test_named_augmentations():
    assert list(AUGMENTATIONS) == ["none", "flip", "crop", "crop_flip", "reflect_crop_flip", "translate_flip"]
    key, images = jax.random.key(3), jnp.asarray(IMAGES)
    np.testing.assert_array_equal(AUGMENTATIONS["none"](key, images), IMAGES)
    np.testing.assert_array_equal(AUGMENTATIONS["flip"](key, images), flip(images, key))
    np.testing.assert_array_equal(AUGMENTATIONS["crop"](key, images), crop(images, key))
    both = np.asarray(AUGMENTATIONS["crop_flip"](key, images))
    mirrored = 0
    for before, after in zip(IMAGES, both, strict=True):
        possible = windows(before, 4).values()
        straight = any(np.array_equal(window, after) for window in possible)
        mirrored += not straight
        assert straight or any(np.array_equal(window[:, ::-1], after) for window in possible)
    assert 88 < mirrored < 168


SHARDED = """
    import jax, numpy as np
    from jax.sharding import NamedSharding, PartitionSpec
    from cnnjax.data.augment import AUGMENTATIONS

    images = np.random.default_rng(0).normal(size=(32, 8, 8, 3)).astype(np.float32)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
    for name, augment in AUGMENTATIONS.items():
        key = jax.random.key(5)
        whole, parts = jax.jit(augment)(key, images), jax.jit(augment)(key, spread)
        assert len(parts.sharding.device_set) == 4, name
        np.testing.assert_array_equal(np.asarray(whole), np.asarray(parts), err_msg=name)
"""


def test_sharding_changes_nothing():
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "4"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(SHARDED)], env=environment, check=True)


def test_pixel_mean():
    train = np.random.default_rng(1).integers(0, 256, (5000, 4, 5, 3), dtype=np.uint8)
    normalized = jax.jit(normalizer(train, "pixel_mean"))(train[:100])
    assert normalized.dtype == jnp.float32
    expected = (train[:100] - train.astype(np.float64).mean(axis=0)) / 255
    np.testing.assert_allclose(normalized, expected, rtol=0, atol=1e-7)


def test_channel():
    train = np.random.default_rng(1).integers(0, 256, (5000, 4, 5, 3), dtype=np.uint8)
    train[..., 1] //= 4
    normalized = jax.jit(normalizer(train, "channel"))(train[:100])
    wide = train.astype(np.float64)
    expected = (wide[:100] - wide.mean(axis=(0, 1, 2))) / wide.std(axis=(0, 1, 2))
    np.testing.assert_allclose(normalized, expected, rtol=0, atol=2e-6)


def test_photographs_are_normalised_by_imagenets_colours():
    images = np.array([[[[0, 128, 255]]]], np.uint8)
    unit = np.array([0, 128 / 255, 1]) - IMAGENET_MEAN
    np.testing.assert_allclose(photograph_normalizer("pixel_mean")(images)[0, 0, 0], unit, atol=1e-6)
    np.testing.assert_allclose(
        photograph_normalizer("channel")(images)[0, 0, 0], unit / IMAGENET_STD, atol=1e-5
    )


def test_an_augmentation_of_photographs_is_not_for_small_images():
    assert augmentation("flip") is AUGMENTATIONS["flip"]
    with pytest.raises(
        UserError, match=r"'scale_crop_flip' is for photographs; small images take none, flip"
    ):
        augmentation("scale_crop_flip")


def test_normalizations():
    with pytest.raises(UserError, match="'pixelmean'; there are: pixel_mean, raw_mean, channel"):
        normalizer(np.zeros((2, 4, 4, 3), np.uint8), "pixelmean")
    with pytest.raises(UserError, match="'pixel'; there are: pixel_mean, raw_mean, channel"):
        photograph_normalizer("pixel")
    with pytest.raises(UserError, match="same value in all training images"):
        normalizer(np.zeros((2, 4, 4, 3), np.uint8), "channel")


def test_images_are_mirrored_in_every_second_epoch():
    examples, batch = 12, 8  # the second batch spans two epochs
    rng = np.random.default_rng(0)
    images = rng.normal(size=(examples, 4, 6, 3)).astype(np.float32)
    orders = [rng.permutation(examples) for _ in range(6)]
    stream = np.concatenate(orders)
    flips = jax.jit(alternating_flip, static_argnums=3)
    seen = [[] for _ in images]
    for step in range(len(stream) // batch):
        indices = stream[step * batch : (step + 1) * batch]
        found = flips(images[indices], jax.random.key(3), jnp.int32(step), examples)
        for index, one in zip(indices, np.asarray(found), strict=True):
            mirrored = np.array_equal(one, images[index, :, ::-1])
            assert mirrored or np.array_equal(one, images[index])
            seen[index].append(mirrored)
    assert all(before != after for one in seen for before, after in itertools.pairwise(one))
    first = [one[0] for one in seen]
    assert any(first)
    assert not all(first)
    others = flips(images, jax.random.key(4), jnp.int32(0), examples)  # another run begins otherwise
    theirs = [not np.array_equal(one, image) for one, image in zip(np.asarray(others), images, strict=True)]
    assert theirs != first


def test_about_half_of_many_images_are_mirrored_first():
    images = jax.random.normal(jax.random.key(0), (2_000, 3, 4, 1))
    found = alternating_flip(images, jax.random.key(1), jnp.int32(0), 2_000)
    mirrored = float((found != images).any((1, 2, 3)).mean())
    assert abs(mirrored - 0.5) < 4 * 0.5 / 2_000**0.5
