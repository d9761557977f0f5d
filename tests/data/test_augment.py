import itertools
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cnnjax.data.augment import (
    AUGMENTATIONS,
    alternating_flip,
    augmentation,
    crop,
    flip,
    normalizer,
    photograph_normalizer,
)
from cnnjax.data.windows import area_crop, cut_out, scale_crop
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
    plain = ["none", "flip", "crop", "crop_flip", "reflect_crop_flip", "translate_flip"]
    assert list(AUGMENTATIONS) == [*plain, "scale_crop_flip", "area_crop_flip"]
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
        rounding = 1e-5 if name in ("scale_crop_flip", "area_crop_flip") else 0  # these multiply matrices
        np.testing.assert_allclose(whole, parts, rtol=0, atol=rounding, err_msg=name)
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


def test_an_augmentation_that_there_is_not():
    assert augmentation("flip") is AUGMENTATIONS["flip"]
    with pytest.raises(UserError, match=r"no augmentation is called 'zoom'; there are: none, flip"):
        augmentation("zoom")


def resized(image, box):
    """The window `box` of an image, resized to the image's size by Pillow."""
    channels = [
        Image.fromarray(channel).resize(image.shape[1::-1], Image.Resampling.BILINEAR, tuple(box))
        for channel in np.moveaxis(image, 2, 0)
    ]
    return np.stack([np.asarray(channel) for channel in channels], -1)


RAMP = np.stack(np.broadcast_arrays(*np.mgrid[:24.0, :32.0], 0.0), -1).astype(np.float32)  # row, column


def boxes(crop, draws=400):
    """[draw, 4]: left, top, right and bottom of each window of the ramp, read off its middle."""
    cropped = np.asarray(jax.jit(crop)(np.tile(RAMP, (draws, 1, 1, 1)), jax.random.key(3)))
    sides = []
    for axis, length in ((1, 32), (0, 24)):
        line = np.moveaxis(cropped[..., axis], 1 + axis, 1)[:, :, 12]
        first, last = line[:, length // 4], line[:, 3 * length // 4]
        slope = (last - first) / (3 * length // 4 - length // 4)
        start = first + 0.5 - slope * (length // 4 + 0.5)
        sides.append((start, start + slope * length))
    (left, right), (top, bottom) = sides
    return np.stack([left, top, right, bottom], -1), cropped


@pytest.mark.parametrize("crop", [area_crop, scale_crop])
def test_a_window_is_resized_as_pillow_does(crop):
    found, cropped = boxes(crop)
    for box, pixels in list(zip(found, cropped, strict=True))[:20]:
        np.testing.assert_allclose(pixels, resized(RAMP, box.clip(0, [32, 24, 32, 24])), atol=0.02)


def test_windows_have_areas_and_aspects_of_the_paper():
    left, top, right, bottom = boxes(area_crop)[0].T
    width, height = right - left, bottom - top
    np.testing.assert_allclose(np.stack([width, height, left, top]) % 1 % 0.999, 0, atol=0.02)  # whole pixels
    area, aspect = width * height / (24 * 32), width / height
    assert 0.07 < area.min() < 0.1
    assert 0.9 < area.max() <= 1.001
    rng = np.random.default_rng(0)  # of windows drawn by numpy, and drawn again where they do not fit
    areas, aspects = rng.uniform(0.08, 1, 100_000), (4 / 3) ** rng.uniform(-1, 1, 100_000)
    fit = (areas * aspects <= 32 / 24) & (areas / aspects <= 24 / 32)
    for part in (0.25, 0.5, 0.75):
        assert np.quantile(area, part) == pytest.approx(np.quantile(areas[fit], part), abs=0.06)
    assert 0.7 < aspect.min() < 0.8
    assert 1.28 < aspect.max() < 1.42
    assert min(left.min(), top.min()) > -0.01
    assert (right.max(), bottom.max()) == pytest.approx((32, 24), abs=0.01)


def test_where_no_window_fits_it_is_the_largest_in_the_middle():
    strip = np.tile(np.arange(128, dtype=np.float32)[:, None, None], (2, 1, 4, 1))
    found = np.asarray(area_crop(strip, jax.random.key(0)))[0, :, 0, 0]
    assert found.mean() == pytest.approx(63.5, abs=1.1)
    assert found[-1] - found[0] < 5.4  # 5 rows, as 4 * 4/3 is


def test_windows_of_the_shorter_sides_from_256_to_480():
    left, top, right, bottom = boxes(scale_crop)[0].T
    np.testing.assert_allclose((right - left) / (bottom - top), 32 / 24, rtol=0.01)
    shorter = 24 * 24 / (bottom - top)  # of the enlarged image, at 224 pixels from 256 to 480
    assert shorter.min() == pytest.approx(round(256 * 24 / 224), abs=0.1)
    assert shorter.max() == pytest.approx(round(480 * 24 / 224), abs=0.1)
    np.testing.assert_allclose(shorter, np.rint(shorter), atol=0.1)
    assert min(left.min(), top.min()) == pytest.approx(0, abs=0.01)
    assert right.max() == pytest.approx(32, abs=0.5)


@pytest.mark.parametrize("size", [1, 4, 5])
def test_a_square_is_hidden_whose_centre_is_any_pixel(size):
    images = np.ones((2000, 6, 5, 2), np.float32)
    hidden = np.asarray(jax.jit(cut_out, static_argnums=2)(images, jax.random.key(0), size)) == 0
    assert (hidden[..., 0] == hidden[..., 1]).all()
    centres = [(row, column) for row in range(6) for column in range(5)]
    possible = {}
    for row, column in centres:
        mask = np.zeros((6, 5), bool)
        top, left = row - size // 2, column - size // 2
        mask[max(top, 0) : top + size, max(left, 0) : left + size] = True
        possible[mask.tobytes()] = row, column
    seen = [possible[mask.tobytes()] for mask in hidden[..., 0]]
    assert set(seen) == set(possible.values())


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
