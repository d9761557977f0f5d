"""What the shortcuts of one run's network carry, at initialisation and trained.

BatchNorm's statistics are those of the images, as constants: before training its averages are those of no
network.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.data import Dataset
from cnnjax.ops.depth import unstack
from cnnjax.probes.forward import reestimate
from cnnjax.runs import open_run

from ..runner import cached_npz, fixed_choice
from .carrying import carried
from .settings import Preset

STATES = ("initial", "trained")


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Of one run; its arrays are kept in `file`."""

    run: Path
    file: Path
    seed: int

    def arrays(self, chosen: Preset, data: Dataset) -> dict[str, np.ndarray]:
        """Those of `carried`, [state, block]; none for a network without residual `Block`s."""
        return cached_npz(self.file, lambda: self._measure(chosen, data))

    def _measure(self, chosen: Preset, data: Dataset) -> dict[str, Any]:
        run = open_run(self.run, data=data)
        task, arrays = run.task, run.task.data
        assert isinstance(arrays, Dataset)
        some = fixed_choice(chosen.images, len(arrays.test_images))
        images = task.normalize(jnp.asarray(np.asarray(arrays.test_images)[some]))
        labels = jnp.asarray(np.asarray(arrays.test_labels)[some])
        key = jax.random.key(self.seed)

        @jax.jit
        def measure(variables: Any) -> dict[str, jax.Array]:
            state = reestimate(task.network, variables, images, lambda f, params, x: f(params, x))
            return carried(task.network, {**variables, **state}, images, labels, key)

        states = task.init(key, images), jax.tree.map(jnp.asarray, unstack(run.variables))
        found = [measure(variables) for variables in states]
        return {name: np.stack([each[name] for each in found]) for name in found[0]}
