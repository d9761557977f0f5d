"""Ask of a network of one's own, before it is trained: will it train, and if not, why?"""

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

import cnnjax


class Deep(nn.Module):
    """Twelve dense layers: with sigmoids and Flax's initial weights, or with ReLUs and He et al.'s."""

    rectified: bool = False

    @nn.compact
    def __call__(self, x):
        """[batch, height, width, channel] to logits [batch, 10]."""
        x = x.reshape(len(x), -1)
        activation = nn.relu if self.rectified else nn.sigmoid
        weights = nn.initializers.he_normal() if self.rectified else nn.initializers.lecun_normal()
        for _ in range(12):
            x = activation(nn.Dense(64, kernel_init=weights)(x))
        return nn.Dense(10)(x)


data = cnnjax.data.load("fashion_mini").downsampled(2)
images = jnp.asarray(data.train_images[:64], jnp.float32)
batch = (images - images.mean()) / images.std(), jnp.asarray(data.train_labels[:64])

if __name__ == "__main__":
    for model in (Deep(), Deep(rectified=True)):
        variables = model.init(jax.random.key(0), batch[0][:1])
        health = cnnjax.diagnose(model, variables, batch, optax.adam(1e-3))
        print("with ReLUs:" if model.rectified else "with sigmoids:", health.verdict)
        for finding in health.findings:
            print(f"  {finding.what}\n  cause: {finding.cause}\n  cure: {finding.cure}")
    print(health)  # the whole page of the second
