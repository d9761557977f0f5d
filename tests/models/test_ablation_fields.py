"""Fields that undo a part of a paper's network: what is left is counted by hand."""

import pytest

from cnnjax.counting import summary
from cnnjax.errors import UserError
from cnnjax.models import build


def test_alexnet_on_one_gpu():
    """Section 3.2, footnote 2: half the kernels, but for the fifth convolution and what follows."""
    layers = [(11, 3, 48), (5, 48, 128), (3, 128, 192), (3, 192, 192), (3, 192, 256)]
    convolutions = sum(size * size * inputs * filters + filters for size, inputs, filters in layers)
    dense = sum(inputs * units + units for inputs, units in [(9216, 4096), (4096, 4096), (4096, 1000)])
    assert summary("alexnet", groups=1, width=48, tail_width=96).parameters == convolutions + dense


@pytest.mark.parametrize(
    ("left_out", "fewer"),
    [
        # The next convolution's inputs change, too: 256 / 2 for 384 / 2 in the fourth, and so on.
        ((3,), 9 * 256 * 384 + 384 + 9 * (192 - 128) * 384),
        ((4,), 9 * 192 * 384 + 384),
        ((3, 4), 9 * 256 * 384 + 384 + 9 * 192 * 384 + 384 + 9 * (192 - 128) * 256),
    ],
)
def test_alexnet_without_a_convolution(left_out, fewer):
    assert 60_965_224 - summary("alexnet", left_out=left_out).parameters == fewer


def test_vgg_with_fewer_stages_fits_smaller_images():
    assert build("vgg16", stages=((3,), (3,))).input_shape == (28, 28, 3)
    assert build("vgg16", stages=((3,), (3,)), head="cifar").input_shape == (4, 4, 3)
    assert build("vgg16").input_shape == (224, 224, 3)
    with pytest.raises(UserError, match="27x27 with head='imagenet' and 2 stages"):
        summary("vgg16", (27, 27, 1), stages=((3,), (3,)))


def test_inceptions_whole_convolutions():
    """A factorised pair has a BatchNorm more: a scale and a bias for each inner filter."""
    factorised = summary("inception_v3", aux_heads=False).parameters
    whole = {
        name: summary("inception_v3", aux_heads=False, whole=(name,)).parameters for name in ("5x5", "7x7")
    }
    pair = 9 * 64 * 96 + 9 * 96 * 96 + 2 * 96
    assert whole["5x5"] - factorised == 3 * (25 * 64 * 96 - pair)

    def gain(c: int) -> int:
        one = 49 * c * 192 - (7 * c * c + 7 * c * 192 + 2 * c)
        two = 49 * c * c + 49 * c * 192 - (3 * 7 * c * c + 7 * c * 192 + 4 * c)
        return one + two

    reduction = 49 * 192 * 192 - (2 * 7 * 192 * 192 + 2 * 192)
    assert whole["7x7"] - factorised == sum(map(gain, (128, 160, 160, 192))) + reduction


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("alexnet", {"left_out": (1,)}, "must be of the convolutions 2, 3, 4 and 5"),
        ("alexnet", {"stem": "tiny"}, "must be one of imagenet, small"),
        ("inception_v3", {"whole": ("3x3",)}, "must be of 5x5, 7x7"),
    ],
)
def test_impossible_fields(name, fields, message):
    with pytest.raises(UserError, match=message):
        build(name, **fields)
