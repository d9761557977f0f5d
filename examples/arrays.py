"""Train a perceptron on plain arrays: 7 numbers per example, three classes, a pair of pure functions."""

import jax
import numpy as np

import cnnjax


def init(key, inputs):
    """Weights of two layers for inputs [batch, feature]."""
    first, second = jax.random.split(key)
    hidden = jax.random.normal(first, (inputs.shape[-1], 32)) / inputs.shape[-1] ** 0.5
    return {"hidden": hidden, "out": jax.random.normal(second, (32, 3)) / 32**0.5}


def apply(params, inputs):
    """Inputs [batch, feature] to logits [batch, class]."""
    return jax.nn.tanh(inputs @ params["hidden"]) @ params["out"]


draw = np.random.default_rng(0)
x = draw.normal(size=(1000, 7)).astype(np.float32)
y = (x[:, 0] > 0).astype(int) + (x[:, 1] > x[:, 2])

CONFIG = cnnjax.Config(steps=200, batch_size=32, schedule="cosine", evaluate_every=100)
OBJECTS = {"model": (init, apply), "data": (x[:800], y[:800], x[800:], y[800:])}

if __name__ == "__main__":
    print(cnnjax.train(CONFIG, "runs/arrays", **OBJECTS))
