import jax
import jax.numpy as jnp
import pytest

from cnnjax.errors import UserError
from cnnjax.models.shattered import ConvNet
from tests.counting import parameters


@pytest.mark.parametrize(("net", "depth"), [("feedforward", 3), ("residual", 4)])
def test_counts(net, depth):
    norms = (depth + 1) * 2 * 4
    assert parameters(ConvNet(net, depth, width=4)) == 9 * 3 * 4 + depth * 9 * 4 * 4 + norms + 4 * 10 + 10


def test_beta_0_leaves_the_stem_alone(key):
    x = jax.random.normal(key, (2, 6, 6, 3))
    deep, shallow = ConvNet("residual", 2, 4, beta=0.0), ConvNet("feedforward", 0, 4)
    variables = deep.init(key, x, train=False)
    params = {name: variables["params"][name] for name in ("conv1", "bn_last", "classifier")}
    stats = {"bn_last": variables["batch_stats"]["bn_last"]}
    expected = shallow.apply({"params": params, "batch_stats": stats}, x, train=False)
    assert jnp.array_equal(deep.apply(variables, x, train=False), expected)


@pytest.mark.parametrize(("net", "depth"), [("residual", 3), ("feedforward", -1), ("plain", 2)])
def test_wrong_fields(net, depth):
    with pytest.raises(UserError):
        ConvNet(net, depth)
