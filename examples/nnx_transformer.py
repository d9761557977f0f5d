"""Measure an NNX transformer: its layers, those of attention among them, and its residual streams."""

import jax.numpy as jnp
from flax import nnx

import cnnjax


class Block(nnx.Module):
    """Attention and a perceptron, each after LayerNorm and added to the stream."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.norm1, self.norm2 = nnx.LayerNorm(width, rngs=rngs), nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(4, width, decode=False, rngs=rngs)
        self.expand, self.reduce = (
            nnx.Linear(width, 4 * width, rngs=rngs),
            nnx.Linear(4 * width, width, rngs=rngs),
        )

    def __call__(self, x):
        """[batch, token, feature] to the same."""
        x = x + self.attention(self.norm1(x))
        return x + self.reduce(nnx.gelu(self.expand(self.norm2(x))))


class Transformer(nnx.Module):
    """Rows of an image are the tokens."""

    def __init__(self, depth: int = 4, width: int = 32, *, rngs: nnx.Rngs):
        self.embed = nnx.Linear(14, width, rngs=rngs)
        self.blocks = nnx.List([Block(width, rngs) for _ in range(depth)])
        self.head = nnx.Linear(width, 10, rngs=rngs)

    def __call__(self, x):
        """Images [batch, height, width, 1] to logits [batch, class]."""
        x = self.embed(x[..., 0])
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


data = cnnjax.data.load("fashion_mini").downsampled(2)
batch = jnp.asarray(data.train_images[:32], jnp.float32) / 255, jnp.asarray(data.train_labels[:32])

if __name__ == "__main__":
    found = cnnjax.probes.layer_statistics(Transformer(rngs=nnx.Rngs(0)), None, batch)
    for name, norm in zip(found.layers, found.activation_gradient_norm, strict=True):
        print(f"{name:28} gradient {norm:.2e}")
    for name, branch, stream in zip(found.blocks, found.branch_rms, found.stream_rms, strict=True):
        print(f"{name:28} branch {branch:.2f}, stream {stream:.2f}")
