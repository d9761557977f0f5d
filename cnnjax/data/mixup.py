"""Mixtures of images and of their labels (Zhang, Cisse, Dauphin and Lopez-Paz 2017, arXiv 1710.09412)."""

import zlib

import jax


def mix(
    key: jax.Array, images: jax.Array, labels: jax.Array, classes: int, alpha: float
) -> tuple[jax.Array, jax.Array]:
    """Mix a batch with itself in another order, all images by one share from Beta(alpha, alpha).

    As in the authors' code the whole batch has one share. Images are [batch, height, width, channel], labels
    [batch]; returns images of the same shape and probabilities [batch, class].
    """
    key = jax.random.fold_in(key, zlib.crc32(b"mixup"))  # the crops' and mirrors' keys are split from it
    share_key, order_key = jax.random.split(key)
    share = jax.random.beta(share_key, alpha, alpha, dtype=images.dtype)
    order = jax.random.permutation(order_key, len(labels))
    odds = jax.nn.one_hot(labels, classes, dtype=images.dtype)
    return share * images + (1 - share) * images[order], share * odds + (1 - share) * odds[order]
