"""The networks of the study: families that differ in kind, and in each the depth, activation and weights."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from cnnjax.models import build

Activation = Callable[[jax.Array], jax.Array]
ACTIVATIONS: dict[str, Activation] = {"relu": nn.relu, "tanh": jnp.tanh, "sigmoid": nn.sigmoid}
INITS = {"he": nn.initializers.he_normal(), "lecun": nn.initializers.lecun_normal()}


class MLP(nn.Module):
    """Dense layers of equal width, plain or each with a shortcut, and perhaps LayerNorm before each."""

    depth: int
    activation: str = "relu"
    weights: str = "he"
    norm: bool = False
    residual: bool = False
    width: int = 64

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] to logits [batch, 10]."""
        x = nn.Dense(self.width, kernel_init=INITS[self.weights])(x.reshape(len(x), -1))
        for _ in range(self.depth - 1):
            y = nn.LayerNorm()(x) if self.norm else x
            y = nn.Dense(self.width, kernel_init=INITS[self.weights])(ACTIVATIONS[self.activation](y))
            x = x + y if self.residual else y
        return nn.Dense(10)(ACTIVATIONS[self.activation](x))


class ViT(nn.Module):
    """Patches, positions and blocks of attention (Dosovitskiy et al. 2020), LayerNorm before or after."""

    depth: int
    norm_first: bool = True
    width: int = 32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] to logits [batch, 10]."""
        x = nn.Conv(self.width, (4, 4), (4, 4), name="patches")(x).reshape(len(x), -1, self.width)
        x = x + self.param("positions", nn.initializers.normal(0.02), (1, *x.shape[1:]))
        for _ in range(self.depth):
            for branch in (nn.MultiHeadDotProductAttention(2), self.mlp):
                x = x + branch(nn.LayerNorm()(x)) if self.norm_first else nn.LayerNorm()(x + branch(x))
        return nn.Dense(10, name="head")(x.mean(1))

    def mlp(self, x: jax.Array) -> jax.Array:
        """[..., width] to the same."""
        return nn.Dense(self.width)(nn.gelu(nn.Dense(4 * self.width)(x)))


@dataclasses.dataclass(frozen=True)
class Patient:
    """One architecture, and the learning rates and weights that it is tried with.

    Attributes:
        family: those that are held out together.
        name: of the architecture; the family's own.
        make: builds it.
        gains: factors of all initial weights but biases, normalisations and positions.
        rates: learning rates.
        optimizer: from a rate to the optimizer.
    """

    family: str
    name: str
    make: Callable[[], nn.Module]
    gains: tuple[float, ...] = (1.0,)
    rates: tuple[float, ...] = (0.003, 0.03, 0.3)
    optimizer: str = "momentum"


OPTIMIZERS: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    "adam": lambda rate: optax.adam(rate),
}
CONVOLUTIONAL = (("relu", "he"), ("relu", "glorot"), ("tanh", "glorot"), ("sigmoid", "glorot"))
DENSE = (("relu", "he"), ("relu", "lecun"), ("tanh", "lecun"), ("sigmoid", "lecun"))
ADAM: Mapping[str, Any] = {"optimizer": "adam", "rates": (0.0001, 0.002, 0.04)}


def patients(depths: tuple[int, ...], width: int) -> list[Patient]:
    """All architectures; `depths` are those of the convolutional families, each 6n + 2."""

    def conv(family: str, template: str, depth: int, label: str = "", **options: Any) -> Patient:
        name = template.format(depth)
        options = {"width": width, "loop": "scan", **options}
        gains = (1.0, 0.5, 2.0) if options.get("norm") == "none" and depth == depths[0] else (1.0,)
        return Patient(family, f"{name}{label}", functools.partial(build, name, **options), gains)

    def dense(family: str, depth: int, **options: Any) -> Patient:
        label = "".join(f", {value}" for value in options.values() if isinstance(value, str))
        gains = (1.0, 0.3, 3.0) if family == "MLP" and depth == 10 else (1.0,)
        return Patient(family, f"{depth} layers{label}", functools.partial(MLP, depth, **options), gains)

    found = []
    for depth in depths:
        found += [
            conv("plain", "plain{}", depth),
            conv("residual", "resnet{}", depth),
            conv("pre-activation", "preresnet{}", depth),
        ]
    for depth in depths[:2]:
        found += [
            conv("plain", "plain{}", depth, ", tanh", activation="tanh"),
            conv("plain", "plain{}", depth, ", sigmoid", activation="sigmoid"),
            conv("residual, no norm", "resnet{}", depth, norm="none"),
        ]
        for activation, init in CONVOLUTIONAL if depth == depths[0] else CONVOLUTIONAL[::3]:
            label, options = f", {activation}, {init}", {"activation": activation, "kernel_init": init}
            found.append(conv("plain, no norm", "plain{}", depth, label, norm="none", **options))
    for depth in (10, 20, 50):
        found.append(Patient("highway", f"highway{depth}", functools.partial(build, f"highway{depth}")))
        if depth < 50:
            found.append(
                Patient("highway", f"plain{depth}", functools.partial(build, f"highway_plain{depth}"))
            )
    for depth in (3, 10, 30):
        for activation, weights in DENSE if depth > 3 else DENSE[::3]:
            found.append(dense("MLP", depth, activation=activation, weights=weights))
        found.append(dense("MLP, LayerNorm", depth, norm=True))
        found.append(dense("residual MLP", depth, residual=True, norm=depth == 30))
    for depth in (1, 3, 6):
        found.append(Patient("ViT", f"{depth} blocks", functools.partial(ViT, depth), **ADAM))
    found.append(Patient("ViT", "6 blocks, norm last", functools.partial(ViT, 6, norm_first=False), **ADAM))
    return found


def scaled(params: Any, gain: float) -> Any:
    """All weights times `gain`, but those of one axis."""
    return jax.tree.map(lambda leaf: leaf * gain if leaf.ndim > 1 else leaf, params)
