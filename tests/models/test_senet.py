import jax
import numpy as np

from cnnjax.models import build
from cnnjax.models.senet import SqueezeExcitation
from tests.counting import trace


def test_channels_are_scaled_by_what_their_means_say(key):
    x = np.asarray(jax.random.normal(key, (2, 3, 3, 8)))
    module = SqueezeExcitation(reduction=4)
    variables = module.init(key, x)
    reduce, expand = (variables["params"][name]["kernel"] for name in ("reduce", "expand"))
    assert reduce.shape == (8, 2)
    scale = 1 / (1 + np.exp(-np.maximum(x.mean((1, 2)) @ reduce, 0) @ expand))
    np.testing.assert_allclose(module.apply(variables, x), x * scale[:, None, None], rtol=1e-4, atol=1e-5)


def test_the_dense_layers_are_named():
    params = trace(build("se_resnet8"), (8, 8, 3))["params"]
    assert set(params["stage1_block01"]["se"]) == {"reduce", "expand"}
