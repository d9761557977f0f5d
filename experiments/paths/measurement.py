"""The gradient of one run's network by the lengths of paths, at initialisation and trained."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.data import Dataset
from cnnjax.network import as_network
from cnnjax.ops.depth import unstack
from cnnjax.probes import lesion, path_lengths
from cnnjax.runs import open_run

from ..runner import cached_npz, fixed_choice
from .settings import Preset

STATES = ("initial", "trained")
CALIBRATION = 1_024  # training images


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Of one run; its arrays are kept in `file`."""

    run: Path
    file: Path
    seed: int

    def arrays(self, chosen: Preset, data: Dataset) -> dict[str, np.ndarray]:
        """`exact` and `single` [state, length, sample], `gap` [state, sample], names of `blocks`.

        Also `open_error`: the trained network's test error with all blocks open, which they are not in a
        step of training by short paths, and BatchNorm's averages estimated anew.
        """
        return cached_npz(self.file, lambda: self._measure(chosen, data))

    def _measure(self, chosen: Preset, data: Dataset) -> dict[str, Any]:
        run = open_run(self.run, data=data)
        task, network = run.task, as_network(run.task.network.source)  # all of its paths
        arrays = task.data
        assert isinstance(arrays, Dataset)
        of_test = fixed_choice(chosen.images, len(arrays.test_images))
        of_training = fixed_choice(CALIBRATION, len(arrays.train_images))
        test, training = (
            task.normalize(jnp.asarray(np.asarray(images)[some]))
            for images, some in ((arrays.test_images, of_test), (arrays.train_images, of_training))
        )
        labels = jnp.asarray(np.asarray(arrays.test_labels)[of_test])
        key = jax.random.key(self.seed)

        @jax.jit
        def measure(variables: Any) -> Any:
            return path_lengths(network, variables, (test, labels), key, chosen.draws)

        trained = jax.tree.map(jnp.asarray, unstack(run.variables))
        found = [measure(variables) for variables in (task.init(key, test), trained)]
        everything = task.normalize(jnp.asarray(np.asarray(arrays.test_images))), arrays.test_labels
        opened = np.ones((1, len(found[0].blocks)))
        error = jax.jit(lambda v: lesion(network, v, everything, opened, training).error[0])
        return {
            **{name: np.stack([getattr(one, name) for one in found]) for name in ("exact", "single", "gap")},
            "blocks": np.array(found[0].blocks),
            "open_error": error(trained),
        }
