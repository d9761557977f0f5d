"""Crops of tiny images, each written down; dense evaluation beside the crops that it stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

from cnnjax.data.pictures import centre
from cnnjax.errors import UserError
from cnnjax.evaluation import crops_of, views, windows
from cnnjax.evaluation.crops import picture_windows
from cnnjax.models import build
from cnnjax.ops.places import at_every_place, mean_over_places


def test_ten_crops_of_a_3x4_image():
    """Its central square is 3x3, in columns 0 to 2: the odd column is dropped on the right."""
    image = jnp.arange(12.0).reshape(1, 3, 4, 1)
    found = crops_of(image, 10, 2)
    five = [
        [[0, 1], [4, 5]],
        [[1, 2], [5, 6]],
        [[4, 5], [8, 9]],
        [[5, 6], [9, 10]],
        [[0, 1], [4, 5]],
    ]
    assert found.shape == (10, 1, 2, 2, 1)
    np.testing.assert_array_equal(found[:5, 0, :, :, 0], five)
    np.testing.assert_array_equal(found[5:, 0, :, :, 0], np.flip(five, -1))
    np.testing.assert_array_equal(crops_of(image, 5, 2), found[:5])
    np.testing.assert_array_equal(crops_of(image, 1, 2)[0, 0, :, :, 0], [[1, 2], [5, 6]])


def test_padded_images_give_crops_of_their_own_size():
    image = jnp.arange(1.0, 5.0).reshape(1, 2, 2, 1)
    five = crops_of(image, 5, 2, padding=1)[:, 0, :, :, 0]
    np.testing.assert_array_equal(five[0], [[0, 0], [0, 1]])
    np.testing.assert_array_equal(five[3], [[4, 0], [0, 0]])
    np.testing.assert_array_equal(five[4], image[0, :, :, 0])


def test_googlenet_takes_144_crops():
    found = views(144, 300, 200, 224)
    assert len(found) == len(set(found)) == 4 * 3 * 6 * 2
    first = [view for view in found if view.resized == (384, 256) and not view.mirrored]
    expected = []
    for top in (0, 64, 128):  # top, centre and bottom square of a portrait
        expected += [(top, 0, 224), (top, 32, 224), (top + 32, 0, 224), (top + 32, 32, 224)]
        expected += [(top + 16, 16, 224), (top, 0, 256)]
    assert [(view.top, view.left, view.width) for view in first] == expected
    assert {view.output for view in found} == {(224, 224)}
    assert {min(view.resized) for view in found} == {256, 288, 320, 352}
    landscape = views(144, 200, 300, 224)
    assert [view.left for view in landscape[:18:6]] == [0, 64, 128]


def test_googlenet_resizes_the_square():
    """Side 7: scales 8, 9, 10, 11. A ramp shows which columns a window holds."""
    ramp = jnp.broadcast_to(jnp.arange(8.0)[:, None], (1, 8, 8, 1)) - 3.5
    found = crops_of(ramp, 144, 7)
    assert found.shape == (144, 1, 7, 7, 1)
    first = found[:18, 0, 0, :, 0]
    np.testing.assert_allclose(first[0], np.arange(7) - 3.5)
    np.testing.assert_allclose(first[1], np.arange(7) - 2.5)
    assert found[5, 0, 0, 3, 0] == pytest.approx(0, abs=1e-6)  # the middle of the whole square
    by_scale = np.asarray(found).reshape(4, 2, 18, 7, 7)
    np.testing.assert_array_equal(by_scale[:, 1], by_scale[:, 0, :, :, ::-1])


def test_vgg_takes_a_grid_of_150_crops():
    found = views(150, 256, 320, 224)
    assert len(found) == len(set(found)) == 3 * 5 * 5 * 2
    first = [view for view in found if view.resized == (256, 320) and not view.mirrored]
    assert sorted({view.top for view in first}) == [0, 8, 16, 24, 32]
    assert sorted({view.left for view in first}) == [0, 24, 48, 72, 96]
    assert {min(view.resized) for view in found} == {256, 384, 512}


def test_scales_are_in_proportion_to_the_window():
    assert [view.resized for view in views(1, 32, 32, 28, scales=(224, 256, 384))] == [
        (28, 28), (32, 32), (48, 48),
    ]  # fmt: skip
    whole, mirrored = views("dense", 32, 40, 28)
    assert whole.output == (32, 40)
    assert mirrored == whole._replace(mirrored=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: views(10, 200, 300, 224), "an image of 200x300 is smaller than the window, 224x224"),
        (lambda: views(1, 300, 300, 224, scales=(200,)), "an image of 200x200 is smaller"),
        (lambda: views(12, 32, 32, 28), "crops=12: must be one of 1, 5, 10, 144, 150, dense"),  # pyright: ignore
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(call, message):
    with pytest.raises(UserError, match=message) as told:
        call()
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("size", [(300, 260), (260, 300), (257, 256)])
def test_photographs_are_cropped_to_the_pixel_as_in_training_tests(size):
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    picture = Image.fromarray(noise)
    (one,) = picture_windows(picture, views(1, *size, 224, scales=(256,)))
    np.testing.assert_array_equal(one, np.asarray(centre(picture, 224)))


def test_photographs_and_arrays_are_cropped_alike():
    """Pillow rounds to bytes after each resizing of a side."""
    smooth = np.linspace(0, 255, 40)[:, None] * np.linspace(0, 1, 30)
    pixels = np.repeat(smooth[..., None], 3, -1).round().astype(np.uint8)
    wanted = views(144, 40, 30, 14)
    ours = windows(jnp.asarray(pixels[None], jnp.float32), wanted)
    theirs = picture_windows(Image.fromarray(pixels), wanted)
    np.testing.assert_allclose(jnp.stack(ours)[:, 0], np.stack(theirs), atol=2)


class Linear(nn.Module):
    """Without padding and with stride 1: a window's score does not depend on what lies around it."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), padding="VALID", param_dtype=jnp.float64, name="conv")(x))
        x = at_every_place(x, 3)
        return mean_over_places(nn.Dense(2, param_dtype=jnp.float64)(x))


def test_dense_is_the_mean_over_all_crops():
    with jax.enable_x64(True):
        images = jax.random.normal(jax.random.key(0), (2, 7, 9, 3), jnp.float64)
        net = Linear()
        variables = net.init(jax.random.key(1), images[:, :5, :5])
        crops = [images[:, i : i + 5, j : j + 5] for i in range(3) for j in range(5)]
        mean = net.apply(variables, jnp.concatenate(crops)).reshape(15, 2, 2).mean(0)
        np.testing.assert_allclose(net.apply(variables, images), mean, rtol=1e-12)


def test_a_vgg_without_padding_is_dense_over_windows_32_apart():
    with jax.enable_x64(True):
        net = build("vgg11", stages=((1,),) * 5, width=1, num_classes=3, dtype=jnp.float64)
        images = jax.random.uniform(jax.random.key(0), (1, 288, 256, 3), jnp.float64)
        shapes = jax.eval_shape(lambda: net.init(jax.random.key(1), images, train=False))
        draw = np.random.default_rng(0)
        variables = jax.tree.map(lambda leaf: draw.uniform(0, 1 / leaf.shape[0], leaf.shape), shapes)
        test = jax.jit(lambda images: net.apply(variables, images, train=False))
        crops = [images[:, i : i + 224, j : j + 224] for i in (0, 32, 64) for j in (0, 32)]
        each = test(jnp.concatenate(crops))
        np.testing.assert_allclose(test(images)[0], each.mean(0), rtol=1e-11)
        assert (np.ptp(each, 0) > 1e-4).all()
