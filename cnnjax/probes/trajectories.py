"""The plane in which training moves most, by principal components of the weights along the way.

Li et al. 2018 (arXiv 1712.09913), section 7: random directions show no motion, because in many dimensions
they are orthogonal to any path. The first two principal components of the checkpoints show most of it. That
most of the variance lies there says little: of a random walk in many dimensions, the first component explains
6 / pi^2 = 61 % and the first two 76 % (Antognini and Sohl-Dickstein 2018, arXiv 1806.08805).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from cnnjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """A path of weights, seen from its last point.

    Attributes:
        directions: two trees like the parameters, of norm 1 and orthogonal: the first components.
        coordinates: [checkpoint, 2], along these from the last checkpoint.
        explained: [component], the share of the variance that each one has.
    """

    directions: tuple[Any, Any]
    coordinates: np.ndarray
    explained: np.ndarray


def principal_plane(checkpoints: Sequence[Any]) -> Trajectory:
    """The first two principal components of checkpoints, which are trees of parameters, in their order.

    Components are those of the differences from the mean checkpoint.

    Raises:
        UserError: there are fewer than three.
    """
    if len(checkpoints) < 3:
        raise UserError(f"checkpoints: there are {len(checkpoints)}; a plane needs three or more")
    weights = np.stack(
        [np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in checkpoints]
    ).astype(np.float64)
    centred = weights - weights.mean(0)
    variances, vectors = np.linalg.eigh(centred @ centred.T)  # few checkpoints, many parameters
    order = np.argsort(variances)[::-1]
    variances, vectors = np.maximum(variances[order], 0), vectors[:, order]
    components = vectors[:, :2].T @ centred
    components /= np.linalg.norm(components, axis=1, keepdims=True)
    return Trajectory(
        directions=(_like(checkpoints[-1], components[0]), _like(checkpoints[-1], components[1])),
        coordinates=(weights - weights[-1]) @ components.T,
        explained=variances[:-1] / variances.sum(),
    )


def random_walk_explained(points: int) -> np.ndarray:
    """Shares of the variance [component] of a random walk of so many points in infinitely many dimensions.

    The matrix of the centred walk's scalar products is the inverse of the Laplacian of a chain, so that its
    eigenvalues are 1 / (4 sin^2(k pi / (2 points))), k = 1, ..., points - 1.
    """
    variances = 1 / np.sin(np.arange(1, points) * np.pi / (2 * points)) ** 2
    return variances / variances.sum()


def _like(tree: Any, flat: np.ndarray) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    ends = np.cumsum([np.size(leaf) for leaf in leaves])[:-1]
    parts = np.split(flat, ends)
    shaped = [
        part.reshape(np.shape(leaf)).astype(leaf.dtype) for part, leaf in zip(parts, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, shaped)
