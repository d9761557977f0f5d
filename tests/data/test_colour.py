import jax
import numpy as np
import pytest

from cnnjax.config import Config
from cnnjax.data.augment import normalizer, photograph_normalizer
from cnnjax.data.colour import IMAGENET_COLOURS, change_colours, principal_colours
from cnnjax.errors import UserError
from cnnjax.recipes import Objects, resolve
from cnnjax.training.task import Moment

RED_AND_GREEN = np.array([[3, 4, 0], [-4, 3, 0]]) / 5  # two directions at right angles


def test_principal_colours_of_pixels_that_vary_along_two_of_them():
    amounts = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) * [
        50,
        10,
    ]  # standard deviations
    pixels = np.round(128 + amounts @ RED_AND_GREEN).astype(np.uint8)
    found = principal_colours(np.tile(pixels.reshape(1, 2, 2, 3), (3, 1, 1, 1)))
    expected = np.array([50, 10])[:, None] / 255 * RED_AND_GREEN
    signs = np.sign(np.sum(found[:2] * expected, 1, keepdims=True))
    np.testing.assert_allclose(signs * found[:2], expected, atol=1e-3)
    np.testing.assert_allclose(found[2], 0, atol=1e-7)


def test_imagenets_colours_by_hand():
    """The red channel's are .2175 * -.5675, .0188 * .7192 and .0045 * .4009."""
    np.testing.assert_allclose(IMAGENET_COLOURS[:, 0], [-0.12343, 0.01352, 0.00180], atol=1e-5)
    directions = IMAGENET_COLOURS / np.linalg.norm(IMAGENET_COLOURS, axis=1, keepdims=True)
    np.testing.assert_allclose(directions @ directions.T, np.eye(3), atol=1e-3)


@pytest.mark.parametrize(("kind", "unit"), [("raw_mean", 255), ("pixel_mean", 1), ("none", 1)])
def test_each_image_has_one_colour_added_of_the_stated_spread(kind, unit):
    draw = np.random.default_rng(0)
    raw = draw.integers(0, 256, (4096, 2, 2, 3), np.uint8)
    normalize = normalizer(raw, kind)
    images = normalize(raw)
    changed = jax.jit(lambda x, key: change_colours(x, key, IMAGENET_COLOURS, 0.1, normalize))(
        images, jax.random.key(0)
    )
    shift = np.asarray(changed - images)
    np.testing.assert_allclose(shift, np.broadcast_to(shift[:, :1, :1], shift.shape), atol=1e-5 * unit)
    covariance = np.cov(shift[:, 0, 0].T) / unit**2
    expected = 0.01 * IMAGENET_COLOURS.T @ IMAGENET_COLOURS
    np.testing.assert_allclose(covariance, expected, atol=5 * np.sqrt(2 / 4096) * expected.max())


def test_a_standardised_channel_has_a_smaller_unit():
    images = np.zeros((2, 1, 1, 3), np.float32)
    changed = change_colours(
        images, jax.random.key(0), IMAGENET_COLOURS, 0.1, photograph_normalizer("channel")
    )
    plain = change_colours(images, jax.random.key(0), IMAGENET_COLOURS, 0.1, photograph_normalizer("none"))
    np.testing.assert_allclose(changed, plain / np.array([0.229, 0.224, 0.225]), rtol=1e-5)


def test_training_images_alone_change_and_with_the_key():
    config = Config(model="lenet5_modern", data="synthetic", augment="none", colour=0.1)
    task = resolve(config)
    images = task.normalize(task.data.train_images[:4])
    labels = np.zeros(4, int)

    def moment(step):
        return Moment(jax.random.key(step), jax.random.key(0), np.int32(step))

    one, same, other = (task.augment(moment(k), images, labels)[0] for k in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)
    assert not np.allclose(one, images)


def test_arrays_that_are_no_bytes_have_no_colours():
    arrays = np.zeros((8, 4, 4, 3), np.float32), np.zeros(8, int)
    with pytest.raises(UserError, match="colour: is for images of bytes"):
        resolve(Config(model="lenet5_modern", colour=0.1), Objects(data=(*arrays, *arrays)))
