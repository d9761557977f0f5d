"""Batch normalisation with the paper's estimate of the population variance."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last (Ioffe & Szegedy 2015, algorithms 1 and 2).

    A batch is normalised by its own biased variance. The running variance averages the *unbiased* one,
    m / (m - 1) times larger, as in the paper's algorithm 2, Caffe and PyTorch; `flax.linen.BatchNorm`
    averages the biased one. `momentum` is the decay of the running averages (PyTorch's 0.1 is 0.9 here).

    Under `jit` with the batch sharded over devices the statistics are those of the global batch.
    Statistics are computed in float32, or float64 for such an input, whatever the `dtype` of the result.
    """

    use_running_average: bool
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalise `x` [..., channel]; in training, update `batch_stats` too."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,))

        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if self.use_running_average:
            mean, var = running_mean.value, running_var.value
        else:
            axes = tuple(range(x.ndim - 1))
            mean = x.mean(axes)
            var = jnp.square(x - mean).mean(axes)
            if not self.is_initializing():
                m = x.size // channels
                unbiased_var = var * (m / max(m - 1, 1))
                running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
                running_var.value = self.momentum * running_var.value + (1 - self.momentum) * unbiased_var

        y = (x - mean) * (scale * jax.lax.rsqrt(var + self.epsilon)) + bias
        return y.astype(self.dtype)
