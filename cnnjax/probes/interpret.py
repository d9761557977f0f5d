"""Computes a network's trace operation by operation, and watches its layers and joins."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence, Set
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Literal, jaxprs_in_params

from cnnjax.ops.conv import CONVOLVE
from cnnjax.ops.marks import JOIN
from cnnjax.probes import activation, control, response
from cnnjax.probes.control import bind, parts
from cnnjax.probes.flow import (
    Choice,
    Flow,
    Loop,
    Weight,
    follow,
    join,
    largest,
    sums_over_samples,
)
from cnnjax.probes.found import AtJoin, Call, Found, Join, Kernel, Measure, Records, Taps, Ways, first_of
from cnnjax.probes.response import Image, Output, Statistic
from cnnjax.probes.taps import fit, gate_gradient, tap


def contains_layers(jaxpr: Any) -> bool:
    """Whether a convolution, a product of matrices, or a look-up is somewhere inside."""
    return any(
        equation.primitive.name in _LAYERS or any(map(contains_layers, jaxprs_in_params(equation.params)))
        for equation in jaxpr.eqns
    )


class Interpreter:
    """Computes a jaxpr operation by operation, and watches."""

    def __init__(
        self,
        measure: Measure,
        samples: int,
        ways: Ways,
        taps: Taps | None = None,
        frozen: bool = False,
        at_join: AtJoin = gate_gradient,
        ends: Set[int] = frozenset(),
    ) -> None:
        self.measure, self.samples, self.ways, self.frozen = measure, samples, ways, frozen
        self.at_join, self.ends = at_join, ends
        self.taps = None if taps is None or taps.layers is None else iter(taps.layers)
        self.gates = None if taps is None or taps.joins is None else iter(taps.joins)
        self.found = Found()

    def run(
        self, jaxpr: Any, consts: Sequence[Any], values: Sequence[Any], flows: Sequence[Flow]
    ) -> list[Any]:
        """The results; what is known of them, and what was found, is in `found`."""
        known: dict[Any, tuple[Any, Flow]] = {}
        for variable, const in zip(jaxpr.constvars, consts, strict=True):
            known[variable] = const, Flow(carried=jnp.ndim(const) > 0)
        known.update(zip(jaxpr.invars, zip(values, flows, strict=True), strict=True))

        def read(variable: Any) -> tuple[Any, Flow]:
            if isinstance(variable, Literal):
                return variable.val, Flow(curve=activation.constant(variable.val))
            return known[variable]

        last = {v: n for n, e in enumerate(jaxpr.eqns) for v in e.invars if not isinstance(v, Literal)}
        kept = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
        for number, equation in enumerate(jaxpr.eqns):
            operands = [read(variable) for variable in equation.invars]
            results = self.step(equation, [value for value, _ in operands], [flow for _, flow in operands])
            known.update(zip(equation.outvars, zip(*results, strict=True), strict=True))
            for variable in equation.invars:  # arrays that nobody reads any more are let go
                if not isinstance(variable, Literal) and last[variable] == number and variable not in kept:
                    known.pop(variable, None)
        outs = [read(variable) for variable in jaxpr.outvars]
        self.found.flows = [flow for _, flow in outs]
        return [value for value, _ in outs]

    def step(
        self, equation: Any, values: list[Any], flows: list[Flow]
    ) -> tuple[Sequence[Any], Sequence[Flow]]:
        """The results of one operation, and what is known of them."""
        name = equation.primitive.name
        inner = next(iter(jaxprs_in_params(equation.params)), None)
        if inner is not None and name in _INLINED:
            outs = self.run(
                *parts(equation.params.get("jaxpr") or equation.params["call_jaxpr"]), values, flows
            )
            return outs, self.found.flows
        if name in control.INSIDE and any(map(contains_layers, jaxprs_in_params(equation.params))):
            _take(flows)
            return control.INSIDE[name](self, equation, values, flows)
        results = bind(equation, values)
        known = follow(equation, flows, self.samples)
        if any(flow.data for flow in known):
            known = [dataclasses.replace(flow, root=self.ways.roots.after(name, flows)) for flow in known]
        if sums_over_samples(equation, flows):
            self.found.ties_samples = True
            results = lax.stop_gradient(results) if self.frozen else results
        if name == "mark":
            return results, self.marked(equation, results, flows)
        if name in _LAYERS and (weight := _weight(name, flows)):
            number = 0 if flows[0].weights else 1
            units = _LAYERS[name](equation, number)
            _take(flows)
            operand = next(pair for pair in zip(values, flows, strict=True) if pair[1].data)
            kernel = Kernel(jnp.shape(values[number]), _KERNELS[name](equation, number))
            return self.layer(weight, results, known, units, operand, equation, kernel)
        role = response.follow(equation, values, flows, results)
        if role is None and name in ("add", "add_any"):
            results, known = self.addition(results, values, flows, known[0])
        if isinstance(role, Image) and role.output.response is results[0]:
            results = self.response(role.output, results, equation)
            curve = activation.identity(role.output)
        else:
            curve = activation.follow(equation, [flow.curve for flow in flows])
        if curve is None and not isinstance(role, Image | Statistic):
            _take(flows)
        of_others = role if isinstance(role, Statistic) else None  # mean and variance are one operation's
        others = [dataclasses.replace(flow, role=of_others) for flow in known[1:]]
        return results, [dataclasses.replace(known[0], role=role, curve=curve), *others]

    def layer(
        self,
        weight: Weight | Choice,
        results: list[Any],
        flows: list[Flow],
        units: tuple[int, ...],
        operand: tuple[Any, Flow],
        equation: Any,
        kernel: Kernel | None = None,
    ) -> tuple[list[Any], list[Flow]]:
        """Note a call of this operand by this operation, and tap its output."""
        number = self.ways.number(operand[1].root)
        call = Call(number, weight, equation, (len(self.found.calls),), kernel=kernel)
        value = results[0] if self.taps is None else tap(results[0], next(self.taps))
        call.output, call.operand = Output(value, value, units, flows[0].batch, self.samples), operand
        call.replaceable = operand[0].ndim == value.ndim and operand[0].dtype == value.dtype
        self.found.calls.append(call)
        value, *_ = self.response(call.output, [value], equation)
        flow = dataclasses.replace(
            flows[0],
            calls=flows[0].calls | 1 << call.number,
            root=self.ways.roots.new(),
            role=Image(call.output),
            curve=activation.identity(call.output),
            data=True,
            weights=(),
        )
        return [value, *results[1:]], [flow, *flows[1:]]

    def addition(
        self, results: Sequence[Any], values: list[Any], flows: list[Flow], flow: Flow
    ) -> tuple[Sequence[Any], list[Flow]]:
        """A sum, and what is known of it: if it is a join, it has passed the layers of its stream."""
        (a, b), (of_a, of_b) = values, flows
        calls = of_a.calls | of_b.calls
        if of_a.data and of_b.data and jnp.shape(a) == jnp.shape(b):
            for stream, branch, (of_stream, of_branch) in ((a, b, (of_a, of_b)), (b, a, (of_b, of_a))):
                if self.ways.join(of_stream, of_branch):
                    start = self.operand(first_of(of_branch.calls & ~of_stream.calls))
                    before = of_stream.calls if start is None else start[1].calls
                    own, shared = of_branch.calls & ~before, of_stream.calls & of_branch.calls
                    summands = self.join(stream, branch, own, start, shared)
                    root = self.ways.roots.new([of_stream.root])
                    known = [dataclasses.replace(flow, calls=of_stream.calls, root=root)]
                    changed = summands[0] is not stream or summands[1] is not branch
                    return [summands[0] + summands[1]] if changed else results, known
        return results, [dataclasses.replace(flow, calls=calls)]

    def operand(self, number: int) -> tuple[Any, Flow] | None:
        """What that call takes, if it is of this function."""
        return next((call.operand for call in self.found.calls if call.number == number), None)

    def join(
        self, stream: Any, branch: Any, calls: int, start: tuple[Any, Flow] | None, shared: int
    ) -> tuple[Any, Any]:
        """Note a join; stream and branch as they are to be added.

        `start` is the block's input, and `shared` are the layers that both ways have passed, before the block
        or in it.
        """
        place, addends = (len(self.found.joins),), (stream, branch)
        self.found.joins.append(Join(calls, place, shortcut=shared != NO_STREAM, addends=addends))
        if self.gates is None:
            return stream, branch

        def absent() -> Any:
            if start is None or not shared & ~start[1].calls:
                return jnp.zeros((), branch.dtype)
            return fit(start[0], jnp.shape(branch)).astype(branch.dtype) - stream

        return self.at_join(next(self.gates), stream, branch, absent)

    def response(self, output: Output, results: Sequence[Any], equation: Any) -> list[Any]:
        """Note the operation that completes a layer's response; if `ends` has it, a block ends there."""
        call = next((call for call in self.found.calls if call.output is output), None)
        if call is None:  # it is of another function, such as one inside `remat`
            return list(results)
        call.response_at = equation
        if id(equation) not in self.ends:
            return list(results)
        nothing = jnp.zeros((), results[0].dtype)
        _, value = self.join(nothing, results[0], 1 << call.number, call.operand, NO_STREAM)
        output.response = value
        output.z = value if output.z is results[0] else output.z
        return [value, *results[1:]]

    def marked(self, equation: Any, results: list[Any], flows: list[Flow]) -> list[Flow]:
        """What a mark says."""
        if equation.params["meaning"] == JOIN:
            stream, branch, start = flows
            shared = stream.calls & branch.calls if stream.data else NO_STREAM
            own = branch.calls & ~start.calls
            results[:2] = self.join(results[0], results[1], own, (results[2], start), shared)
            calls = stream.calls if stream.data else branch.calls
            return [stream, dataclasses.replace(branch, calls=calls), start]  # their sum is no second join
        output, kernel = flows
        if not kernel.weights:
            return flows
        weight = largest(kernel.weights)
        for call in self.found.calls:
            call.hidden |= call.weight == weight
        units = (jnp.ndim(results[0]) - 1,)
        operand = (results[0], output)
        results[:1], (flow,) = self.layer(weight, results[:1], [output], units, operand, equation)
        self.found.calls[-1].replaceable = False  # what the marked layer takes is not known
        return [flow, kernel]

    def inside(
        self, jaxpr: Any, flows: Sequence[Flow], samples: int | None = None
    ) -> tuple[Callable[..., tuple[list, Records]], Found]:
        """A function of (taps, values) to (results, records), and what is found when it is traced.

        `samples` is how many there are inside; by default as many as outside.
        """
        jaxpr, consts, *_ = parts(jaxpr)
        found = Found()
        flows = [dataclasses.replace(flow, role=None, curve=None) for flow in flows]

        def run(taps: Taps | None, values: Sequence[Any]) -> tuple[list[Any], Records]:
            interpreter = Interpreter(
                self.measure, samples or self.samples, self.ways, taps, self.frozen, self.at_join, self.ends
            )
            results = interpreter.run(jaxpr, consts, values, flows)
            records = interpreter.records()
            found.__dict__.update(interpreter.found.__dict__)
            return results, records

        return run, found

    def look_inside(self, jaxpr: Any, flows: Sequence[Flow]) -> tuple[Found, Records]:
        """What is inside, and the shapes of its records; nothing is computed."""
        run, found = self.inside(jaxpr, flows)
        inputs = [variable.aval for variable in parts(jaxpr)[0].invars]
        return found, jax.eval_shape(lambda *values: run(None, values)[1], *inputs)

    def records(self) -> Records:
        """Of the calls and joins, in the order in which they were found."""
        _take(self.found.flows)  # results go to what is outside, where curves end
        for call in self.found.calls:
            if call.output is not None:
                call.record = self.measure.layer(call.output.constant())
                call.units, call.shape, scale = call.output.units, call.output.shape, call.output.scale
                call.unit_count = call.output.number_of_units
                call.activation = activation.name_of(call.output.curve)
                bias = call.output.bias if call.output.normalized else ()
                call.scale, call.bias = (largest(these) if these else None for these in (scale, bias))
                call.output = call.operand = None
        for each in self.found.joins:
            if each.addends is not None:
                each.record, each.addends = self.measure.join(*map(lax.stop_gradient, each.addends)), None
        return [call.record for call in self.found.calls], [each.record for each in self.found.joins]

    def begins(self, flow: Flow) -> Flow:
        """The same at the beginning of a loop's iteration, where it has no history."""
        return dataclasses.replace(flow, root=self.ways.roots.new())

    def one_of(self, flows: Sequence[Flow]) -> Flow:
        """What is known of a value that is one of several."""
        return dataclasses.replace(join(flows), root=self.ways.roots.new(flow.root for flow in flows))

    def some_taps(self, found: Found) -> Taps | None:
        """Those of the layers and joins inside of what comes next."""
        layers = None if self.taps is None else list(itertools.islice(self.taps, len(found.calls)))
        gates = None if self.gates is None else list(itertools.islice(self.gates, len(found.joins)))
        return None if layers is None and gates is None else Taps(layers, gates)

    def adopt(self, found: Found, records: Records, loop: Loop | None = None, tapped: bool = True) -> None:
        """Take over what was found inside."""
        self.found.ties_samples |= found.ties_samples
        loops = () if loop is None else (loop,)
        for mine, theirs, values in zip(
            (self.found.calls, self.found.joins), (found.calls, found.joins), records, strict=True
        ):
            base = len(mine)
            for each, record in zip(theirs, values, strict=True):
                place = (base, *loops, *each.place)
                mine.append(
                    dataclasses.replace(each, place=place, loops=(*loops, *each.loops), record=record)  # pyright: ignore
                )
        if not tapped:
            for call in self.found.calls[len(self.found.calls) - len(found.calls) :]:
                call.tapped = False


