import jax
import numpy as np

from cnnjax.models.senet import SqueezeExcitation


def test_channels_are_scaled_by_what_their_means_say(key):
    x = np.asarray(jax.random.normal(key, (2, 3, 3, 8)))
    module = SqueezeExcitation(reduction=4)
    variables = module.init(key, x)
    reduce, expand = (variables["params"][name]["kernel"] for name in ("reduce", "expand"))
    assert reduce.shape == (8, 2)
    scale = 1 / (1 + np.exp(-np.maximum(x.mean((1, 2)) @ reduce, 0) @ expand))
    np.testing.assert_allclose(module.apply(variables, x), x * scale[:, None, None], rtol=1e-4, atol=1e-5)
