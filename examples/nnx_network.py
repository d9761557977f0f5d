"""Train a Flax NNX network, with BatchNorm and dropout: give a function that makes it from `rngs`."""

from flax import nnx

import cnnjax


class Net(nnx.Module):
    """A convolution, BatchNorm, dropout and a classifier."""

    def __init__(self, width: int = 16, *, rngs: nnx.Rngs):
        self.conv = nnx.Conv(1, width, (3, 3), strides=2, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.classifier = nnx.Linear(width, 10, rngs=rngs)

    def __call__(self, x):
        """Images [batch, height, width, channel] to logits [batch, class]."""
        x = nnx.relu(self.norm(self.conv(x))).mean((1, 2))
        return self.classifier(self.dropout(x))


CONFIG = cnnjax.Config(data="fashion_mini", steps=200, schedule="cosine", evaluate_every=100)
OBJECTS = {"model": lambda rngs: Net(rngs=rngs)}

if __name__ == "__main__":
    print(cnnjax.train(CONFIG, "runs/nnx_network", **OBJECTS))
