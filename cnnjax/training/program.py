"""What is compiled: the training steps and the evaluation of one run, or of several at once.

What lies on the devices, the state above all, has a leading axis over the runs, even of one run.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun
from jax.sharding import Mesh

from cnnjax.config import Config, Shard
from cnnjax.data import Dataset, Stream
from cnnjax.distributed import check_shared, fetch, place
from cnnjax.errors import UserError
from cnnjax.mesh import (
    by_groups,
    for_runs,
    gather,
    over_data,
    over_seeds,
    over_seeds_and_data,
    replicated,
    shardings,
)
from cnnjax.models import build, lay_out, unstack
from cnnjax.ops.groups import divided
from cnnjax.ops.norm import check_groups
from cnnjax.ops.precision import wide
from cnnjax.training.inputs import make_input
from cnnjax.training.losses import make_loss
from cnnjax.training.memory import check_memory, check_state, nbytes
from cnnjax.training.optim import learning_rate, make_optimizer
from cnnjax.training.progress import patience
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
from cnnjax.training.stop import IN_FLIGHT, Stop

EVALUATION = "evaluation"


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

    def __init__(
        self, config: Config, data: Dataset | Stream, mesh: Mesh, probe: Probe, shard: Shard = "replicated"
    ):
        self._config, self._mesh, self._probe = config, mesh, probe
        self._shard: Shard = shard
        self._checked: set[Any] = set()
        check_shared(mesh)
        defaults = {"num_classes": data.classes, "dtype": jnp.dtype(config.dtype)}
        self._model = build(config.model, **{**defaults, **config.model_options})
        if (classes := getattr(self._model, "num_classes", data.classes)) < data.classes:
            raise UserError(f"num_classes={classes}: the data has {data.classes} classes")
        check_groups(config.batch_size, getattr(self._model, "bn_groups", 1))
        # On disk and in results variables are by block, whatever the loop over depth works on.
        self._lay_out = functools.partial(lay_out, loop=getattr(self._model, "loop", "unrolled"))
        self._gather = functools.partial(gather, mesh=mesh, shard=shard)
        self._loss = make_loss(config)
        self.input = given = make_input(data, config, mesh, self._model.input_shape)
        eval_step = make_eval_step(self._model, given.normalize, self._loss, self._gather)

        def test_step(variables, held, brought, counted):
            with divided(by_groups(mesh, shard)):
                return eval_step(variables, *given.pick(held, brought), counted)

        self._test_step = jax.jit(
            for_runs(test_step, mesh, (0, None, None, None)),
            in_shardings=(None, replicated(mesh), over_data(mesh), over_data(mesh)),  # variables lie as put
            out_shardings=over_seeds(mesh),
        )

    @functools.cached_property
    def _train_steps(self) -> dict[bool, Callable[..., tuple[State, Metrics, Any]]]:
        """Without and with the probe."""
        config, given, mesh = self._config, self.input, self._mesh

        def train_steps(state, held, brought, own, *, probe):
            key, *rates = own  # arguments, so that runs may differ in them
            train_step = make_train_step(
                self._model,
                make_optimizer(config, *rates),
                learning_rate(config, rates[0]),
                given.augment,
                given.normalize,
                self._loss,
                probe,
                self._gather,
            )
            with divided(by_groups(mesh, self._shard)):
                return in_one_dispatch(train_step, given.pick)(
                    state, held, brought, jax.random.wrap_key_data(key)
                )

        runs, whole, batch = over_seeds(mesh), replicated(mesh), over_seeds_and_data(mesh)
        return {
            measured: jax.jit(
                for_runs(functools.partial(train_steps, probe=probe), mesh, (0, None, 0, 0)),
                donate_argnums=0,
                in_shardings=(self._placement, whole, batch, runs),
                out_shardings=(self._placement, runs, runs),
            )
            for measured, probe in ((False, NoProbe()), (True, self._probe))
        }

    @functools.cached_property
    def _initial(self) -> tuple[Callable[[jax.Array], State], State]:
        """Random key to a run's state at step 0, by block, traced once for all runs; and the shapes."""

        def init(key: jax.Array) -> State:
            optimizer, carried = make_optimizer(self._config), self._probe.compares_gradients
            return init_state(self._model, optimizer, key, self.input.image_shape, carried)

        with patience(f"{self._config.model}: traced layer by layer, which takes a while in deep networks"):
            traced, shapes = jax.make_jaxpr(init, return_shape=True)(jax.random.key(0))
        structure = jax.tree.structure(shapes)
        return lambda key: jax.tree.unflatten(structure, jaxpr_as_fun(traced)(key)), shapes

    @property
    def shapes(self) -> State:
        """Shapes of the state of one run, by block."""
        return self._initial[1]

    @property
    def _placement(self) -> State:
        """Where the state lies."""
        return shardings(jax.eval_shape(self._lay_out, self.shapes), self._mesh, self._shard)

    def init(self, seeds: Sequence[int]) -> State:
        """The states of runs at step 0, on the devices, none of which ever holds more than its part."""
        init, _ = self._initial
        check_state(self.shapes, len(seeds), self._config, self._mesh, self._shard)
        keys = [jax.random.key(seed) for seed in seeds]
        if self._shard == "replicated":  # by many small programs, which compile sooner than one
            return self.put([init(key) for key in keys])
        sharded = jax.jit(
            jax.vmap(lambda key: self._lay_out(init(jax.random.wrap_key_data(key)))),
            out_shardings=self._placement,
        )
        return sharded(place(np.stack([jax.random.key_data(key) for key in keys]), replicated(self._mesh)))

    def put(self, trees: Sequence[Any]) -> Any:
        """A tree of arrays of each run, such as its state by block, as one on the devices."""
        host = jax.device_get([self._lay_out(tree) for tree in trees])
        stacked = jax.tree.map(lambda *own: np.stack(own), *host)
        return place(stacked, shardings(host[0], self._mesh, self._shard))

    def get(self, tree: Any) -> list[Any]:
        """The inverse of `put`: the tree of each run, by block, on the host."""
        host = fetch(tree)
        runs = len(jax.tree.leaves(host)[0])
        return [unstack(jax.tree.map(lambda array, run=run: array[run], host)) for run in range(runs)]

    def own(self, configs: Sequence[Config]) -> Any:
        """What is each run's own, for `train`: random key, learning rate and weight decay."""
        keys = [jax.random.key_data(jax.random.key(config.seed)) for config in configs]
        dtype = wide(self._config.dtype)
        rates = [np.array(config.learning_rate, dtype) for config in configs]
        decays = [np.array(config.weight_decay, dtype) for config in configs]
        return place(tuple(map(np.stack, (keys, rates, decays))), over_seeds(self._mesh))

    def lower(self, state: State, brought: Any, own: Any) -> jax.stages.Lowered:
        """What `train` would run, to be compiled and looked into: its memory, what devices exchange."""
        train_steps: Any = self._train_steps[False]
        return train_steps.lower(state, self.input.train_held, brought, own)

    def train(self, state: State, brought: Any, own: Any, measured: bool) -> tuple[State, Metrics, Any]:
        """Take the steps for which `input.training` gives `brought`, with the probe if `measured`.

        Metrics and measurements are [run, step, ...]. The arrays of `state` are given away.
        """
        train_steps: Any = self._train_steps[measured]
        arguments = state, self.input.train_held, brought, own
        steps = len(jax.tree.leaves(brought)[0][0])
        self._check_memory("a step", (measured, steps), train_steps, arguments)
        return train_steps(*arguments)

    def _check_memory(self, what: str, key: Any, jitted: Any, arguments: tuple) -> None:
        """Compile before the first call, which takes what was compiled, and see that its memory is there."""
        if key not in self._checked:
            compiled = jitted.lower(*arguments).compile()
            gradients = 0 if key == EVALUATION else nbytes(self.shapes.params)
            check_memory(what, compiled, self._config, self._mesh, gradients)
            self._checked.add(key)

    def evaluate(self, variables: Any, stop: Stop) -> list[dict[str, float]]:
        """The test loss and error of each run; empty if it was stopped."""
        examples, batch_size = self.input.test_examples, self._config.batch_size
        sums = []
        with self.input.testing() as batches:
            for first, brought in zip(range(0, examples, batch_size), batches, strict=True):
                stop.look()
                if stop:
                    return []
                # The last batch is padded, so that every batch has one shape and every image counts once.
                counted = place(np.arange(first, first + batch_size) < examples, over_data(self._mesh))
                arguments = variables, self.input.test_held, brought, counted
                self._check_memory("an evaluation", EVALUATION, self._test_step, arguments)
                sums.append(self._test_step(*arguments))
                if len(sums) > IN_FLIGHT:
                    jax.block_until_ready(sums[-IN_FLIGHT])
        losses, errors = (np.array(values) for values in zip(*fetch(sums), strict=True))
        return [
            {"test_loss": float(loss) / examples, "test_error": int(error) / examples}
            for loss, error in zip(losses.sum(0, dtype=np.float64), errors.sum(0), strict=True)
        ]
