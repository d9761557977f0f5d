"""Networks of other libraries train, are made anew and go on, and are told their mode."""

import os
from functools import partial

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cnnjax
from cnnjax.network import as_network

equinox = pytest.importorskip("equinox")
haiku = pytest.importorskip("haiku")
keras = pytest.importorskip("keras")

DRAW = np.random.default_rng(0)
X, Y = DRAW.normal(size=(40, 6, 3)).astype(np.float32), np.arange(40) % 4
DATA = X[:32], Y[:32], X[32:], Y[32:]
CONFIG = cnnjax.Config(
    steps=4, batch_size=8, evaluate_every=2, checkpoint_every=2, schedule="constant", learning_rate=0.01
)


class OfNNX(nnx.Module):
    """Its random streams have a name, and do not come first."""

    def __init__(self, width: int = 5, *, rngs: nnx.Rngs):
        self.hidden, self.out = nnx.Linear(3, width, rngs=rngs), nnx.Linear(width, 4, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)

    def __call__(self, x):
        return self.out(self.dropout(nnx.relu(self.hidden(x)))).mean(1)


class OfEquinox(equinox.Module):
    conv: equinox.nn.Conv1d
    norm: equinox.nn.BatchNorm
    dropout: equinox.nn.Dropout
    out: equinox.nn.Linear

    def __init__(self, key):
        first, second = jax.random.split(key)
        self.conv = equinox.nn.Conv1d(3, 5, 3, key=first)
        self.norm = equinox.nn.BatchNorm(5, "batch", mode="batch")
        self.dropout = equinox.nn.Dropout(0.2)
        self.out = equinox.nn.Linear(5, 4, key=second)

    def __call__(self, x, state, *, key=None):
        x, state = self.norm(self.conv(x.T), state)
        return self.out(self.dropout(jax.nn.relu(x).mean(1), key=key)), state


def haiku_plain(x):
    return haiku.Linear(4)(jax.nn.gelu(haiku.Conv1D(5, 3)(x)).mean(1))


def haiku_with_modes(x, is_training):
    x = haiku.BatchNorm(True, True, 0.9)(haiku.Conv1D(5, 3)(x), is_training)
    if is_training:
        x = haiku.dropout(haiku.next_rng_key(), 0.2, x)
    return haiku.Linear(4)(jax.nn.gelu(x).mean(1))


def of_keras():
    layers = keras.layers
    inputs = keras.Input((6, 3))
    x = layers.Dropout(0.2)(layers.BatchNormalization()(layers.Conv1D(5, 3, activation="gelu")(inputs)))
    x = layers.Dense(5, name="stage_7")(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, layers.Dense(4)(layers.Dense(5)(x)))


MAKE = {
    "nnx": lambda: OfNNX,
    "nnx, with options": lambda: partial(OfNNX, width=6),
    "equinox": lambda: equinox.nn.make_with_state(OfEquinox)(jax.random.key(0)),
    "haiku": lambda: haiku.transform(haiku_plain),
    "haiku, no key": lambda: haiku.without_apply_rng(haiku.transform(haiku_plain)),
    "haiku, state": lambda: haiku.transform_with_state(haiku_with_modes),
    "keras": of_keras,
}


class Killed(Exception):
    """What a run in a test dies of."""


class KillAt(cnnjax.Callback):
    def on_step(self, step, metrics):
        if step == 3:
            raise Killed


@pytest.mark.parametrize("name", MAKE)
def test_outputs_and_state_keep_their_shapes_in_both_modes(name):
    network = as_network(MAKE[name]())
    key = jax.random.key(0)
    variables = jax.eval_shape(network.init, key, X[:8])
    for train in (True, False):
        outputs, new = jax.eval_shape(
            lambda v, x, train=train: network.apply(v, x, train=train, key=key if train else None),
            variables,
            X[:8],
        )
        assert outputs.shape == (8, 4)
        assert all(jax.tree.structure(tree) == jax.tree.structure(variables[n]) for n, tree in new.items())
        assert train or not new


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKE)
def test_a_network_that_is_made_anew_goes_on_to_the_same_bits(tmp_path, name):
    initial = as_network(MAKE[name]()).init(jax.random.key(1), jnp.asarray(X[:1]))
    objects = {"data": DATA, "initial": jax.tree.map(np.asarray, initial), "probes": "layers"}
    whole = cnnjax.train(CONFIG, tmp_path / "whole", model=MAKE[name](), **objects)
    with pytest.raises(Killed):
        cnnjax.train(CONFIG, tmp_path / "run", model=MAKE[name](), **objects, callbacks=[KillAt()])
    again = cnnjax.train(CONFIG, tmp_path / "run", model=MAKE[name](), **objects)
    assert again.metrics == whole.metrics
    for one, other in zip(jax.tree.leaves(again.variables), jax.tree.leaves(whole.variables), strict=True):
        np.testing.assert_array_equal(one, other)


def test_names_that_keras_makes_are_counted_within_a_model():
    """The names that the user gives stay, though they end in a number."""
    models = [as_network(of_keras()) for _ in range(2)]
    assert models[0].source.layers[1].name != models[1].source.layers[1].name
    for network in models:
        assert set(network.own["params"]) == {"conv1d", "batch_normalization", "stage_7", "dense", "dense_1"}
        assert set(network.own["state"]) == {"batch_normalization", "seed_generator"}
