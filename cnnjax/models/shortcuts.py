"""How a residual block joins its input and its branch.

He, Zhang, Ren and Sun 2015 (arXiv 1512.03385), section 4.1, have these options: with A a shortcut has no
weights, but subsamples in space and pads the channels with zeros; with B it is a 1x1 convolution where the
shape changes; with C it always is one. A plain net has no shortcuts.

He, Zhang, Ren and Sun 2016 (arXiv 1603.05027), section 3 and table 1, try others in all blocks of ResNet-110:
scaling, gating, dropout, and a 1x1 convolution, which is C. Where the shape changes these act on option A's
shortcut. The gates are g = sigmoid(W x + b), W a 1x1 convolution with as many outputs as the branch has.

With any shortcut, stochastic depth (Huang et al. 2016, arXiv 1603.09382) multiplies the branch by 0 or 1 in
training, drawn once a batch for each block, and by the probability of 1 at test time.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.models.network import Template
from cnnjax.ops import marks
from cnnjax.ops.pooling import average_pool

Paths = tuple[jax.Array, jax.Array]


class Shortcut(nn.Module):
    """What all shortcuts share.

    Attributes:
        conv: template of a convolution.
        norm: template of a normalisation.
        train: whether the network is in training mode.
        survives: probability that the branch survives in training; None turns stochastic depth off.
    """

    conv: Template
    norm: Template
    train: bool
    survives: Any = None

    @classmethod
    def fields_from(cls, network: Any) -> dict[str, Any]:
        """Return the fields that this shortcut takes from its network, besides those of all shortcuts."""
        return {}

    @nn.compact
    def __call__(self, x: jax.Array, branch: jax.Array) -> jax.Array:
        """Join the block's input `x` and its `branch`, both [batch, height, width, channel]."""
        if self.survives is not None:
            factor = self.survives
            if self.train:
                factor = jax.random.bernoulli(self.make_rng("dropout"), factor)
            branch = branch * jnp.asarray(factor, branch.dtype)
        stream, branch = marks.join(*self.paths(x, branch), block_input=x)
        return branch + stream

    def paths(self, x: jax.Array, branch: jax.Array) -> Paths:
        """Return the two summands, the shortcut of `x` and the branch."""
        raise NotImplementedError


class NoShortcut(Shortcut):
    """A plain net: the branch alone."""

    def paths(self, x: jax.Array, branch: jax.Array) -> Paths:
        """Nothing, branch."""
        return jnp.zeros((), branch.dtype), branch


class ZeroPad(Shortcut):
    """Option A: the identity, or where the shape changes every other pixel, with zeros as new channels."""

    def paths(self, x: jax.Array, branch: jax.Array) -> Paths:
        """x, branch."""
        return self.fit(x, branch), branch

    def fit(self, x: jax.Array, branch: jax.Array) -> jax.Array:
        """`x` in the shape of `branch`."""
        strides = _strides(x, branch)
        x = x[:, ::strides, ::strides]
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, branch.shape[-1] - x.shape[-1])))


class ZeroPadPooled(ZeroPad):
    """Option A with 2x2 average pooling instead of every other pixel (Huang et al.'s code)."""

    def fit(self, x: jax.Array, branch: jax.Array) -> jax.Array:
        """`x` in the shape of `branch`."""
        strides = _strides(x, branch)
        return super().fit(average_pool(x, strides, strides, ceil=True), branch)


