"""The order of the layers in a residual block.

He, Zhang, Ren and Sun, "Identity Mappings in Deep Residual Networks", 2016 (arXiv 1603.05027), table 2 and
figure 4. `BatchNormAfterActivation` is not in the paper.
"""

import dataclasses

import jax

from cnnjax.models.network import Template


@dataclasses.dataclass(frozen=True)
class Original:
    """Convolution, BN, ReLU, convolution, BN, addition, ReLU (He et al. 2015).

    An order says what surrounds a block's convolutions; `index` counts them from 1. `norm` and `activation`
    are templates of BN and ReLU, or of what replaces them.
    """

    norm: Template
    activation: Template

    def stem(self, y: jax.Array, index: int) -> jax.Array:
        """What comes after the stem's convolution `index`: BN and ReLU in every order."""
        return self.activation(name=f"act{index}")(self.norm(name=f"bn{index}")(y))

    def before(self, x: jax.Array, index: int | str = 1) -> jax.Array:
        """What comes before the branch and, with its own index, at the end of the network."""
        return x

    def between(self, y: jax.Array, index: int) -> jax.Array:
        """What comes between the convolution `index` and the next."""
        return self.activation(name=f"act{index}")(self.norm(name=f"bn{index}")(y))

    def last(self, y: jax.Array, index: int) -> jax.Array:
        """What comes after the last convolution, `index`, before the addition."""
        return self.norm(name=f"bn{index}")(y)

    def after(self, y: jax.Array, index: int) -> jax.Array:
        """What comes after the addition."""
        return self.activation(name=f"act{index}")(y)


class BatchNormAfterAddition(Original):
    """Convolution, BN, ReLU, convolution, addition, BN, ReLU."""

    def last(self, y: jax.Array, index: int) -> jax.Array:
        """Nothing."""
        return y

    def after(self, y: jax.Array, index: int) -> jax.Array:
        """BN and ReLU."""
        return self.between(y, index)


class BatchNormAfterActivation(Original):
    """Convolution, ReLU, BN, convolution, addition, ReLU, BN: what a layer takes is normalised."""

    def stem(self, y: jax.Array, index: int) -> jax.Array:
        """ReLU and BN."""
        return self.norm(name=f"bn{index}")(self.activation(name=f"act{index}")(y))

    def between(self, y: jax.Array, index: int) -> jax.Array:
        """ReLU and BN."""
        return self.stem(y, index)

    def last(self, y: jax.Array, index: int) -> jax.Array:
        """Nothing."""
        return y

    def after(self, y: jax.Array, index: int) -> jax.Array:
        """ReLU and BN."""
        return self.stem(y, index)


class ReluBeforeAddition(Original):
    """Convolution, BN, ReLU, convolution, BN, ReLU, addition."""

    def last(self, y: jax.Array, index: int) -> jax.Array:
        """BN and ReLU."""
        return self.between(y, index)

    def after(self, y: jax.Array, index: int) -> jax.Array:
        """Nothing."""
        return y


class ReluOnlyPreactivation(Original):
    """ReLU, convolution, BN, ReLU, convolution, BN, addition."""

    def before(self, x: jax.Array, index: int | str = 1) -> jax.Array:
        """ReLU."""
        return self.activation(name=f"act{index}")(x)

    def between(self, y: jax.Array, index: int) -> jax.Array:
        """BN and ReLU."""
        return self.activation(name=f"act{index + 1}")(self.norm(name=f"bn{index}")(y))

    def after(self, y: jax.Array, index: int) -> jax.Array:
        """Nothing."""
        return y


class FullPreactivation(Original):
    """BN, ReLU, convolution, BN, ReLU, convolution, addition: every convolution's own BN precedes it."""

    def before(self, x: jax.Array, index: int | str = 1) -> jax.Array:
        """BN and ReLU."""
        return self.activation(name=f"act{index}")(self.norm(name=f"bn{index}")(x))

    def between(self, y: jax.Array, index: int) -> jax.Array:
        """BN and ReLU."""
        return self.before(y, index + 1)

    def last(self, y: jax.Array, index: int) -> jax.Array:
        """Nothing."""
        return y

    def after(self, y: jax.Array, index: int) -> jax.Array:
        """Nothing."""
        return y


ORDERS = {
    "original": Original,
    "bn_after_addition": BatchNormAfterAddition,
    "bn_after_activation": BatchNormAfterActivation,
    "relu_before_addition": ReluBeforeAddition,
    "relu_only_preactivation": ReluOnlyPreactivation,
    "full_preactivation": FullPreactivation,
}
