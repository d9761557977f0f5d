"""Statistics of every layer, as arrays over depth: what goes forward, what comes back, and the weights.

Layers are found in the network's trace (`cnnjax.probes.trace`), so it may be written in any library. Each
layer's output is summed up where it is computed, and so is what comes back to it.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from cnnjax.ops.precision import wide
from cnnjax.ops.sums import count, moments, positives
from cnnjax.probes.flow import Weight
from cnnjax.probes.forward import in_training
from cnnjax.probes.probe import Probe, StepContext
from cnnjax.probes.response import Output
from cnnjax.probes.subject import Losses, cross_entropy, losses_of, unpack
from cnnjax.probes.taps import norm_of
from cnnjax.probes.trace import Trace, Watched, by_path


@struct.dataclass
class LayerStatistics:
    """Arrays over a network's convolutions and dense layers, in the order of their calls.

    `layers` names them. z is a layer's output; its response is z after the BatchNorm that takes it, if one
    does. Norms are Euclidean, of all elements; the loss is the mean over the batch.
    """

    weight_norm: jax.Array
    weight_gradient_norm: jax.Array
    activation_gradient_norm: jax.Array
    """Of the gradient by z, for the whole batch."""
    rms: jax.Array
    """Root mean square of z."""
    response_std: jax.Array
    """Standard deviation of the response over everything (He et al. 2015, figure 7)."""
    activation: jax.Array
    """Fraction of the response that is positive."""
    co_activation: jax.Array
    """Fraction that is positive for both of two different inputs, mean over pairs: 1/4 for typical ones."""
    dead_fraction: jax.Array
    """Fraction of channels whose response is nowhere positive in the batch."""
    scale: jax.Array
    """Root mean square of the BatchNorm's gamma; NaN where none takes z."""
    gradient_cosine: jax.Array
    """Between the weight's gradient and that of the step before.

    NaN where there is none: outside training, at step 0, and when a run goes on that had no probe before.
    """
    update_norm: jax.Array
    """Of the optimiser's change of the weight; NaN where nothing was updated."""
    branch_rms: jax.Array
    """[block]: root mean square of a residual branch as it is added, after all factors and gates."""
    stream_rms: jax.Array
    """[block]: of the shortcut, to which it is added; 0 in a plain net."""
    layers: tuple[str, ...] = struct.field(pytree_node=False)
    blocks: tuple[str, ...] = struct.field(pytree_node=False)
    activations: tuple[str, ...] = struct.field(pytree_node=False)
    """What the response goes through next, by what that computes: "relu", "tanh", "identity", "other", ..."""

    def __repr__(self) -> str:
        return f"LayerStatistics of {len(self.layers)} layers: {', '.join(vars(self))}"

    def arrays(self) -> dict[str, Any]:
        """Arrays and names by field, for an npz file."""
        return dict(vars(self))


def layer_statistics(
    model: Any,
    variables: Any,
    batch: tuple[jax.Array, jax.Array],
    key: jax.Array | None = None,
    loss: Losses = cross_entropy,
) -> LayerStatistics:
    """Statistics of every layer in one training step's forward and backward pass; nothing is updated.

    Losses of auxiliary classifiers do not count, so the gradients by their own layers are 0.

    Args:
        model: any network (`cnnjax.probes.subject`). It is in training mode: BatchNorm's statistics are those
            of the batch.
        variables: its parameters, and whatever else it carries; None if it carries them itself.
        batch: inputs [sample, ...] and labels [sample, ...].
        key: for dropout.
        loss: of outputs and labels, for each sample.

    Raises:
        UserError: that is no network, or its variables or the batch do not fit.
    """
    network, variables, (inputs, labels) = unpack(model, variables, batch)
    key = jax.random.key(0) if key is None else key
    params = variables["params"]
    trace = Trace(in_training(network, variables, key), params, inputs, LayerMeasure())

    def objective(params: Any, taps: Any) -> Any:
        (outputs, _), records = trace.run(params, inputs, taps)
        return losses_of(loss, outputs, labels).mean(), records

    (gradients, tapped), records = jax.grad(objective, (0, 1), has_aux=True)(params, trace.taps())
    return collect(trace.watched(records, tapped), params, gradients)


