"""Vital signs: what one training step tells of every layer, on its way forward, back, and in the update.

All of it rides on one forward and backward pass.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from cnnjax.diagnosis.trial import updates_of
from cnnjax.network import Network, Variables
from cnnjax.ops.precision import wide
from cnnjax.probes.activation import GRID
from cnnjax.probes.forward import in_training
from cnnjax.probes.layers import LayerMeasure, LayerStatistics, collect, over_weights
from cnnjax.probes.response import Output
from cnnjax.probes.subject import Losses
from cnnjax.probes.trace import Trace

FLAT = 0.05
"""An activation is flat where its slope is below this share of its largest."""
TINY = {"float16": 2.0**-25, "bfloat16": 2.0**-134}
"""Numbers below become 0: half of the smallest subnormal number."""
HUGE = {"float16": 65_504.0, "bfloat16": 3.39e38}
"""The largest finite number."""


@struct.dataclass
class Vitals:
    """One training step's; arrays [layer] in the order of the calls unless said otherwise."""

    layers: LayerStatistics
    loss: jax.Array
    """Mean over the batch before the update, a scalar."""
    outputs: Any
    """The network's, [sample, ...]."""
    cosine: jax.Array
    """Mean cosine between the responses to two different inputs."""
    flat: jax.Array
    """Share of the response where the activation after it is flat (`FLAT`)."""
    slope: jax.Array
    """Mean square of that activation's slope."""
    largest: jax.Array
    """Largest magnitude of z."""
    gain: jax.Array
    """Norm of the weight over the root of the number of units: the root of fan-in times the mean square.

    sqrt(2) for He et al.'s initialisation. A layer multiplies the root mean square of its input by this.
    """
    relative_gradient: jax.Array
    """Norm of the weight's gradient over that of the weight."""
    update_ratio: jax.Array
    """Norm of the update over that of the weight."""
    gradient_rms: jax.Array
    """Root mean square of the loss's gradient by z."""
    underflow: dict[str, jax.Array]
    """By type, the share of the weight's gradient that is not 0 and would be."""
    zeros: jax.Array
    """Share of the weight's gradient that is 0."""
    normalized: jax.Array
    """Whether a normalisation takes z."""
    input_rms: jax.Array
    """Of the network's input, a scalar."""
    along: jax.Array
    """How the loss would fall along the update if it were linear: -<gradient, update>, a scalar."""
    effective_rate: jax.Array
    """-<gradient, update> / <gradient, gradient>: the learning rate of plain SGD with a like step."""


class VitalMeasure(LayerMeasure):
    """What `Vitals` need of each layer."""

    def layer(self, output: Output) -> dict[str, jax.Array]:
        """Of the output and the response of a layer."""
        flat, slope = _slopes(output)
        return {
            **super().layer(output),
            "cosine": _cosine(output),
            "flat": flat,
            "slope": slope,
            "normalized": jnp.asarray(output.normalized),
            "largest": jnp.max(jnp.abs(output.z)).astype(wide(output.z.dtype)),
            "size": jnp.asarray(output.z.size, wide(output.z.dtype)),
        }


OWN = ("cosine", "flat", "slope", "normalized", "largest", "size")


def vital_signs(
    network: Network,
    loss: Losses,
    optimizer: optax.GradientTransformation,
    variables: Variables,
    opt_state: Any,
    batch: tuple[Any, Any],
    key: jax.Array,
) -> Vitals:
    """The vital signs of a training step, which is not taken. Pure, for `jit`."""
    inputs, labels = batch
    params, forward = variables["params"], in_training(network, variables, key)
    trace = Trace(forward, params, inputs, VitalMeasure())

    def objective(params: Any, taps: Any) -> Any:
        (outputs, _), records = trace.run(params, inputs, taps)
        value = loss(outputs, labels).mean()
        return value, (value, outputs, records)

    (gradients, tapped), (value, outputs, records) = jax.grad(objective, (0, 1), has_aux=True)(
        params, trace.taps()
    )
    updates, _ = updates_of(
        optimizer, gradients, opt_state, params, value, lambda p: loss(forward(p, inputs)[0], labels).mean()
    )
    watched = trace.watched(records, tapped)
    own = {name: watched.of_layers.pop(name) for name in OWN}
    statistics = collect(watched, params, gradients, updates)
    along, square = -_inner(gradients, updates), _inner(gradients, gradients)
    return Vitals(
        layers=statistics,
        loss=value,
        outputs=outputs,
        gain=statistics.weight_norm / jnp.sqrt(jnp.array(trace.units)),
        relative_gradient=statistics.weight_gradient_norm / statistics.weight_norm,
        update_ratio=statistics.update_norm / statistics.weight_norm,
        gradient_rms=statistics.activation_gradient_norm / jnp.sqrt(own.pop("size")),
        underflow={
            name: over_weights(lambda g, least=least: _share_below(g, least), watched.weights, gradients)
            for name, least in TINY.items()
        },
        zeros=over_weights(lambda g: jnp.mean(g == 0), watched.weights, gradients),
        input_rms=_rms_of_floats(inputs),
        along=along,
        effective_rate=along / square,
        **own,
    )


def _slopes(output: Output) -> tuple[jax.Array, jax.Array]:
    """Share of the response where the next activation is flat, and the mean square of its slope."""
    y = output.response.astype(wide(output.response.dtype))
    if output.curve is None:
        return jnp.zeros((), y.dtype), jnp.ones((), y.dtype)
    step = GRID[1] - GRID[0]
    slopes = jnp.diff(jnp.asarray(output.curve.values, y.dtype)) / step
    place = jnp.clip(jnp.floor((y - GRID[0]) / step), 0, len(GRID) - 2)
    at = slopes[jnp.nan_to_num(place).astype(jnp.int32)]
    return jnp.mean(jnp.abs(at) < FLAT * jnp.max(jnp.abs(slopes)), dtype=y.dtype), jnp.mean(jnp.square(at))


def _cosine(output: Output) -> jax.Array:
    """Mean cosine between the responses of two samples; NaN if samples cannot be told apart."""
    y, n = output.response.astype(wide(output.response.dtype)), output.samples
    if output.batch is None or n < 2:
        return jnp.full((), jnp.nan, y.dtype)
    rows = jnp.moveaxis(y, output.batch, 0).reshape(n, -1)
    unit = rows / jnp.maximum(jnp.linalg.norm(rows, axis=1, keepdims=True), jnp.finfo(y.dtype).tiny)
    return (jnp.sum(jnp.square(unit.sum(0))) - n) / (n * (n - 1))


def _share_below(gradient: jax.Array, least: float) -> jax.Array:
    magnitude = jnp.abs(gradient)
    there = magnitude > 0
    return jnp.sum(there & (magnitude < least)) / jnp.maximum(1, jnp.sum(there))


def _inner(a: Any, b: Any) -> jax.Array:
    products: Callable[..., jax.Array] = lambda x, y: jnp.vdot(x, y).real  # noqa: E731
    return jnp.asarray(sum(jax.tree.leaves(jax.tree.map(products, a, b))))


def _rms_of_floats(inputs: Any) -> jax.Array:
    floats = [leaf for leaf in jax.tree.leaves(inputs) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    if not floats:
        return jnp.asarray(jnp.nan)
    squares = sum(jnp.sum(jnp.square(leaf.astype(wide(leaf.dtype)))) for leaf in floats)
    return jnp.sqrt(squares / sum(leaf.size for leaf in floats))