class Projection(Shortcut):
    """Option C: always a 1x1 convolution and its BatchNorm."""

    strided_size: ClassVar[int] = 1  # of the kernel where there is a stride

    def paths(self, x: jax.Array, branch: jax.Array) -> Paths:
        """W x, branch."""
        return self.project(x, branch), branch

    def project(self, x: jax.Array, branch: jax.Array) -> jax.Array:
        """`x` in the shape of `branch`."""
        strides = _strides(x, branch)
        size = self.strided_size if strides > 1 else 1
        x = self.conv(branch.shape[-1], (size, size), strides, padding=size // 2, name="conv")(x)
        return self.norm(name="bn")(x)


class ProjectionWhereNeeded(Projection):
    """Option B: the identity, or where the shape changes a 1x1 convolution and its BatchNorm."""

    def paths(self, x: jax.Array, branch: jax.Array) -> Paths:
        """x or W x, branch."""
        return x if x.shape == branch.shape else self.project(x, branch), branch


class BareProjectionWhereNeeded(ProjectionWhereNeeded):
    """Option B without BatchNorm, as pre-activation nets have it."""

    def project(self, x: jax.Array, branch: jax.Array) -> jax.Array:
        """`x` in the shape of `branch`."""
        return self.conv(branch.shape[-1], (1, 1), _strides(x, branch), padding=0, name="conv")(x)


class ConstantScaling(ZeroPad):
    """Both paths scaled: in table 1 by 0 and 1 (a plain net), 0.5 and 1, 0.5 and 0.5."""

    shortcut_scale: float = 0.5
    branch_scale: float = 1.0

    @classmethod
    def fields_from(cls, network: Any) -> dict[str, Any]:
        """Both factors."""
        return {"shortcut_scale": network.shortcut_scale, "branch_scale": network.branch_scale}

    def paths(self, x: jax.Array, branch: jax.Array) -> Paths:
        """shortcut_scale * x, branch_scale * branch."""
        return self.shortcut_scale * self.fit(x, branch), self.branch_scale * branch


class ShortcutOnlyGating(ZeroPad):
    """The shortcut is gated, the branch is not."""

    gate_bias: float = -6.0

    @classmethod
    def fields_from(cls, network: Any) -> dict[str, Any]:
        """The gate's initial bias."""
        return {"gate_bias": network.gate_bias}

    def paths(self, x: jax.Array, branch: jax.Array) -> Paths:
        """(1 - g(x)) x, branch."""
        return (1 - self.gate(x, branch)) * self.fit(x, branch), branch

    def gate(self, x: jax.Array, branch: jax.Array) -> jax.Array:
        """g(x), in the shape of `branch`."""
        gate = self.conv(
            branch.shape[-1],
            (1, 1),
            _strides(x, branch),
            padding=0,
            use_bias=True,
            bias_init=nn.initializers.constant(self.gate_bias),
            name="gate",
        )
        return nn.sigmoid(gate(x))


class ExclusiveGating(ShortcutOnlyGating):
    """The gate gives to one path what it takes from the other, as in highway networks."""

    def paths(self, x: jax.Array, branch: jax.Array) -> Paths:
        """(1 - g(x)) x, g(x) branch."""
        gate = self.gate(x, branch)
        return (1 - gate) * self.fit(x, branch), gate * branch


class DropoutShortcut(ZeroPad):
    """Dropout on the shortcut."""

    shortcut_dropout: float = 0.5

    @classmethod
    def fields_from(cls, network: Any) -> dict[str, Any]:
        """The rate."""
        return {"shortcut_dropout": network.shortcut_dropout}

    def paths(self, x: jax.Array, branch: jax.Array) -> Paths:
        """dropout(x), branch."""
        dropout = nn.Dropout(self.shortcut_dropout, deterministic=not self.train, name="dropout")
        return dropout(self.fit(x, branch)), branch


def _strides(x: jax.Array, branch: jax.Array) -> int:
    return -(-x.shape[1] // branch.shape[1])


SHORTCUTS = {
    "none": NoShortcut,
    "A": ZeroPad,
    "A_pooled": ZeroPadPooled,
    "B": ProjectionWhereNeeded,
    "B_without_bn": BareProjectionWhereNeeded,
    "C": Projection,
    "constant_scaling": ConstantScaling,
    "exclusive_gating": ExclusiveGating,
    "shortcut_only_gating": ShortcutOnlyGating,
    "dropout": DropoutShortcut,
}
