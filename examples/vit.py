"""Train a vision transformer of 6 blocks (Dosovitskiy et al. 2020): AdamW, warm-up, cosine, clipping."""

import jax.numpy as jnp
from flax import linen as nn

import cnnjax


class Block(nn.Module):
    """Attention and a perceptron, each with LayerNorm before it and a shortcut around it."""

    heads: int

    @nn.compact
    def __call__(self, x):
        """Tokens [batch, token, channel] to tokens of the same shape."""
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(self.heads)(y, y)
        y = nn.gelu(nn.Dense(4 * x.shape[-1])(nn.LayerNorm()(x)))
        return x + nn.Dense(x.shape[-1])(y)


class ViT(nn.Module):
    """Patches of 7x7 as tokens, learnt positions, 6 blocks, and the mean of all tokens."""

    width: int = 32
    blocks: int = 6
    heads: int = 4

    @nn.compact
    def __call__(self, x):
        """Images [batch, 28, 28, channel] to logits [batch, class]."""
        x = nn.Conv(self.width, (7, 7), strides=7, padding="VALID", name="patches")(x)
        x = x.reshape(len(x), -1, self.width)
        x = x + self.param("positions", nn.initializers.normal(0.02), (1, *x.shape[1:]), jnp.float32)
        for block in range(self.blocks):
            x = Block(self.heads, name=f"block{block}")(x)
        return nn.Dense(10, name="classifier")(nn.LayerNorm()(x).mean(1))


CONFIG = cnnjax.Config(
    data="fashion_mini",
    augment="none",
    steps=200,
    optimizer="adamw",
    learning_rate=1e-3,
    weight_decay=0.05,
    decay="kernels",
    schedule="warmup_cosine",
    warmup_steps=20,
    clip_norm=1.0,
    evaluate_every=100,
)
OBJECTS = {"model": ViT()}

if __name__ == "__main__":
    print(cnnjax.train(CONFIG, "runs/vit", **OBJECTS))
