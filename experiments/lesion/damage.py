"""One trained network: which blocks are deleted or moved, and its error then."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.data import Dataset
from cnnjax.ops.depth import unstack
from cnnjax.probes import equal_blocks, find_blocks, lesion, reorder
from cnnjax.runs import open_run

from ..runner import cached_npz, fixed_choice
from .settings import STATISTICS, Preset


@dataclasses.dataclass(frozen=True)
class Damage:
    """The lesions of one run, whose arrays are kept in `file`."""

    run: Path
    file: Path
    seed: int

    def arrays(self, chosen: Preset, data: Dataset) -> dict[str, np.ndarray]:
        """Names of `blocks`, `opened` and `orders` [lesion, block], `tau` [order], and the errors of both.

        Errors are [lesion] by name: `deleted_running`, `ordered_reestimated` and so on.
        """
        return cached_npz(self.file, lambda: self._measure(chosen, data))

    def _measure(self, chosen: Preset, data: Dataset) -> dict[str, Any]:
        run = open_run(self.run, data=data)
        task, variables = run.task, jax.tree.map(jnp.asarray, unstack(run.variables))
        arrays = task.data
        assert isinstance(arrays, Dataset)
        images = np.asarray(arrays.train_images)
        some = images[fixed_choice(chosen.calibration, len(images))]
        test, training = (task.normalize(jnp.asarray(each)) for each in (arrays.test_images, some))
        batch = test, jnp.asarray(arrays.test_labels)
        blocks = find_blocks(task.network, variables, test[:1])
        groups = equal_blocks(variables, blocks)
        random = np.random.default_rng(self.seed)
        opened = deletions(len(blocks), chosen, random)
        orders, taus = orderings(len(blocks), groups, chosen, random)
        found: dict[str, Any] = {"blocks": np.array(blocks), "opened": opened, "orders": orders, "tau": taus}

        def errors(calibration: Any) -> tuple[Any, Any]:
            delete = jax.jit(lambda v, which: lesion(task.network, v, batch, which, calibration).error)
            move = jax.jit(lambda v, which: reorder(task.network, v, batch, which, calibration).error)
            return delete(variables, opened), move(variables, orders) if len(orders) else taus

        for name, calibration in zip(STATISTICS, (None, training), strict=True):
            if calibration is None or len(variables) > 1:  # without averages both are the same
                deleted, ordered = errors(calibration)
            found |= {f"deleted_{name}": deleted, f"ordered_{name}": ordered}
        return found


def deletions(blocks: int, chosen: Preset, random: np.random.Generator) -> np.ndarray:
    """What stays open, [lesion, block]: all, all but each one, and all but so many at random."""
    rows = [np.ones((1, blocks)), 1 - np.eye(blocks)]
    for number in chosen.deleted:
        if number < blocks:
            for _ in range(chosen.draws):
                opened = np.ones((1, blocks))
                opened[0, random.choice(blocks, number, replace=False)] = 0
                rows.append(opened)
    return np.concatenate(rows)


def orderings(
    blocks: int, groups: list[list[int]], chosen: Preset, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Orders [lesion, block] in which only equal blocks change places, and Kendall's tau of each, [lesion].

    The number of pairs in the wrong order says how disordered they are, and not the number of swaps, some of
    which undo others. A tau that equal blocks cannot reach is left out.
    """
    pairs = blocks * (blocks - 1) // 2
    most = sum(len(group) * (len(group) - 1) // 2 for group in groups)
    orders, taus = [], []
    for tau in chosen.taus:
        inversions = round((1 - tau) * pairs / 2)
        if 0 < inversions <= most:
            orders += [disorder(blocks, groups, inversions, random) for _ in range(chosen.draws)]
            taus += [1 - 2 * inversions / pairs] * chosen.draws
    return np.array(orders, int).reshape(-1, blocks), np.array(taus)


def disorder(
    blocks: int, groups: list[list[int]], inversions: int, random: np.random.Generator
) -> np.ndarray:
    """An order [block] with so many pairs of equal blocks in the wrong order, by exchanges of neighbours."""
    order = np.arange(blocks)
    neighbours = np.array([pair for group in groups for pair in itertools.pairwise(group)])
    for _ in range(inversions):
        ascending = neighbours[order[neighbours[:, 0]] < order[neighbours[:, 1]]]
        left, right = ascending[random.integers(len(ascending))]
        order[[left, right]] = order[[right, left]]
    return order
