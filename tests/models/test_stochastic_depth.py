import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.models import build
from tests.counting import parameters, trace


def test_the_papers_net():
    model = build("resnet110_stochastic_depth")
    assert parameters(build("resnet20_stochastic_depth", use_bias=False)) == 269_722
    deeper = build("resnet1202_stochastic_depth")  # of fb.resnet.torch
    assert (deeper.shortcut, deeper.use_bias, deeper.survival) == ("A", False, 0.5)
    assert sum(model.each(0, 54)["survives"]) == pytest.approx((3 * 54 - 1) / 4)  # section 4: 40.25 blocks
    assert model.each(36, 18)["survives"][-1] == 0.5


@pytest.mark.parametrize("fields", [{"loop": "unrolled"}, {"loop": "scan", "remat": True}])
def test_branches_are_there_or_not_with_their_probabilities(fields):
    """Each branch adds 1, so the logits are how many there are; images are 0."""
    model = build("resnet8", stage_sizes=(2, 3), width=1, norm="none", survival=0.5, num_classes=1, **fields)
    images = jnp.zeros((1, 4, 4, 3))

    def value(path, leaf):
        names = [part.key for part in path]
        if names[-2:] == ["conv2", "bias"]:
            return jnp.ones(leaf.shape)
        picked = jnp.zeros(leaf.shape)
        return picked.at[0, 0].set(1) if names[-2:] == ["classifier", "kernel"] else picked

    variables = jax.tree_util.tree_map_with_path(value, trace(model, (4, 4, 3)))
    assert model.apply(variables, images, train=False).item() == pytest.approx(0.9 + 0.8 + 0.7 + 0.6 + 0.5)

    @jax.jit
    @jax.vmap
    def there(key):
        return model.apply(variables, images, train=True, rngs={"dropout": key})[0, 0]

    counts = np.asarray(there(jax.random.split(jax.random.key(0), 1000)))
    assert set(counts) == {0, 1, 2, 3, 4, 5} or set(counts) == {1, 2, 3, 4, 5}
    deviation = np.sqrt(sum(p * (1 - p) for p in (0.9, 0.8, 0.7, 0.6, 0.5)))
    assert abs(counts.mean() - 3.5) < 4 * deviation / np.sqrt(1000)
    assert abs(counts.std() / deviation - 1) < 0.15