def _take(flows: Sequence[Flow]) -> None:
    """Note what layers' responses have become where something else takes them."""
    for curve in (flow.curve for flow in flows):
        output = curve and curve.output
        if output and (output.curve is None or output.curve.values is activation.GRID):
            output.curve = curve


NO_STREAM = -1
"""Stands for the layers that branch and stream share where there is no stream: as if for all."""
_INLINED = ("jit", "pjit", "closed_call", "core_call")


def _weight(name: str, flows: Sequence[Flow]) -> Weight | Choice | None:
    """The parameter that an operation of `_LAYERS` applies to data, if it does."""
    first, second = flows[:2]
    if first.data and second.weights and name != "gather":
        return largest(second.weights)
    if second.data and first.weights:
        return largest(first.weights)
    return None


def _units_of_dot(equation: Any, number: int) -> tuple[int, ...]:
    """The axes of a product's result that its operand `number`, the kernel, gives."""
    contracted, batched = equation.params["dimension_numbers"]
    shared = len(batched[0])
    free = [equation.invars[n].aval.ndim - len(contracted[n]) - shared for n in range(2)]
    first = shared if number == 0 else shared + free[0]
    return (*range(shared), *range(first, first + free[number]))


def _units_of_conv(equation: Any, number: int) -> tuple[int, ...]:
    return (equation.params["dimension_numbers"].out_spec[1],)


