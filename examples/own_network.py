"""Train your own Flax Linen network, with LayerNorm instead of BatchNorm."""

from flax import linen as nn

import cnnjax


class Net(nn.Module):
    """Convolutions of 3x3, each with LayerNorm and GELU; the first halves the resolution."""

    width: int = 16
    depth: int = 3
    num_classes: int = 10

    @nn.compact
    def __call__(self, x):
        """Images [batch, height, width, channel] to logits [batch, class]."""
        for layer in range(self.depth):
            x = nn.Conv(self.width, (3, 3), strides=1 if layer else 2)(x)
            x = nn.gelu(nn.LayerNorm()(x))
        return nn.Dense(self.num_classes)(x.mean((1, 2)))


CONFIG = cnnjax.Config(
    data="fashion_mini",
    steps=200,
    optimizer="adam",
    learning_rate=3e-3,
    schedule="cosine",
    evaluate_every=100,
)
OBJECTS = {"model": Net()}

if __name__ == "__main__":
    print(cnnjax.train(CONFIG, "runs/own_network", **OBJECTS))
