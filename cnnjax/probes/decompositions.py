"""Decompositions of matrices, one at a time even under `vmap`.

On a CPU jaxlib spreads a batch of decompositions over the threads that run the program, and the caller, one
of these threads itself, waits for the others. As many such calls as threads in one program wait for each
other forever (seen with jaxlib 0.10.2 on two cores). A single matrix is decomposed where the call is.
"""

import jax
import jax.numpy as jnp
from jax.custom_batching import sequential_vmap


@sequential_vmap
def eigenvalues(matrix: jax.Array) -> jax.Array:
    """Of a symmetric matrix [row, row], rising: [row]."""
    return jnp.linalg.eigvalsh(matrix)


@sequential_vmap
def eigenvectors(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of a symmetric matrix [row, row]: the eigenvalues, rising, and the vectors as columns [row, value]."""
    values, vectors = jnp.linalg.eigh(matrix)
    return values, vectors


@sequential_vmap
def singular_values(matrix: jax.Array) -> jax.Array:
    """Of a matrix [row, column], falling."""
    return jnp.linalg.svd(matrix, compute_uv=False)
