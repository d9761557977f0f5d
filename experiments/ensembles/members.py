"""One trained network: its probabilities, at its checkpoints and without some of its blocks."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.data import Dataset
from cnnjax.evaluation import classifier
from cnnjax.ops.depth import unstack
from cnnjax.probes import find_blocks, lesioned_outputs
from cnnjax.runs import open_run

from ..runner import cached_npz, fixed_choice
from .settings import Preset


@dataclasses.dataclass(frozen=True)
class Member:
    """The probabilities of one run, which are kept in `file`."""

    run: Path
    file: Path
    seed: int

    def arrays(self, chosen: Preset, data: Dataset) -> dict[str, np.ndarray]:
        """By name, with the test images as examples.

        checkpoints [checkpoint, example, class], from the last one backwards; paths [choice, example, class],
        and for each choice `deleted`, how many of the `blocks` are.
        """
        return cached_npz(self.file, lambda: self._measure(chosen, data))

    def _measure(self, chosen: Preset, data: Dataset) -> dict[str, Any]:
        run = open_run(self.run, data=data)
        task = run.task
        arrays = task.data
        assert isinstance(arrays, Dataset)
        some = fixed_choice(chosen.calibration, len(arrays.train_images))
        test, training = (
            task.normalize(jnp.asarray(each))
            for each in (arrays.test_images, np.asarray(arrays.train_images)[some])
        )
        whole = classifier(task)
        steps = sorted(run.steps, reverse=True)[: chosen.checkpoints]
        variables = jax.tree.map(jnp.asarray, unstack(run.variables))
        blocks = find_blocks(task.network, variables, test[:1])
        opened = choices(len(blocks), chosen, np.random.default_rng(self.seed))
        without = jax.jit(lambda v, gates: lesioned_outputs(task.network, v, test, gates, training))
        return {
            "checkpoints": np.stack([whole(run.at(step)).probabilities for step in steps]),
            "paths": np.asarray(jax.nn.softmax(without(variables, opened))),
            "deleted": (opened == 0).sum(1),
            "blocks": np.array(len(blocks)),
        }


def choices(blocks: int, chosen: Preset, random: np.random.Generator) -> np.ndarray:
    """What stays open, [choice, block]: all but so many blocks, drawn at random."""
    rows = []
    for number in (number for number in chosen.deleted if number < blocks):
        for _ in range(chosen.draws):
            opened = np.ones(blocks)
            opened[random.choice(blocks, number, replace=False)] = 0
            rows.append(opened)
    return np.array(rows).reshape(-1, blocks)
