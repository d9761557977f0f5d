"""One architecture's part of the study: examined, trained, written down."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.data import Dataset
from cnnjax.data.augment import normalizer
from cnnjax.data.batches import batch_indices
from cnnjax.diagnosis.examine import Instruments
from cnnjax.diagnosis.features import features
from cnnjax.files import read_json, write_json
from cnnjax.network import as_network
from cnnjax.probes.subject import cross_entropy
from cnnjax.training.progress import HERE

from .families import OPTIMIZERS, Patient, scaled
from .settings import EXAMINED, Preset

LAST = 20
"""The training loss is the mean over so many last steps."""


@dataclasses.dataclass(frozen=True)
class Part:
    """An architecture with all its weights and rates; its rows are kept in `file`."""

    patient: Patient
    file: Path

    @property
    def nets(self) -> int:
        """How many networks it trains for each seed."""
        return len(self.patient.gains) * len(self.patient.rates)

    def rows(self, chosen: Preset, data: Dataset) -> list[dict[str, Any]]:
        """What was found of each network, measured once."""
        if not self.file.exists():
            write_json(self.file, list(_measure(self.patient, chosen, data)))
        return read_json(self.file)


def _measure(patient: Patient, chosen: Preset, data: Dataset) -> Iterator[dict[str, Any]]:
    network = as_network(patient.make())
    optimizer_of = OPTIMIZERS[patient.optimizer]
    instruments = Instruments(network, cross_entropy, optimizer_of)
    images = jnp.asarray(data.train_images)
    normalize = normalizer(data.train_images, "pixel_mean")
    labels = jnp.asarray(data.train_labels)

    @jax.jit
    def batch_of(indices: Any) -> tuple[jax.Array, jax.Array]:
        return normalize(images[indices]), labels[indices]

    batches = [
        np.asarray(batch_indices(0, step, chosen.batch_size, len(labels))) for step in range(chosen.steps + 1)
    ]
    held_out = batch_of(batches[-1])
    for seed in range(chosen.seeds):
        drawn = network.init(jax.random.key(seed), held_out[0])
        for gain in patient.gains:
            for rate in patient.rates:
                variables = {**drawn, "params": scaled(drawn["params"], gain)}
                opt_state = optimizer_of(rate).init(variables["params"])
                found, losses = {}, []
                for step, indices in enumerate(batches[:-1]):
                    if step in EXAMINED:
                        examined = instruments.examine(variables, opt_state, held_out, rate, skips=False)
                        found[step] = {
                            name: None if value != value else value
                            for name, value in features(examined).items()
                        }
                    key = jax.random.fold_in(jax.random.key(seed), step)
                    variables, opt_state, loss, _ = instruments.step(
                        variables, opt_state, batch_of(indices), key, rate
                    )
                    losses.append(loss)
                final = float(np.mean(jax.device_get(losses[-LAST:])))
                HERE.report(1)
                yield {
                    "family": patient.family,
                    "model": patient.name,
                    "optimizer": patient.optimizer,
                    "gain": gain,
                    "rate": rate,
                    "seed": seed,
                    "train_loss": final if np.isfinite(final) else None,
                    "trained": bool(final < np.log(10) / 2),
                    "features": {str(step): values for step, values in found.items()},
                }


def measure_share(parts: list[Part], chosen: Preset, data: Dataset) -> None:
    """A worker's part."""
    for part in parts:
        part.rows(chosen, data)
