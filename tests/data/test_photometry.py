import itertools

import jax
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from cnnjax.data import photometry
from cnnjax.data.augment import normalizer
from cnnjax.data.photometry import change_photometry

ENHANCERS = ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color
PIXELS = np.random.default_rng(0).integers(30, 226, (64, 5, 6, 3), np.uint8)


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
def test_each_order_is_as_in_pillow(order):
    factors = np.array([1.3, 0.6, 1.4])
    image = Image.fromarray(PIXELS[0])
    for kind in order:
        image = ENHANCERS[kind](image).enhance(factors[kind])
    found = photometry._change(PIXELS[0] / np.float32(255), np.array(order), factors.astype(np.float32))
    np.testing.assert_allclose(255 * np.asarray(found), np.asarray(image), atol=3)  # Pillow rounds each time


@pytest.mark.parametrize("kind", ["none", "pixel_mean", "raw_mean", "channel"])
def test_the_change_is_the_same_in_any_units(kind):
    normalize, plain = normalizer(PIXELS, kind), normalizer(PIXELS, "none")
    change = jax.jit(lambda images, key: change_photometry(images, key, 0.5, normalize))
    found = change(normalize(PIXELS), jax.random.key(1))
    black, white = (np.asarray(normalize(np.full_like(PIXELS[:1], value))) for value in (0, 255))
    expected = change_photometry(plain(PIXELS), jax.random.key(1), 0.5, plain)
    np.testing.assert_allclose((found - black) / (white - black), expected, atol=2e-5)


def test_brightness_of_each_image_has_a_factor_of_its_own():
    grey = np.full((512, 2, 2, 3), 100, np.uint8)  # of one grey, contrast and saturation change nothing
    plain = normalizer(grey, "none")
    found = (
        255 * np.asarray(change_photometry(plain(grey), jax.random.key(0), 0.5, plain)).mean((1, 2, 3)) / 100
    )
    assert 0.5 <= found.min() < 0.51
    assert 1.49 < found.max() <= 1.5
    assert found.mean() == pytest.approx(1, abs=0.05)
    assert len(np.unique(found)) > 500


def test_images_of_one_channel_and_no_change():
    grey = PIXELS[..., :1]
    plain = normalizer(grey, "none")
    np.testing.assert_allclose(
        change_photometry(plain(grey), jax.random.key(0), 0.0, plain), plain(grey), atol=1e-6
    )
    changed = change_photometry(plain(grey), jax.random.key(0), 0.5, plain)
    assert changed.shape == grey.shape
    again = change_photometry(plain(grey), jax.random.key(0), 0.5, plain)
    np.testing.assert_array_equal(changed, again)
