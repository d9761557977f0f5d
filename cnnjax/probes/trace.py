"""The layers of any network, found in its trace.

In a trace all libraries look alike. A convolution or a matrix product of which one operand descends from a
parameter, and the other from the network's input, is a layer, and so is a look-up in a parameter by the input
(an embedding). It is called by its parameter's path; the order of the calls is the depth. Where a kernel is
made of several parameters (weight normalisation, LoRA) the layer is the largest one's.

`trace` finds the layers. `Trace.run` computes the network as it is, shows each layer's output and response to
a `Measure`, and taps what comes back: a tap is an identity with a second argument, whose gradient is not that
of the identity but the norm of the gradient that passes. So no activation is kept for the probe's sake.

Inside `jit`, `remat`, `vmap` and `cond` layers are found as everywhere. In `scan` each iteration is a call.
Of `while` the last iteration is measured, and nothing comes back. A function with a derivative of its own
(`custom_jvp`, `custom_vjp`) keeps it: a single layer inside is measured at the function's result; of several
the outputs are measured, but not what comes back.

An addition joins a residual branch to its stream if one operand, the branch, has passed more layers since
both were one value. If they have passed equally many, it is no join. What joins have made has passed the
layers of its stream alone. Where this fails, `cnnjax.ops.marks` says what is meant. What is added can be
changed there (`AtJoin`): blocks are closed, or gradients led along branch or shortcut alone.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from cnnjax.network.base import path_names
from cnnjax.ops.depth import is_stack, slice_path
from cnnjax.probes.flow import Flow, Loop, Names, Weight
from cnnjax.probes.found import AtJoin, Call, Found, Join, Measure, Record, Records, Taps, Ways
from cnnjax.probes.interpret import Interpreter
from cnnjax.probes.response import Output
from cnnjax.probes.taps import gate_gradient

Iterations = dict[Loop, int]


@struct.dataclass
class Watched:
    """What was measured of a network's layers in a forward and backward pass.

    Attributes:
        of_layers: arrays [layer] by the names that the `Measure` gave.
        of_joins: arrays [block] by its names.
        gradient_norms: [layer], Euclidean, of the loss's gradient by a layer's output, for the whole batch.
        names: of the layers, in the order of the calls.
        blocks: names of the joins.
        activations: what each layer's response goes through next.
        weights: for each layer, the parameter that it is called by.
        scales: for each, the parameter that its normalisation multiplies by, or None.
    """

    of_layers: dict[str, jax.Array]
    of_joins: dict[str, jax.Array]
    gradient_norms: jax.Array
    names: tuple[str, ...] = struct.field(pytree_node=False)
    blocks: tuple[str, ...] = struct.field(pytree_node=False)
    activations: tuple[str, ...] = struct.field(pytree_node=False)
    weights: tuple[Weight, ...] = struct.field(pytree_node=False)
    scales: tuple[Weight | None, ...] = struct.field(pytree_node=False)


class Nothing:
    """A `Measure` that records nothing."""

    def layer(self, output: Output) -> Record:
        """Nothing."""
        return {}

    def join(self, stream: jax.Array, branch: jax.Array) -> Record:
        """Nothing."""
        return {}

    def over_devices(self, record: Record) -> Record:
        """Nothing."""
        return {}


NOTHING = Nothing()


class Trace:
    """A function of (parameters, inputs), such as a network's forward pass, and its layers.

    Attributes:
        layers: their names, in the order of the calls.
        weights: for each, the parameter that it is called by.
        scales: for each, the parameter that its normalisation multiplies by, or None.
        biases: for each, the parameter that is added to its output before a normalisation, or None.
        kernels: for each, its weights as the operation takes them; None where a mark makes the layer.
        units: for each, how many of its outputs have weights of their own.
        shapes: of each one's output, for one sample.
        activations: what each one's response goes through next (`cnnjax.probes.activation`).
        parameters: the name of each layer's parameter, once each.
        ties_samples: whether a sample's output depends on the others: something is summed over them.
        jaxpr: the trace itself, whose arguments are the leaves of the parameters and the inputs.
        equations: for each layer, the operation of the trace that it is.
        blocks: the joins in their order, by what the names of their branches' layers have in common.
        shortcuts: for each, whether there is something that the branch is added to.
    """

    def __init__(
        self,
        function: Callable[[Any, Any], Any],
        params: Any,
        inputs: Any,
        measure: Measure = NOTHING,
        frozen: bool = False,
        at_join: AtJoin = gate_gradient,
        layers_are_blocks: bool = False,
    ) -> None:
        """Trace `function` at these shapes.

        Args:
            function: of parameters and inputs.
            params: a tree of arrays.
            inputs: arrays [sample, ...].
            measure: what `run` records.
            frozen: in `run`, what is summed over the samples counts as constant.
            at_join: what `run` does where a branch joins its stream, given a number for each block.
            layers_are_blocks: in a network without joins each layer counts as a block, if its input can take
                the place of its response; the last one does not.
        """
        jaxpr, shapes = jax.make_jaxpr(function, return_shape=True)(params, inputs)
        self.jaxpr: Any = jaxpr.jaxpr
        self._jaxpr, self._structure = jaxpr, jax.tree.structure(shapes)
        self._measure, self._frozen, self._at_join = measure, frozen, at_join
        self._ends: frozenset[int] = frozenset()
        leaves = jax.tree.leaves(inputs)
        self._samples = leaves[0].shape[0]
        self._known = [
            *(Flow(weights=(Weight(path, leaf.size),)) for path, leaf in by_path(params).items()),
            *(Flow(data=True, batch=0 if leaf.shape else None) for leaf in leaves),
        ]
        found = self._look(params, inputs)
        if layers_are_blocks and not found.joins:
            calls = [call for call in found.calls if call.replaceable and not call.hidden]
            self._ends = frozenset(id(call.response_at) for call in calls if call is not found.calls[-1])
            found = self._look(params, inputs)
        self._calls: list[Call] = found.calls
        self._joins: list[Join] = found.joins
        self._call_rows, join_rows = _rows(found.calls), _rows(found.joins)
        calls = [(found.calls[number], iterations) for number, iterations in self._call_rows]
        joins = [(found.joins[number], iterations) for number, iterations in join_rows]
        self._order = tuple(_order(*of) for of in ((found.calls, self._call_rows), (found.joins, join_rows)))
        self.weights = tuple(call.weight.at(iterations) for call, iterations in calls)
        self.scales = tuple(call.scale and call.scale.at(iterations) for call, iterations in calls)
        self.biases = tuple(call.bias and call.bias.at(iterations) for call, iterations in calls)
        modules = _modules({call.weight.at(iterations) for call, iterations in calls})
        self.kernels = tuple(call.kernel for call, _ in calls)
        self.units = tuple(call.unit_count for call, _ in calls)
        self.shapes = tuple(call.shape for call, _ in calls)
        self.activations = tuple(call.activation for call, _ in calls)
        self.equations = tuple(call.equation for call, _ in calls)
        self.ties_samples: bool = found.ties_samples
        self.parameters = {weight: modules[weight] for weight in self.weights}
        self.layers = _numbered([modules[weight] for weight in self.weights])
        self.shortcuts = tuple(join.shortcut for join, _ in joins)
        self.blocks = _numbered([self._block(join, iterations, modules) for join, iterations in joins])

    def taps(self, joins: jax.Array | None = None) -> Taps:
        """Zeros, to differentiate by: the gradient by a tap is the norm of that by the layer's output.

        `joins` [block] are factors of the gradient that goes back into each block's branch; 0 makes the
        backward pass that of the identity in the block's place.
        """
        zeros = [jnp.zeros(shape, jnp.result_type(float)) for shape in map(_loop_shape, self._calls)]
        return Taps(zeros, None if joins is None else self._gates(joins))

    def gates(self, joins: jax.Array) -> Taps:
        """A number for each block, [block], for `at_join`; nothing is tapped."""
        return Taps(None, self._gates(joins))

    def _look(self, params: Any, inputs: Any) -> Found:
        """What is in the trace."""
        interpreter = self._interpreter(None)

        def look(*values: Any) -> None:
            interpreter.run(self._jaxpr.jaxpr, self._jaxpr.consts, values, self._known)
            interpreter.records()

        jax.eval_shape(look, *jax.tree.leaves((params, inputs)))
        return interpreter.found

    def _gates(self, joins: jax.Array) -> list[jax.Array]:
        order, shapes = self._order[1], [_loop_shape(join) for join in self._joins]
        flat, gates, start = jnp.zeros(len(order), joins.dtype).at[order].set(joins), [], 0
        for shape in shapes:
            gates.append(flat[start : (start := start + math.prod(shape))].reshape(shape))
        return gates

    def run(self, params: Any, inputs: Any, taps: Taps | None = None) -> tuple[Any, Records]:
        """The function's result, and what was measured of the calls and joins; see `watched`."""
        interpreter = self._interpreter(taps)
        values = interpreter.run(
            self._jaxpr.jaxpr, self._jaxpr.consts, jax.tree.leaves((params, inputs)), self._known
        )
        return jax.tree.unflatten(self._structure, values), interpreter.records()

    def watched(self, records: Records, tapped: Taps) -> "Watched":
        """What was measured, in order, from what `run` gave and the loss's gradient by the taps."""
        of_layers, of_joins = (
            {name: _in_order([record[name] for record in each], order) for name in (each[0] if each else ())}
            for each, order in zip(records, self._order, strict=True)
        )
        norms = [
            norm if call.tapped else jnp.full_like(norm, jnp.nan)
            for norm, call in zip(tapped.layers or (), self._calls, strict=True)
        ]
        return Watched(
            of_layers=of_layers,
            of_joins=of_joins,
            gradient_norms=_in_order(norms, self._order[0]),
            names=self.layers,
            blocks=self.blocks,
            activations=self.activations,
            weights=self.weights,
            scales=self.scales,
        )

    def _interpreter(self, taps: Taps | None) -> Interpreter:
        return Interpreter(
            self._measure, self._samples, Ways(), taps, self._frozen, self._at_join, self._ends
        )

    def _block(self, join: Join, iterations: Iterations, modules: dict[Weight, str]) -> str:
        paths = []
        for call in self._calls:
            if join.calls >> call.number & 1:
                weight = call.weight.at({loop: iterations.get(loop, 0) for loop in call.loops})
                paths.append(modules[weight].split("/"))
        common = []
        for names in zip(*paths, strict=False):
            if len(set(names)) > 1:
                break
            common.append(names[0])
        return "/".join(common)


