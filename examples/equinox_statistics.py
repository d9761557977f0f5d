"""Measure an Equinox network as it is: what goes forward and what comes back, layer by layer."""

import equinox as eqx
import jax
import jax.numpy as jnp

import cnnjax

data = cnnjax.data.load("fashion_mini").downsampled(2)
images = jnp.asarray(data.train_images[:64], jnp.float32).reshape(64, -1) / 255
batch = images, jnp.asarray(data.train_labels[:64])
model = eqx.nn.MLP(
    images.shape[1], 10, width_size=32, depth=6, activation=jax.nn.sigmoid, key=jax.random.key(0)
)

if __name__ == "__main__":
    found = cnnjax.probes.layer_statistics(model, None, batch)
    for name, rms, norm in zip(found.layers, found.rms, found.activation_gradient_norm, strict=True):
        print(f"{name:10} RMS {rms:.2e}, gradient {norm:.2e}")
