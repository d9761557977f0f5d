"""What is compiled: the training steps and the evaluation of one run, or of several at once.

What lies on the devices, the state above all, has a leading axis over the runs, even of one run.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cnnjax.config import Config
from cnnjax.data import Dataset
from cnnjax.data.augment import AUGMENTATIONS, normalizer
from cnnjax.mesh import for_runs, over_data, over_seeds, over_seeds_and_data, replicated
from cnnjax.models import build, lay_out, unstack
from cnnjax.training.losses import make_loss
from cnnjax.training.optim import learning_rate, make_optimizer
from cnnjax.training.step import (
    Metrics,
    NoProbe,
    Probe,
    State,
    in_one_dispatch,
    init_state,
    make_eval_step,
    make_train_step,
)
from cnnjax.training.stop import Stop

IN_FLIGHT = 2  # dispatches ahead of the host: keeps the device busy, and a signal is answered soon


def shared(config: Config) -> Config:
    """What runs of one program have in common: all of a config but the seed, learning rate and weight decay.

    Held-out images are drawn by the seed, so with `validation` it must be the same.
    """
    return dataclasses.replace(
        config,
        seed=config.seed if config.validation else Config.seed,
        learning_rate=Config.learning_rate,
        weight_decay=Config.weight_decay,
    )


class Program:
    """Network, data on the devices and compiled functions of runs that have `shared` in common."""

    def __init__(self, config: Config, data: Dataset, mesh: Mesh, probe: Probe):
        self._config, self._data, self._mesh = config, data, mesh
        self.examples = len(data.train_labels)
        defaults = {"num_classes": data.classes, "dtype": jnp.dtype(config.dtype)}
        self._model = build(config.model, **{**defaults, **config.model_options})
        normalize, loss = normalizer(data.train_images, config.normalize), make_loss(config)

        def train_steps(state, images, labels, indices, own, *, probe):
            key, *rates = own  # arguments, so that runs may differ in them
            train_step = make_train_step(
                self._model,
                make_optimizer(config, *rates),
                learning_rate(config, rates[0]),
                AUGMENTATIONS[config.augment],
                normalize,
                loss,
                probe,
            )
            return in_one_dispatch(train_step)(state, images, labels, indices, jax.random.wrap_key_data(key))

        runs, whole, batch = over_seeds(mesh), replicated(mesh), over_data(mesh)
        self._plain, self._measured = (
            jax.jit(
                for_runs(functools.partial(train_steps, probe=rider), mesh, (0, None, None, 0, 0)),
                donate_argnums=0,
                in_shardings=(runs, whole, whole, over_seeds_and_data(mesh), runs),
                out_shardings=runs,
            )
            for rider in (NoProbe(), probe)
        )
        self._eval_step = jax.jit(
            for_runs(make_eval_step(self._model, normalize, loss), mesh, (0, None, None, None, None)),
            in_shardings=(runs, whole, whole, batch, batch),
            out_shardings=runs,
        )

    @functools.cached_property
    def _train_set(self) -> tuple[jax.Array, jax.Array]:
        data = self._data
        return jax.device_put((np.asarray(data.train_images), data.train_labels), replicated(self._mesh))

    @functools.cached_property
    def _test_set(self) -> tuple[jax.Array, jax.Array]:
        data = self._data
        return jax.device_put((np.asarray(data.test_images), data.test_labels), replicated(self._mesh))

    def init(self, seed: int) -> State:
        """The state of a run at step 0, by block."""
        optimizer = make_optimizer(self._config)
        return init_state(self._model, optimizer, seed, self._data.train_images.shape[1:])

    def put(self, trees: Sequence[Any]) -> Any:
        """A tree of arrays of each run, such as its state by block, as one on the devices."""
        # On disk and in results variables are by block, whatever the loop over depth works on.
        loop = getattr(self._model, "loop", "unrolled")
        host = jax.device_get([lay_out(tree, loop) for tree in trees])
        return jax.device_put(jax.tree.map(lambda *own: np.stack(own), *host), over_seeds(self._mesh))

    def get(self, tree: Any) -> list[Any]:
        """The inverse of `put`: the tree of each run, by block, on the host."""
        host = jax.device_get(tree)
        runs = len(jax.tree.leaves(host)[0])
        return [unstack(jax.tree.map(lambda array, run=run: array[run], host)) for run in range(runs)]

    def own(self, configs: Sequence[Config]) -> Any:
        """What is each run's own, for `train`: random key, learning rate and weight decay."""
        return self.put(
            [
                (
                    jax.random.key_data(jax.random.key(config.seed)),
                    np.float32(config.learning_rate),
                    np.float32(config.weight_decay),
                )
                for config in configs
            ]
        )

    def train(
        self, state: State, indices: np.ndarray, own: Any, measured: bool
    ) -> tuple[State, Metrics, Any]:
        """Take the steps whose images are `indices` [run, step, batch], with the probe if `measured`.

        Metrics and measurements are [run, step, ...]. The arrays of `state` are given away.
        """
        train_steps = self._measured if measured else self._plain
        return train_steps(state, *self._train_set, indices, own)

    def evaluate(self, variables: Any, stop: Stop) -> list[dict[str, float]]:
        """The test loss and error of each run; empty if it was stopped."""
        images, labels = self._test_set
        examples, batch_size = len(labels), self._config.batch_size
        sums = []
        for first in range(0, examples, batch_size):
            if stop:
                return []
            positions = np.arange(first, first + batch_size)
            # The last batch is padded, so that every batch has one shape and every image counts once.
            sums.append(
                self._eval_step(variables, images, labels, positions % examples, positions < examples)
            )
            if len(sums) > IN_FLIGHT:
                jax.block_until_ready(sums[-IN_FLIGHT])
        losses, errors = (np.array(values) for values in zip(*jax.device_get(sums), strict=True))
        return [
            {"test_loss": float(loss) / examples, "test_error": int(error) / examples}
            for loss, error in zip(losses.sum(0, dtype=np.float64), errors.sum(0), strict=True)
        ]
