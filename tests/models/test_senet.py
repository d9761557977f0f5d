import jax
import numpy as np
import pytest

from cnnjax.counting import summary
from cnnjax.models.senet import SqueezeExcitation


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("se_resnet18", 11_778_592), ("se_resnet34", 21_958_868), ("se_resnet50", 28_088_024),
        ("se_resnet101", 49_326_872), ("se_resnet152", 66_821_848), ("se_resnet200", 71_835_864),
        ("se_resnext50_32x4d", 27_559_896), ("se_resnext101_32x4d", 48_955_416),
        ("senet154", 115_088_984),
    ],
)  # fmt: skip
def test_parameters(name, expected):
    assert summary(name).parameters == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("se_resnet18", 1_814_160_384),
        ("se_resnet50", 3_860_488_192),
        ("se_resnext50_32x4d", 4_232_994_816),
        ("senet154", 20_688_363_520),
    ],
)
def test_multiply_adds_tell_where_strides_are(name, expected):
    assert summary(name).macs == expected


def test_channels_are_scaled_by_what_their_means_say(key):
    x = np.asarray(jax.random.normal(key, (2, 3, 3, 8)))
    module = SqueezeExcitation(reduction=4)
    variables = module.init(key, x)
    reduce, expand = (variables["params"][name]["kernel"] for name in ("reduce", "expand"))
    assert reduce.shape == (8, 2)
    scale = 1 / (1 + np.exp(-np.maximum(x.mean((1, 2)) @ reduce, 0) @ expand))
    np.testing.assert_allclose(module.apply(variables, x), x * scale[:, None, None], rtol=1e-4, atol=1e-5)