def by_path(tree: Any) -> dict[Names, Any]:
    """The arrays of a tree by the path of each, in the tree's order."""
    return {path_names(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _rows(found: Sequence[Call] | Sequence[Join]) -> list[tuple[int, Iterations]]:
    """Each call or join, by its number, with each iteration of the loops around it; in their order."""
    rows = []
    for number, each in enumerate(found):
        if isinstance(each, Call) and each.hidden:
            continue
        for index in np.ndindex(*(loop.length for loop in each.loops)):
            iterations = dict(zip(each.loops, index, strict=True))
            when = [
                loop.position(iterations[loop]) if isinstance(loop, Loop) else loop for loop in each.place
            ]
            rows.append((when, number, iterations))
    return [row[1:] for row in sorted(rows, key=lambda row: row[0])]


def _loop_shape(each: Call | Join) -> tuple[int, ...]:
    """The shape of what each iteration of the loops around it has one of."""
    return tuple(loop.length for loop in each.loops)


def _order(found: Sequence[Call] | Sequence[Join], rows: list[tuple[int, Iterations]]) -> np.ndarray:
    """For each row its position among the entries of all arrays [*loops], one after the other."""
    shapes = [_loop_shape(each) for each in found]
    starts = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])
    return np.array(
        [
            starts[number] + (np.ravel_multi_index(tuple(its.values()), shapes[number]) if its else 0)
            for number, its in rows
        ],
        int,
    )


def _in_order(values: Sequence[jax.Array], order: np.ndarray) -> jax.Array:
    return jnp.concatenate([jnp.ravel(value) for value in values])[order] if values else jnp.zeros(0)


def _modules(weights: set[Weight]) -> dict[Weight, str]:
    """A name for each: the path of its module, unless others are there too, or it is in none."""
    others: dict[Names, set[Names]] = defaultdict(set)
    for weight in weights:
        others[weight.path[:-1]].add(weight.path)
    names = {}
    for weight in weights:
        path, index = weight.path, [i for i in weight.index if isinstance(i, int)]
        if index and is_stack(path):
            path = slice_path(path, index.pop(0))
        if len(path) > 1 and len(others[weight.path[:-1]]) == 1:
            path = path[:-1]
        names[weight] = "/".join(path) + "".join(f"[{i}]" for i in index)
    return names


def _numbered(names: Sequence[str]) -> tuple[str, ...]:
    """The same, with a number where a name comes more than once."""
    total, seen, numbered = Counter(names), Counter(), []
    for name in names:
        numbered.append(f"{name}[{seen[name]}]" if total[name] > 1 else name)
        seen[name] += 1
    return tuple(numbered)
