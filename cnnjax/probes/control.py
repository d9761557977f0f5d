"""How the interpreter goes on inside of operations that hold a trace of their own."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.sharding import PartitionSpec

from cnnjax.probes.flow import Choice, Flow, Loop, Weight, join, largest

if TYPE_CHECKING:
    from cnnjax.probes.found import Found
    from cnnjax.probes.interpret import Interpreter


def _remat(self: "Interpreter", equation: Any, values: list[Any], flows: list[Flow]):
    run, found = self.inside(equation.params["jaxpr"], flows)
    taps = self.some_taps(self.look_inside(equation.params["jaxpr"], flows)[0])
    options = {name: equation.params[name] for name in ("policy", "prevent_cse")}
    results, records = jax.checkpoint(run, **options)(taps, values)
    self.adopt(found, records)
    return results, found.flows


def _scan(self: "Interpreter", equation: Any, values: list[Any], flows: list[Flow]):
    params, body = equation.params, equation.params["jaxpr"]
    first, number = scan_counts(equation)
    end = first + number
    loop = Loop(params["length"], params["reverse"])
    consts, carried = flows[:first], list(map(self.begins, flows[first:end]))
    sliced = [self.begins(_slice(flow, loop)) for flow in flows[end:]]
    while True:
        seen, _ = self.look_inside(body, [*consts, *carried, *sliced])
        after = [self.begins(join(pair)) for pair in zip(carried, seen.flows, strict=False)]
        if after == carried:
            break
        carried = after
    run, found = self.inside(body, [*consts, *carried, *sliced])

    def step(carry: list[Any], each: tuple[list[Any], Any]):
        results, records = run(each[1], [*values[:first], *carry, *each[0]])
        return results[: end - first], (results[end - first :], records)

    carry, (stacked, records) = lax.scan(
        step,
        values[first:end],
        (values[end:], self.some_taps(seen)),
        length=params["length"],
        reverse=params["reverse"],
        unroll=params["unroll"],
    )
    self.adopt(found, records, loop)
    known = [_outside(flow, loop) for flow in found.flows]
    batches = (None if flow.batch is None else flow.batch + 1 for flow in known[end - first :])
    return [*carry, *stacked], [
        *(self.one_of(pair) for pair in zip(flows[first:end], known, strict=False)),
        *(
            dataclasses.replace(f, batch=batch)
            for f, batch in zip(known[end - first :], batches, strict=True)
        ),
    ]


def _cond(self: "Interpreter", equation: Any, values: list[Any], flows: list[Flow]):
    branches = equation.params["branches"]
    (index, *operands), (of_index, *known) = values, flows
    seen = [self.look_inside(branch, known) for branch in branches]
    shapes = [records for _, records in seen]
    inside = [self.inside(branch, known) for branch in branches]
    taps = [self.some_taps(found) for found, _ in seen]

    def branch(number: int) -> Callable[..., Any]:
        def run(taps: list[Any], operands: list[Any]) -> tuple[list[Any], list[Any]]:
            results, records = inside[number][0](taps[number], operands)
            return results, [records if n == number else nan_like(shape) for n, shape in enumerate(shapes)]

        return run

    results, records = lax.switch(index, [branch(n) for n in range(len(branches))], taps, operands)
    for (_, found), record in zip(inside, records, strict=True):
        self.adopt(found, record)
    after = [self.one_of(flows) for flows in zip(*(found.flows for _, found in inside), strict=True)]
    return results, [dataclasses.replace(f, data=f.data or of_index.data) for f in after]


def _while(self: "Interpreter", equation: Any, values: list[Any], flows: list[Flow]):
    params = equation.params
    first, start = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    condition, consts = values[:first], flows[first:start]
    carried = list(map(self.begins, flows[start:]))
    while True:
        seen, shape = self.look_inside(params["body_jaxpr"], [*consts, *carried])
        after = [self.begins(join(pair)) for pair in zip(carried, seen.flows, strict=True)]
        if after == carried:
            break
        carried = after
    self.some_taps(seen)
    run, found = self.inside(params["body_jaxpr"], [*consts, *carried])
    cond_jaxpr, cond_consts, *_ = parts(params["cond_jaxpr"])

    def goes_on(carry: tuple[list[Any], Any]) -> Any:
        return jaxpr_as_fun(ClosedJaxpr(cond_jaxpr, cond_consts))(*condition, *carry[0])[0]

    def step(carry: tuple[list[Any], Any]) -> tuple[list[Any], Any]:
        return run(None, [*values[first:start], *carry[0]])

    results, records = lax.while_loop(goes_on, step, (values[start:], nan_like(shape)))
    self.adopt(found, records, tapped=False)
    return results, [self.one_of(pair) for pair in zip(flows[start:], found.flows, strict=True)]


def _custom(self: "Interpreter", equation: Any, values: list[Any], flows: list[Flow]):
    """A function that has a derivative of its own, which is kept."""
    jaxpr = equation.params["call_jaxpr"]
    seen, _ = self.look_inside(jaxpr, flows)
    results = bind(equation, values)
    if len(seen.calls) == 1 and len(results) == 1 and not seen.calls[0].loops:
        return _opaque(self, seen, results, values, flows)
    if not seen.calls:
        return results, seen.flows
    run, found = self.inside(jaxpr, flows)
    self.some_taps(seen)
    _, records = run(None, list(map(lax.stop_gradient, values)))
    self.adopt(found, records, tapped=False)
    return results, found.flows


def _opaque(self: "Interpreter", seen: "Found", results: list[Any], values: list[Any], flows: list[Flow]):
    """A function with one layer inside is that layer."""
    (flow,), (call,) = seen.flows, seen.calls
    known = [dataclasses.replace(flow, calls=flow.calls & ~(1 << call.number))]
    value, taken = next(pair for pair in zip(values, flows, strict=True) if pair[1].data)
    operand = value, dataclasses.replace(taken, root=self.ways.operand(call.number))
    return self.layer(call.weight, results, known, call.units, operand, call.equation, call.kernel)


def _shard_map(self: "Interpreter", equation: Any, values: list[Any], flows: list[Flow]):
    """A function of each device's part. Of several layers inside, each device measures its own part."""
    params = equation.params
    divisor = _devices_of_batch(params["mesh"], params["in_specs"], flows)
    run, found = self.inside(params["jaxpr"], flows, self.samples // divisor)
    axes = tuple(params["newly_manual_axes"])
    each, devices = PartitionSpec(axes), math.prod(params["mesh"].shape[axis] for axis in axes)

    def of_device(taps: Any, *values: Any) -> Any:
        results, records = run(jax.tree.map(lambda tap: tap[0], taps), values)
        return tuple(results), jax.tree.map(lambda record: record[None], records)

    def of_all(taps: Any) -> Any:
        return jax.shard_map(
            of_device,
            mesh=params["mesh"],
            in_specs=(each, *params["in_specs"]),
            out_specs=(tuple(params["out_specs"]), each),
            axis_names=set(axes),
            check_vma=params["check_vma"],
        )(jax.tree.map(lambda tap: spread(tap, devices), taps), *values)

    jax.eval_shape(of_all, None)
    if len(found.calls) == 1 and len(equation.outvars) == 1 and not found.calls[0].loops and not found.joins:
        return _opaque(self, found, bind(equation, values), values, flows)
    results, records = of_all(self.some_taps(found))
    of_calls, of_joins = ([self.measure.over_devices(record) for record in part] for part in records)
    self.adopt(found, (of_calls, of_joins))
    return results, found.flows


def _devices_of_batch(mesh: Any, specs: Sequence[Any], flows: Sequence[Flow]) -> int:
    """Over how many devices the samples are divided."""
    for spec, flow in zip(specs, flows, strict=True):
        if flow.batch is not None:
            names = (spec[flow.batch] if flow.batch < len(spec) else None) or ()
            return math.prod(mesh.shape[name] for name in ((names,) if isinstance(names, str) else names))
    return 1


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def spread(tap: jax.Array, devices: int) -> jax.Array:
    """A tap for each device; what comes back to it is the norm of what comes back to them."""
    return jnp.broadcast_to(tap, (devices, *tap.shape))


spread.defvjp(
    lambda tap, devices: (spread(tap, devices), None),
    lambda devices, _, norms: (jnp.sqrt(jnp.sum(jnp.square(norms), 0)),),
)


INSIDE: dict[str, Callable[..., tuple[Sequence[Any], Sequence[Flow]]]] = {
    "remat2": _remat,
    "checkpoint": _remat,
    "scan": _scan,
    "cond": _cond,
    "while": _while,
    "shard_map": _shard_map,
    "custom_jvp_call": _custom,
    "custom_vjp_call": _custom,
}


def scan_counts(equation: Any) -> tuple[int, int]:
    """How many constants and carried values a scan has, by shapes: versions of JAX differ in parameters."""
    inner, _ = parts(equation.params["jaxpr"])
    whole, carried = (
        sum(one.aval.ndim == other.aval.ndim for one, other in zip(outer, within, strict=True))
        for outer, within in ((equation.invars, inner.invars), (equation.outvars, inner.outvars))
    )
    return whole - carried, carried


def parts(jaxpr: Any) -> tuple[Any, Sequence[Any]]:
    """A jaxpr and its constants."""
    return (jaxpr.jaxpr, jaxpr.consts) if isinstance(jaxpr, ClosedJaxpr) else (jaxpr, ())


def _slice(flow: Flow, loop: Loop) -> Flow:
    """What an iteration takes of a value along its first axis."""
    batch = None if not flow.batch else flow.batch - 1
    if len(flow.stacked) == loop.length:
        each = tuple(largest(one.weights) for one in flow.stacked if one.weights)
        weights = (Choice(loop, each),) if len(each) == loop.length else ()
    else:
        weights = tuple(
            dataclasses.replace(w, index=(*w.index, loop)) if isinstance(w, Weight) else w
            for w in flow.weights
        )
    return dataclasses.replace(flow, batch=batch, weights=weights, stacked=(), role=None)


def _outside(flow: Flow, loop: Loop) -> Flow:
    """What is known of an iteration's value when its loop has ended."""
    weights = []
    for weight in flow.weights:
        if isinstance(weight, Choice):
            weights += weight.options if weight.loop is loop else [weight]
        else:
            index = weight.index[: weight.index.index(loop)] if loop in weight.index else weight.index
            weights.append(dataclasses.replace(weight, index=index))
    return dataclasses.replace(flow, weights=tuple(dict.fromkeys(weights)), role=None)


def nan_like(shapes: Any) -> Any:
    """A tree of these shapes, for what was not computed."""
    return jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), shapes)


def bind(equation: Any, values: Sequence[Any]) -> list[Any]:
    """The results of an operation."""
    params = equation.primitive.get_bind_params(equation.params)
    if isinstance(params, tuple):  # functions apart, until jax 0.10
        functions, params = params
        values = [*functions, *values]
    with equation.ctx.manager:
        results = equation.primitive.bind(*values, **params)
    return list(results) if equation.primitive.multiple_results else [results]
