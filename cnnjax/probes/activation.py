"""Which activation follows a layer, by what it computes.

From a layer's response on, operations that treat each number by itself are applied to a grid of numbers, too.
The value that something else takes then has a curve over that grid, which is compared with those that have a
name.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from cnnjax.probes.response import KEEPS, MOVES, Output

GRID = np.linspace(-8, 8, 65, dtype=np.float32)
KNOWN: dict[str, Callable[[Any], Any]] = {
    "identity": lambda x: x,
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "gelu": jax.nn.gelu,
    "exact gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "silu": jax.nn.silu,
    "leaky relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "softplus": jax.nn.softplus,
    "softsign": jax.nn.soft_sign,
    "relu6": jax.nn.relu6,
    "hard tanh": jax.nn.hard_tanh,
    "hard sigmoid": jax.nn.hard_sigmoid,
    "hard silu": jax.nn.hard_silu,
    "mish": jax.nn.mish,
    "squared relu": lambda x: jnp.square(jax.nn.relu(x)),
    "scaled tanh": lambda x: 1.7159 * jnp.tanh(2 / 3 * x),
    "abs": jnp.abs,
    "sine": jnp.sin,
}
ELEMENTWISE = {
    "abs", "add", "and", "atan", "cbrt", "ceil", "clamp", "cos", "cosh", "div", "eq", "erf", "erf_inv",
    "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "is_finite", "le", "log",
    "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "not", "or", "pow", "rem", "round",
    "rsqrt", "select_n", "sign", "sin", "sinh", "sqrt", "square", "sub", "tan", "tanh", "xor",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """A value's numbers where the response's are `GRID`; without an output, one constant number."""

    values: Any
    output: Output | None = None


def constant(value: Any) -> Curve | None:
    """The curve of a literal of the trace."""
    return Curve(np.asarray(value)) if np.ndim(value) == 0 else None


def follow(equation: Any, curves: Sequence[Curve | None]) -> Curve | None:
    """The curve of an operation's first result; None if it is more than a function of each number."""
    known = [curve for curve in curves if curve is not None]
    outputs = {id(curve.output): curve.output for curve in known if curve.output is not None}
    if len(known) != len(curves) or not known or len(outputs) > 1:
        return None
    name, output = equation.primitive.name, next(iter(outputs.values()), None)
    if name in MOVES + KEEPS:
        return known[0]
    if (inner := equation.params.get("call_jaxpr") or equation.params.get("jaxpr")) is not None:
        return _inside(inner, known) if name in _CALLS else None
    if name not in ELEMENTWISE:
        return None
    shape = GRID.shape if output else ()
    with jax.ensure_compile_time_eval():
        operands = (jnp.broadcast_to(_wide(curve.values), shape) for curve in known)
        return Curve(np.asarray(equation.primitive.bind(*operands, **equation.params)), output)


_CALLS = ("jit", "pjit", "custom_jvp_call", "custom_vjp_call")


def _inside(closed: Any, curves: Sequence[Curve]) -> Curve | None:
    """The curve of a function's first result."""
    jaxpr = getattr(closed, "jaxpr", closed)
    known: dict[Any, Curve | None] = dict(zip(jaxpr.invars, curves, strict=True))

    def read(variable: Any) -> Curve | None:
        return constant(variable.val) if isinstance(variable, Literal) else known.get(variable)

    for equation in jaxpr.eqns:
        known[equation.outvars[0]] = follow(equation, [read(variable) for variable in equation.invars])
    return read(jaxpr.outvars[0])


def _wide(values: Any) -> Any:
    """All numbers in float32: curves need no other type."""
    return values if np.asarray(values).dtype.kind == "b" else np.asarray(values, np.float32)


def identity(output: Output) -> Curve:
    """Of the response itself."""
    return Curve(GRID, output)


def name_of(curve: Curve | None) -> str:
    """The activation that has this curve, "identity" if it is straight; "other" if none of `KNOWN` has."""
    if curve is None or np.allclose(np.diff(np.float32(curve.values), 2), 0, atol=1e-4):
        return "identity"
    matches = (name for name, values in _known().items() if np.allclose(curve.values, values, atol=1e-4))
    return next(matches, "other")


@functools.cache
def _known() -> dict[str, np.ndarray]:
    with jax.ensure_compile_time_eval():
        return {name: np.asarray(function(GRID)) for name, function in KNOWN.items()}
