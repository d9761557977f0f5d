"""Measure a network at its initial weights, without training it: which gradient reaches each layer?"""

import jax
import jax.numpy as jnp

import cnnjax

model = cnnjax.build("plain20", width=8)
data = cnnjax.data.load("fashion_mini").downsampled(2)
images = jnp.asarray(data.train_images[:64], jnp.float32) / 255
batch = images, jnp.asarray(data.train_labels[:64])
variables = model.init(jax.random.key(0), images[:1], train=False)

if __name__ == "__main__":
    found = cnnjax.probes.layer_statistics(model, variables, batch)
    for name, norm in zip(found.layers, found.activation_gradient_norm, strict=True):
        print(f"{name:24} {norm:.2e}")