class LayerMeasure:
    """What `LayerStatistics` need of each layer and join."""

    def layer(self, output: Output) -> dict[str, jax.Array]:
        """Of the output and the response of a layer."""
        rms, std = _moments(output)
        return {"rms": rms, "response_std": std, **_activity(output)}

    def join(self, stream: jax.Array, branch: jax.Array) -> dict[str, jax.Array]:
        """Of the two summands."""
        return {"branch_rms": _rms(branch), "stream_rms": _rms(stream)}

    def over_devices(self, record: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """Of parts of equal size. Standard deviations are those within a part, and pairs of inputs, too."""
        squares = ("rms", "response_std", "branch_rms", "stream_rms")
        return {
            name: jnp.sqrt(jnp.mean(jnp.square(value), 0)) if name in squares else jnp.mean(value, 0)
            for name, value in record.items()
        }


def one_two_five(step: int) -> bool:
    """0, 1, 2, 5, 10, 20, 50, 100, ...: much happens in the first steps, so a constant interval misses it."""
    return step == 0 or str(step).rstrip("0") in ("1", "2", "5")


class LayerProbe(Probe):
    """`layer_statistics` as part of a training step: it rides on the forward and backward pass made anyway.

    `at` says which steps are measured, given how many were taken before. Its arrays are in
    `probes/step_S.npz`.
    """

    compares_gradients: bool = True
    name: str = "layers"
    watch = LayerMeasure()

    def __init__(self, at: Callable[[int], bool] = one_two_five) -> None:
        self._at = at

    def due(self, step: int, /) -> bool:
        """Whether `at` says so."""
        return self._at(step)

    def measure(self, context: StepContext) -> LayerStatistics:
        """The statistics of this step."""
        assert context.layers is not None
        return collect(
            context.layers,
            context.variables["params"],
            context.gradients,
            context.updates,
            context.previous_gradients,
        )


def collect(
    layers: Watched, params: Any, gradients: Any, updates: Any = None, previous: Any = None
) -> LayerStatistics:
    """The statistics, from what was measured of the layers and joins in the forward and backward pass.

    Args:
        layers: what `LayerMeasure` measured.
        params: the parameters.
        gradients: of the loss, like `params`.
        updates: the optimizer's, like `params`, if there are any.
        previous: the gradients of the step before, if they are known.
    """

    def of_each(measure: Callable[..., jax.Array], *trees: Any) -> jax.Array:
        return over_weights(measure, layers.weights, *trees)

    return LayerStatistics(
        weight_norm=of_each(norm_of, params),
        weight_gradient_norm=of_each(norm_of, gradients),
        activation_gradient_norm=layers.gradient_norms,
        scale=over_weights(_rms, layers.scales, params),
        gradient_cosine=of_each(_cosine, gradients, previous),
        update_norm=of_each(norm_of, updates),
        **layers.of_layers,
        **(layers.of_joins or dict.fromkeys(("branch_rms", "stream_rms"), jnp.zeros(0))),
        layers=layers.names,
        blocks=layers.blocks,
        activations=layers.activations,
    )


def over_weights(
    measure: Callable[..., jax.Array], weights: tuple[Weight | None, ...], *trees: Any
) -> jax.Array:
    """`measure` of each of these parameters [weight], in trees like them; NaN where one is None."""
    if any(tree is None for tree in trees):
        return jnp.full(len(weights), jnp.nan)
    leaves = [by_path(tree) for tree in trees]

    @functools.cache
    def of_all(path: tuple[str, ...], axes: int) -> jax.Array:
        """Of the slices along so many leading axes."""
        mapped = measure
        for _ in range(axes):
            mapped = jax.vmap(mapped)
        return mapped(*(each[path] for each in leaves))

    values = [
        jnp.asarray(jnp.nan) if weight is None else of_all(weight.path, len(weight.index))[weight.index]
        for weight in weights
    ]
    return jnp.stack(values) if values else jnp.zeros(0)


def _moments(output: Output) -> tuple[jax.Array, jax.Array]:
    """Root mean square of z, and standard deviation of the response.

    Where each unit's response is a linear function of its z, both follow from the units' means and variances,
    which BatchNorm has computed already: XLA calls it once.
    """
    if not output.normalized or output.of_units is None:
        return _rms(output.z), _std(output.response)
    z = output.z.astype(wide(output.z.dtype))
    mean, var = moments(z, tuple(axis for axis in range(z.ndim) if axis not in output.units))
    centre, gain, offset = output.of_units
    of_means = jnp.var(gain * (mean - centre) + offset)
    return (
        jnp.sqrt(jnp.mean(var + jnp.square(mean))),
        jnp.sqrt(jnp.mean(jnp.square(gain) * var) + of_means),
    )


def _activity(output: Output) -> dict[str, jax.Array]:
    """From how often the response is positive at each place."""
    y, axis, samples = output.response, output.batch, output.samples
    if axis is None:  # samples cannot be told apart
        positive = y > 0
        others = tuple(axis for axis in range(y.ndim) if axis not in output.units)
        dead = jnp.mean(~positive.any(others), dtype=wide(y.dtype))
        share = jnp.mean(positive, dtype=wide(y.dtype))
        return {"activation": share, "co_activation": jnp.full_like(share, jnp.nan), "dead_fraction": dead}
    if axis == 0 and samples == len(y) and output.units == (y.ndim - 1,) and output.of_units is not None:
        counts, pairs = positives(output.z.astype(wide(y.dtype)), *output.of_units)
    else:
        parts = (*y.shape[:axis], samples, y.shape[axis] // samples, *y.shape[axis + 1 :])
        times = count((y > 0).reshape(parts), axis).astype(wide(y.dtype))
        others = tuple(axis for axis in range(y.ndim) if axis not in output.units)
        counts, pairs = times.sum(others), (times * (times - 1)).sum(others)
    return {
        "activation": counts.sum() / y.size,
        "co_activation": pairs.sum() / (y.size / samples * max(1, samples * (samples - 1))),
        "dead_fraction": jnp.mean(counts == 0, dtype=counts.dtype),
    }


def _cosine(x: jax.Array, y: jax.Array) -> jax.Array:
    """NaN where one of them is 0."""
    return jnp.sum((x / norm_of(x)) * (y / norm_of(y)))


def _std(x: jax.Array) -> jax.Array:
    return jnp.std(x.astype(wide(x.dtype)))


def _rms(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.mean(jnp.square(x.astype(wide(x.dtype)))))
