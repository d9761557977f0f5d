"""The compiled programs: training steps and evaluation of one run, or of several at once.

Arrays on the devices, above all the state, have a leading axis over the runs, even for a single run.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun
from jax.sharding import Mesh

from cnnjax.config import Config, Shard
from cnnjax.distributed import check_spans_processes, fetch, place
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
from cnnjax.ops.conv import compiled_for
from cnnjax.ops.depth import loop_of, stack_for_loop, unstack
from cnnjax.ops.groups import divided
from cnnjax.ops.norm import check_groups
from cnnjax.ops.precision import wide
from cnnjax.training.inputs import example, make_input
from cnnjax.training.memory import check_memory, check_state, nbytes
from cnnjax.training.progress import patience
from cnnjax.training.step import (
    Measured,
    Metrics,
    State,
    in_one_dispatch,
    init_state,
    make_eval_step,
    make_train_step,
)
from cnnjax.training.stop import IN_FLIGHT, Stop
from cnnjax.training.task import Task
from cnnjax.watchdog import moved

EVALUATION = "evaluation"


class Program:
    """A task's data on the devices and its compiled functions, for runs of one program."""

    def __init__(self, task: Task, mesh: Mesh, shard: Shard = "replicated"):
        check_spans_processes(mesh)
        module = task.network.source
        check_groups(task.config.batch_size, getattr(module, "bn_group_size", None))
        self._task, self.mesh = task, mesh
        self._platform = mesh.devices.flat[0].platform
        self._checked: set[Any] = set()
        self._compiled: dict[tuple[bool, ...], Callable[..., tuple[State, Metrics, Measured]]] = {}
        self.shard: Shard = shard
        # On disk and in results variables are by block, whatever the loop over depth works on.
        self.lay_out = functools.partial(stack_for_loop, loop=loop_of(module))
        self._gather = functools.partial(gather, mesh=mesh, shard=shard)
        self.input_source = make_input(task.data, task.config, mesh, module)
        eval_step = make_eval_step(task, self._gather)

        def test_step(variables, dataset_arrays, batch_inputs, counted):
            with compiled_for(self._platform), divided(by_groups(mesh, shard)):
                batch = self.input_source.select_batch(dataset_arrays, batch_inputs)
                return eval_step(variables, *batch, counted)

        self._test_step = jax.jit(
            for_runs(test_step, mesh, (0, None, None, None)),
            in_shardings=(None, replicated(mesh), over_data(mesh), over_data(mesh)),  # variables lie as put
            out_shardings=over_seeds(mesh),
        )

    def _train_steps(self, due: tuple[bool, ...]) -> Callable[..., tuple[State, Metrics, Measured]]:
        """The steps of a dispatch, with those of the probes that are due."""
        if due in self._compiled:
            return self._compiled[due]
        task, mesh = self._task, self.mesh
        probes = [probe for probe, is_due in zip(task.probes, due, strict=True) if is_due]

        def train_steps(state, dataset_arrays, batch_inputs, per_run):
            key, rate, decay = per_run  # arguments, so that runs may differ in them
            schedule = task.schedule and task.schedule(rate)
            train_step = make_train_step(task, task.optimizer(rate, decay), schedule, probes, self._gather)
            with compiled_for(self._platform), divided(by_groups(mesh, self.shard)):
                return in_one_dispatch(train_step, self.input_source.select_batch)(
                    state, dataset_arrays, batch_inputs, jax.random.wrap_key_data(key)
                )

        runs, whole, batch = over_seeds(mesh), replicated(mesh), over_seeds_and_data(mesh)
        self._compiled[due] = jax.jit(
            for_runs(train_steps, mesh, (0, None, 0, 0)),
            donate_argnums=0,
            in_shardings=(self.placement, whole, batch, runs),
            out_shardings=(self.placement, runs, runs),
        )
        return self._compiled[due]

    @functools.cached_property
    def _initial(self) -> tuple[Callable[[jax.Array], State], State]:
        """A function from a key to a run's state at step 0, by block, traced once for all; its shapes."""
        task = self._task
        raw, _ = example(task.data, 1, task.network.source)
        inputs = jax.eval_shape(task.normalize, raw)

        def init(key: jax.Array) -> State:
            return init_state(
                task, task.optimizer(task.config.learning_rate, task.config.weight_decay), key, inputs
            )

        with patience(f"{task.name}: traced layer by layer, which takes a while in deep networks"):
            traced, shapes = jax.make_jaxpr(init, return_shape=True)(jax.random.key(0))
        structure = jax.tree.structure(shapes)

        def traced_init(key: jax.Array) -> State:
            leaves = jaxpr_as_fun(traced)(key)
            return jax.tree.unflatten(structure, map(jnp.asarray, leaves))  # a constant would be no array

        return traced_init, shapes

    @property
    def state_shapes(self) -> State:
        """Shapes of the state of one run, by block."""
        return self._initial[1]

    @property
    def placement(self) -> State:
        """Where the state lies."""
        return shardings(jax.eval_shape(self.lay_out, self.state_shapes), self.mesh, self.shard)

    def init(self, seeds: Sequence[int]) -> State:
        """The states of runs at step 0 on the devices; no device ever holds more than its part."""
        init, _ = self._initial
        check_state(self.state_shapes, len(seeds), self._task, self.mesh, self.shard)
        keys = [jax.random.key(seed) for seed in seeds]
        if self.shard == "replicated":  # by many small programs, which compile sooner than one
            return self.put([init(key) for key in keys])
        sharded = jax.jit(
            jax.vmap(lambda key: self.lay_out(init(jax.random.wrap_key_data(key)))),
            out_shardings=self.placement,
        )
        return sharded(place(np.stack([jax.random.key_data(key) for key in keys]), replicated(self.mesh)))

    def put(self, trees: Sequence[Any]) -> Any:
        """A tree of arrays of each run, such as its state by block, as one on the devices."""
        host = jax.device_get([self.lay_out(tree) for tree in trees])
        stacked = jax.tree.map(lambda *own: np.stack(own), *host)
        return place(stacked, shardings(host[0], self.mesh, self.shard))

    def get(self, tree: Any) -> list[Any]:
        """The inverse of `put`: the tree of each run, by block, on the host."""
        host = fetch(tree)
        runs = len(jax.tree.leaves(host)[0])
        return [unstack(jax.tree.map(lambda array, run=run: array[run], host)) for run in range(runs)]

    def per_run(self, configs: Sequence[Config]) -> Any:
        """The arguments of `train` that differ between runs: random key, learning rate and weight decay."""
        keys = [jax.random.key_data(jax.random.key(config.order_seed)) for config in configs]
        dtype = wide(self._task.config.dtype)
        rates = [np.array(config.learning_rate, dtype) for config in configs]
        decays = [np.array(config.weight_decay, dtype) for config in configs]
        return place(tuple(map(np.stack, (keys, rates, decays))), over_seeds(self.mesh))

    def trace(self, steps: int = 1, due: tuple[bool, ...] | None = None, runs: int = 1) -> jax.stages.Traced:
        """What `train` runs for so many steps and runs, with the probes `due` or none, from shapes alone.

        Lowered and compiled it can be looked into: its memory, what devices exchange. The mesh's devices
        need not be here.
        """
        train_steps: Any = self._train_steps(due or (False,) * len(self._task.probes))
        number = jax.ShapeDtypeStruct((), wide(self._task.config.dtype))
        per_run = jax.ShapeDtypeStruct((2,), np.uint32), number, number  # as `per_run` has them
        own = jax.eval_shape(self.lay_out, self.state_shapes), self.input_source.batch_shapes(steps), per_run
        state, batch_inputs, per_run = _of_runs(own, runs)
        return train_steps.trace(state, self.input_source.train_shapes, batch_inputs, per_run)

    def train(
        self, state: State, batch_inputs: Any, per_run: Any, due: tuple[bool, ...]
    ) -> tuple[State, Metrics, Measured]:
        """Take the steps for which `input_source.training` gives `batch_inputs`, with the probes `due`.

        Metrics and measurements are [run, step, ...]. The arrays of `state` are donated.
        """
        train_steps: Any = self._train_steps(due)
        arguments = state, self.input_source.train_arrays, batch_inputs, per_run
        steps = len(jax.tree.leaves(batch_inputs)[0][0])
        self._check_memory("a step", (due, steps), train_steps, arguments)
        return train_steps(*arguments)

    def _check_memory(self, what: str, key: Any, jitted: Any, arguments: tuple) -> None:
        """Compile before the first call, which uses the result, and check that there is enough memory."""
        if key not in self._checked:
            compiled = jitted.lower(*arguments).compile()
            gradients = 0 if key == EVALUATION else nbytes(self.state_shapes.params)
            check_memory(what, compiled, self._task, self.mesh, gradients)
            self._checked.add(key)

    def evaluate(self, variables: Any, stop: Stop) -> list[dict[str, float]]:
        """The test loss and metrics of each run; empty if it was stopped."""
        examples, batch_size = self.input_source.test_examples, self._task.config.batch_size
        sums = []
        with self.input_source.testing() as batches:
            for first, batch_inputs in zip(range(0, examples, batch_size), batches, strict=True):
                stop.poll()
                if stop:
                    return []
                # The last batch is padded, so that every batch has one shape and every example counts once.
                counted = place(np.arange(first, first + batch_size) < examples, over_data(self.mesh))
                arguments = variables, self.input_source.test_arrays, batch_inputs, counted
                self._check_memory("an evaluation", EVALUATION, self._test_step, arguments)
                sums.append(self._test_step(*arguments))
                if len(sums) > IN_FLIGHT:
                    jax.block_until_ready(sums[-IN_FLIGHT])
                moved()
        batches = fetch(sums)
        totals = {
            name: np.array([batch[name] for batch in batches], np.float64).sum(0) for name in batches[0]
        }
        runs = len(next(iter(totals.values())))
        return [
            {f"test_{name}": float(total[run]) / examples for name, total in totals.items()}
            for run in range(runs)
        ]


def _of_runs(shapes: Any, runs: int) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((runs, *leaf.shape), leaf.dtype), shapes)
