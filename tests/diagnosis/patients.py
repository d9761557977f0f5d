"""Small networks with one planted fault each, and healthy ones."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

import cnnjax

CLASSES = 10


class Net(nn.Module):
    """A plain convolutional net with every part that the faults need.

    Attributes:
        norm: after each convolution but the first.
        bias: of the convolutions.
        activation: after each.
        head: what is done to the logits.
        between: what is done to the stream after the third convolution.
    """

    depth: int = 5
    width: int = 8
    norm: bool = True
    bias: bool = False
    activation: Callable[[Any], Any] = nn.relu
    head: Callable[[Any], Any] = lambda logits: logits
    between: Callable[[Any], Any] = lambda x: x
    dtype: Any = jnp.float32
    weights: Any = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x, train: bool):
        for number in range(self.depth):
            x = nn.Conv(self.width, (3, 3), (1 + number % 2,) * 2, use_bias=self.bias, dtype=self.dtype,
                        kernel_init=self.weights, name=f"conv{number}")(x)  # fmt: skip
            if self.norm:
                x = nn.BatchNorm(not train, momentum=0.9, dtype=self.dtype, name=f"norm{number}")(x)
            x = self.activation(x)
            if number == 2:
                x = self.between(x)
        return self.head(nn.Dense(CLASSES, dtype=self.dtype, name="head")(x.mean((1, 2))))


class MLP(nn.Module):
    """Dense layers without a normalisation."""

    depth: int = 5
    activation: Callable[[Any], Any] = nn.relu
    dtype: Any = jnp.float32
    scale: float = 1.0

    @nn.compact
    def __call__(self, x):
        x = x.reshape(len(x), -1)
        for number in range(self.depth):
            x = self.activation(
                nn.Dense(
                    64, kernel_init=nn.initializers.he_normal(), dtype=self.dtype, name=f"dense{number}"
                )(x)
            )
        return nn.Dense(CLASSES, dtype=self.dtype, name="head")(x) * self.scale


@functools.cache
def batch(samples: int = 32) -> tuple[jax.Array, jax.Array]:
    """Normalised images [sample, 14, 14, 1] and labels."""
    data = cnnjax.data.load("fashion_mini").downsampled(2)
    images = jnp.asarray(data.train_images[:samples], jnp.float32)
    return (images - images.mean()) / images.std(), jnp.asarray(data.train_labels[:samples])


def changed(variables: Any, name: str, change: Callable[[jax.Array], jax.Array], leaf: str = "kernel") -> Any:
    """The variables with one parameter changed."""
    params = {**variables["params"]}
    params[name] = {**params[name], leaf: change(params[name][leaf])}
    return {**variables, "params": params}


def times(variables: Any, factor: float) -> Any:
    """With all weights of more than one axis multiplied."""
    params = jax.tree.map(lambda leaf: leaf * factor if leaf.ndim > 1 else leaf, variables["params"])
    return {**variables, "params": params}


def diagnosed(
    model: Any, change: Callable[[Any], Any] = lambda v: v, data: Any = None, **options: Any
) -> Any:
    """The diagnosis of a network with changed variables."""
    data = batch() if data is None else data
    arguments = {"train": False} if isinstance(model, Net) else {}
    variables = change(model.init(jax.random.key(0), data[0], **arguments))
    return cnnjax.diagnose(model, variables, data, **options)


def _shifted() -> Any:
    images, labels = batch()
    return images, labels + 1


def _raw() -> Any:
    images, labels = batch()
    return 127 + 64 * images, labels


SICK: dict[str, tuple[Callable[[], Any], str, tuple[str, ...]]] = {
    "sigmoid": (
        lambda: diagnosed(Net(12, norm=False, activation=nn.sigmoid, weights=nn.initializers.lecun_normal())),
        "vanish", ("conv0",),
    ),
    "large weights": (lambda: diagnosed(MLP(), lambda v: times(v, 10)), "too large", ("dense0", "dense4")),
    "one large weight": (
        lambda: diagnosed(Net(), lambda v: changed(v, "conv2", lambda w: 10 * w)), "too large", ("conv2",),
    ),
    "small weights": (lambda: diagnosed(MLP(), lambda v: times(v, 0.1)), "too small", ("dense0", "dense4")),
    "one small weight": (
        lambda: diagnosed(MLP(), lambda v: changed(v, "dense2", lambda w: w / 10)), "too small", ("dense2",),
    ),
    "dead": (
        lambda: diagnosed(MLP(), lambda v: changed(v, "dense2", lambda b: b - 100, "bias")),
        "dead", ("dense2",),
    ),
    "cut off": (
        lambda: diagnosed(Net(between=jax.lax.stop_gradient)), "no gradient", ("conv2",),
    ),
    "softmax": (lambda: diagnosed(Net(head=nn.softmax)), "probabilities", ("outputs",)),
    "bias": (lambda: diagnosed(Net(bias=True)), "bias", ("conv0", "conv4")),
    "mixing": (lambda: diagnosed(Net(between=lambda x: x - x.mean(0))), "other samples", ("outputs",)),
    "labels": (lambda: diagnosed(Net(), data=_shifted()), "labels go from", ("labels",)),
    "rate": (
        lambda: diagnosed(Net(), optimizer=optax.sgd(10.0, momentum=0.9)),
        "times their own size", ("optimizer",),
    ),
    "inputs": (lambda: diagnosed(Net(), data=_raw()), "inputs have mean", ("inputs",)),
    "float16": (
        lambda: diagnosed(MLP(dtype=jnp.float16, scale=1e-6)), "underflow in float16", ("dense0",),
    ),
}  # fmt: skip
"""Diagnosis, words of the finding that it must have, and layers that this must name."""

HEALTHY: dict[str, Callable[[], Any]] = {
    "plain": lambda: diagnosed(Net()),
    "MLP": lambda: diagnosed(MLP(), optimizer=optax.adam(1e-3)),
    "ResNet": lambda: registered("resnet20", width=8),
    "pre-activation": lambda: registered("preresnet20", width=8),
    "tanh": lambda: diagnosed(Net(activation=jnp.tanh, weights=nn.initializers.glorot_normal())),
    "highway": lambda: registered("highway10", rate=0.01),
}


def registered(name: str, rate: float = 0.05, **options: Any) -> Any:
    """The diagnosis of a network of ours."""
    model = cnnjax.build(name, **options)
    variables = model.init(jax.random.key(0), batch()[0], train=False)
    return cnnjax.diagnose(model, variables, batch(), optax.sgd(rate, momentum=0.9))
