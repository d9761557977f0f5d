import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnnjax.config import Config
from cnnjax.data.mixup import mix
from cnnjax.errors import UserError
from cnnjax.recipes import Objects, resolve
from cnnjax.training.task import Moment


def share_and_order(key, alpha):
    """Recovered from labels: images of one pixel that is its number show which two each is made of."""
    images = jnp.arange(64.0).reshape(64, 1, 1, 1)
    mixed, odds = mix(key, images, jnp.arange(64), classes=64, alpha=alpha)
    odds = np.asarray(odds)
    share = np.median(odds.diagonal())
    order = (odds - share * np.eye(64)).argmax(1)
    return mixed.ravel(), share, order


def test_images_and_labels_are_mixed_by_one_share_in_one_order():
    mixed, share, order = share_and_order(jax.random.key(3), 1.0)
    assert 0 < share < 1
    assert sorted(order) == list(range(64))
    assert list(order) != list(range(64))
    np.testing.assert_allclose(mixed, share * np.arange(64) + (1 - share) * order, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_are_beta_distributed(alpha):
    """Mean 1/2 and variance 1 / (4 (2 alpha + 1))."""
    keys = jax.random.split(jax.random.key(0), 2000)
    pair = jnp.array([1.0, 0.0]).reshape(
        2, 1, 1, 1
    )  # where the order changes it, the first becomes the share
    first = jax.vmap(lambda key: mix(key, pair, jnp.arange(2), 2, alpha)[0].ravel()[0])(keys)
    orders = jax.vmap(lambda key: mix(key, pair, jnp.arange(2), 2, alpha)[1][1, 1] == 1)(keys)
    shares = np.asarray(first)[~np.asarray(orders)]
    assert len(shares) > 800
    np.testing.assert_allclose(shares.mean(), 0.5, atol=0.05)
    np.testing.assert_allclose(shares.var(), 1 / (4 * (2 * alpha + 1)), rtol=0.15)


def test_a_config_mixes_its_training_batches():
    """The probabilities add up to 1, have as many classes as the network, and no test is mixed."""
    config = Config(model="lenet5_modern", data="synthetic", augment="none", mixup=1.0)
    task = resolve(config)
    images = task.normalize(task.data.train_images[:4])
    key = jax.random.key(0)
    mixed, odds = task.augment(Moment(key, key, np.int32(0)), images, np.arange(4))
    assert mixed.shape == images.shape
    assert odds.shape == (4, 10)
    np.testing.assert_allclose(odds.sum(-1), 1, rtol=1e-6)
    outputs = jnp.zeros((4, 10))
    np.testing.assert_allclose(task.loss(outputs, odds), np.log(10), rtol=1e-6)


def test_labels_that_are_no_classes_are_not_mixed():
    x, y = np.zeros((8, 4), np.float32), np.zeros((8, 2), np.float32)
    with pytest.raises(UserError, match="is for labels that are classes"):
        resolve(Config(mixup=1.0), Objects(model=nn.Dense(2), data=(x, y, x, y)))
