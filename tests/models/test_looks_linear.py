import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.errors import UserError
from cnnjax.models import build
from tests.counting import parameters, trace
from tests.gradients import compiled


def test_depth_and_parameters():
    params = trace(build("looks_linear14"), (32, 32, 3))["params"]
    assert len(params) == 14
    # 8 / sqrt 2 = 6, 11, 23, 45 filters; all but the first convolution see twice as many channels.
    stages = [(6, 6), (6, 11), (11, 23), (23, 45)]
    kernels = 9 * 3 * 6 + sum(9 * 2 * (a * b + 2 * b * b) for a, b in stages)
    biases = 6 + 3 * (6 + 11 + 23 + 45)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == kernels + biases + 90 * 10 + 10
    relu = build("looks_linear6", activation="relu", kernel_init="he")
    kernels = 9 * (3 * 8 + 8 * 8 + 8 * 16 + 16 * 32 + 32 * 64)
    assert parameters(relu) == kernels + (8 + 8 + 16 + 32 + 64) + 64 * 10 + 10


def at_first(model, key, images):
    """Logits with initial weights."""

    def logits(key, images):
        return model.init_with_output(key, images, train=False)[0]

    return compiled(logits, key, images)(key, images)


def test_at_first_the_net_is_linear_and_keeps_norms(key):
    model = build("looks_linear10", width=4)
    x, y = jax.random.normal(key, (2, 1, 16, 16, 3))
    together = at_first(model, key, jnp.concatenate([x, y, 3 * x - 2 * y]))
    np.testing.assert_allclose(together[2], 3 * together[0] - 2 * together[1], rtol=1e-4, atol=1e-5)
    # Strides pass every eighth pixel; pooling and the semi-orthogonal classifier then act on their mean.
    mean = np.asarray(x[0, ::8, ::8]).mean((0, 1))
    assert 0 < np.linalg.norm(together[0]) <= np.linalg.norm(mean) * (1 + 1e-5)


def test_with_other_kernels_it_is_not(key):
    model = build("looks_linear6", kernel_init="he")
    x = jax.random.normal(key, (1, 8, 8, 3))
    assert np.abs(at_first(model, key, jnp.concatenate([x, -x])).sum(0)).max() > 1e-2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build("looks_linear7"), "looks_linear6 and looks_linear10"),
        (lambda: build("looks_linear6", activation="relu"), "needs activation='crelu'"),
        (lambda: build("looks_linear6", kernel_init="none"), "looks_linear, he"),
    ],
)
def test_bad_fields_say_what_to_type(call, message):
    with pytest.raises(UserError, match=message):
        call()
