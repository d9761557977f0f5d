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
from cnnjax.data import Dataset, Stream
from cnnjax.mesh import for_runs, over_data, over_seeds, over_seeds_and_data, replicated
from cnnjax.models import build, lay_out, unstack
from cnnjax.training.inputs import make_input
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

    def __init__(self, config: Config, data: Dataset | Stream, mesh: Mesh, probe: Probe):
        self._config, self._mesh = config, mesh
        defaults = {"num_classes": data.classes, "dtype": jnp.dtype(config.dtype)}
        self._model = build(config.model, **{**defaults, **config.model_options})
        self.input = given = make_input(data, config, mesh, self._model.input_shape)
        loss = make_loss(config)

        def train_steps(state, held, brought, own, *, probe):
            key, *rates = own  # arguments, so that runs may differ in them
            train_step = make_train_step(
                self._model,
                make_optimizer(config, *rates),
                learning_rate(config, rates[0]),
                given.augment,
                given.normalize,
                loss,
                probe,
            )
            return in_one_dispatch(train_step, given.pick)(
                state, held, brought, jax.random.wrap_key_data(key)
            )

        eval_step = make_eval_step(self._model, given.normalize, loss)

        def test_step(variables, held, brought, counted):
            return eval_step(variables, *given.pick(held, brought), counted)

        runs, whole, batch = over_seeds(mesh), replicated(mesh), over_data(mesh)
        self._plain, self._measured = (
            jax.jit(
                for_runs(functools.partial(train_steps, probe=rider), mesh, (0, None, 0, 0)),
                donate_argnums=0,
                in_shardings=(runs, whole, over_seeds_and_data(mesh), runs),
                out_shardings=runs,
            )
            for rider in (NoProbe(), probe)
        )
        self._test_step = jax.jit(
            for_runs(test_step, mesh, (0, None, None, None)),
            in_shardings=(runs, whole, batch, batch),
            out_shardings=runs,
        )

    def init(self, seed: int) -> State:
        """The state of a run at step 0, by block."""
        optimizer = make_optimizer(self._config)
        return init_state(self._model, optimizer, seed, self.input.image_shape)

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

    def train(self, state: State, brought: Any, own: Any, measured: bool) -> tuple[State, Metrics, Any]:
        """Take the steps for which `input.training` gives `brought`, with the probe if `measured`.

        Metrics and measurements are [run, step, ...]. The arrays of `state` are given away.
        """
        train_steps = self._measured if measured else self._plain
        return train_steps(state, self.input.train_held, brought, own)

    def evaluate(self, variables: Any, stop: Stop) -> list[dict[str, float]]:
        """The test loss and error of each run; empty if it was stopped."""
        examples, batch_size = self.input.test_examples, self._config.batch_size
        sums = []
        with self.input.testing() as batches:
            for first, brought in zip(range(0, examples, batch_size), batches, strict=True):
                if stop:
                    return []
                # The last batch is padded, so that every batch has one shape and every image counts once.
                counted = np.arange(first, first + batch_size) < examples
                sums.append(self._test_step(variables, self.input.test_held, brought, counted))
                if len(sums) > IN_FLIGHT:
                    jax.block_until_ready(sums[-IN_FLIGHT])
        losses, errors = (np.array(values) for values in zip(*jax.device_get(sums), strict=True))
        return [
            {"test_loss": float(loss) / examples, "test_error": int(error) / examples}
            for loss, error in zip(losses.sum(0, dtype=np.float64), errors.sum(0), strict=True)
        ]
