"""Measure a file of torchvision's weights, given as the first argument; without one, weights made here."""

import sys

import jax
import numpy as np

import cnnjax

if __name__ == "__main__":
    if len(sys.argv) > 1:
        model, variables = cnnjax.interop.from_torchvision("resnet18", sys.argv[1])
    else:
        fresh = cnnjax.build("resnet18_torchvision").init(
            jax.random.key(0), np.zeros((1, 64, 64, 3)), train=False
        )
        weights = cnnjax.interop.to_torchvision("resnet18", fresh)
        model, variables = cnnjax.interop.from_torchvision("resnet18", weights)
    images = np.random.default_rng(0).normal(size=(4, 64, 64, 3)).astype(np.float32)
    found = jax.jit(lambda v: cnnjax.probes.layer_statistics(model, v, (images, np.arange(4))))(variables)
    for name, std, norm in zip(found.layers, found.response_std, found.weight_gradient_norm, strict=True):
        print(f"{name:32} response {std:.2f}, gradient {norm:.2e}")