def _units_of_gather(equation: Any, number: int) -> tuple[int, ...]:
    return tuple(equation.params["dimension_numbers"].offset_dims)


_LAYERS: dict[str, Callable[[Any, int], tuple[int, ...]]] = {
    "dot_general": _units_of_dot,
    "conv_general_dilated": _units_of_conv,
    "gather": _units_of_gather,
    CONVOLVE: lambda equation, number: (3,),
}
"""Operations that may be layers, and the axes of their results that the kernel gives."""


def _free_of_dot(equation: Any, number: int) -> tuple[int, ...]:
    """The axes of the kernel, operand `number` of a product, that are not summed over."""
    contracted, _ = equation.params["dimension_numbers"]
    axes = range(equation.invars[number].aval.ndim)
    return tuple(axis for axis in axes if axis not in contracted[number])


_KERNELS: dict[str, Callable[[Any, int], tuple[int, ...]]] = {
    "dot_general": _free_of_dot,
    "conv_general_dilated": lambda equation, number: (equation.params["dimension_numbers"].rhs_spec[0],),
    "gather": lambda equation, number: tuple(equation.params["dimension_numbers"].start_index_map),
    CONVOLVE: lambda equation, number: (3,),
}
"""The same operations, and the axes of the kernel along which its units differ; of a table, its rows."""
