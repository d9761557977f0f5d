"""Batch normalisation with the paper's estimate of the population variance."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.errors import UserError
from cnnjax.ops.precision import wide
from cnnjax.ops.sums import moments, scale_shift


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last (Ioffe & Szegedy 2015, algorithms 1 and 2).

    A batch is normalised by its own biased variance. The running variance averages the *unbiased* one,
    m / (m - 1) times larger, as in the paper's algorithm 2, Caffe and PyTorch; `flax.linen.BatchNorm`
    averages the biased one. `momentum` is the decay of the running averages (PyTorch's 0.1 is 0.9 here).

    Under `jit` with the batch sharded over devices the statistics are those of the global batch. With a
    `group_size` so many images, in order, have statistics of their own, as on devices that do not
    communicate (Goyal et al. 2017, section 3.4, have 32); the numbers do not depend on how many devices there
    are. The running averages then average the means and the unbiased variances of the groups: they are the
    mean of the running averages that each group would have by itself.

    Where the mean is subtracted from the images it is a constant, `centre`, and what that leaves out of the
    derivatives is added for each channel. This changes no value and, as it holds for any constant, no
    derivative of any order; but a backward pass sums over the images twice in place of four times, and
    devices that share a batch exchange their sums once for each layer.

    All arithmetic is in float32, or in float64 if that is the type of the input or the result, which is cast
    to `dtype`. Parameters and running averages are float32, or float64 if `dtype` is.
    """

    use_running_average: bool
    momentum: float = 0.9
    epsilon: float = 1e-5
    group_size: int | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalise `x` [batch, ..., channel]; in training, update `batch_stats` too.

        Raises:
            UserError: in training, the batch is not a multiple of `group_size`.
        """
        channels = x.shape[-1]
        of_channels = (channels,), wide(self.dtype)
        scale = self.param("scale", nn.initializers.ones, *of_channels)
        bias = self.param("bias", nn.initializers.zeros, *of_channels)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, *of_channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, *of_channels)

        def normalized(x: jax.Array, mean: jax.Array, var: jax.Array) -> jax.Array:
            centre = jax.lax.stop_gradient(mean)
            gain = scale * jax.lax.rsqrt(var + self.epsilon)
            return scale_shift(x, centre, gain, bias - (mean - centre) * gain).astype(self.dtype)

        def normalized_batch(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            mean, var = self.moments(x)
            m = x.size // channels
            return normalized(x, mean, var), mean, var * (m / max(m - 1, 1))

        x = x.astype(jnp.promote_types(x.dtype, wide(self.dtype)))
        if self.use_running_average:
            return normalized(x, running_mean.value, running_var.value)
        if self.group_size in (None, len(x)):
            y, mean, unbiased_var = normalized_batch(x)
        else:
            check_groups(len(x), self.group_size)
            parts = jax.vmap(normalized_batch)(x.reshape(-1, self.group_size, *x.shape[1:]))
            y, mean, unbiased_var = parts[0].reshape(x.shape), parts[1].mean(0), parts[2].mean(0)
        if not self.is_initializing():
            running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
            running_var.value = self.momentum * running_var.value + (1 - self.momentum) * unbiased_var
        return y

    def moments(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and biased variance [channel] of `x` [..., channel]; a method, so that probes see them."""
        return moments(x)


def check_groups(batch_size: int, group_size: int | None) -> None:
    """Raise UserError unless a batch divides into groups of this size."""
    if group_size is not None and batch_size % group_size:
        raise UserError(
            f"a batch of {batch_size} images does not divide into groups of bn_group_size={group_size}"
        )


def no_norm(name: str) -> Callable[[jax.Array], jax.Array]:
    """A template to put in place of a norm's: it changes nothing."""
    return lambda x: x
