"""Statistics of every layer, as arrays over depth: what goes forward, what comes back, and the weights.

The network is not changed. While it is traced, Flax shows every module's call (`nn.intercept_methods`): the
output of each is summed up where it is computed, and what comes back is summed up by a tap, an identity with
a second argument whose gradient is not that of the identity but the norm of the gradient passing through.
So no activation is kept for the probe's sake, and it costs a few sums, in a loop over depth as well.
"""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct

from cnnjax.errors import UserError
from cnnjax.network import mode
from cnnjax.ops.depth import unstack
from cnnjax.ops.precision import wide
from cnnjax.probes.checks import unpack
from cnnjax.probes.probe import Probe, StepContext

TAPS, STATISTICS = "taps", "statistics"
Path = tuple[str, ...]


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

    def __repr__(self) -> str:
        return f"LayerStatistics of {len(self.layers)} layers: {', '.join(vars(self))}"

    def arrays(self) -> dict[str, Any]:
        """Arrays and names by field, for an npz file."""
        return dict(vars(self))


def layer_statistics(
    model: nn.Module, variables: Any, batch: tuple[jax.Array, jax.Array], key: jax.Array | None = None
) -> LayerStatistics:
    """Statistics of every layer in one training step's forward and backward pass; nothing is updated.

    Losses of auxiliary classifiers do not count, so the gradients by their own layers are 0.

    Args:
        model: any network; BatchNorm is in training mode, so its statistics are the batch's.
        variables: its parameters and running averages, by block or stacked.
        batch: images [batch, height, width, channel] and labels [batch]; the loss is the cross-entropy.
        key: for dropout.
    """
    images, labels = unpack(model, variables, batch)
    params, state = variables["params"], {k: v for k, v in variables.items() if k != "params"}
    probe = LayerProbe()

    def loss(params, taps):
        with probe.watching():
            logits, new = model.apply(
                {**state, "params": params, **taps},
                images,
                mutable=[*state, *probe.collections],
                rngs={"dropout": jax.random.key(0) if key is None else key},
                **mode(model.__call__, True),
            )
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), new

    (gradients, tapped), new = jax.grad(loss, (0, 1), has_aux=True)(params, probe.taps(params))
    return probe.collect(model, images, params, gradients, tapped, new)


def one_two_five(step: int) -> bool:
    """0, 1, 2, 5, 10, 20, 50, 100, ...: much happens in the first steps, so a constant interval misses it."""
    return step == 0 or str(step).rstrip("0") in ("1", "2", "5")


class LayerProbe(Probe):
    """`layer_statistics` as part of a training step: it rides on the forward and backward pass made anyway.

    `at` says which steps are measured, given how many were taken before. Its arrays are in
    `probes/step_S.npz`. It measures networks of Flax Linen.
    """

    collections: tuple[str, ...] = (STATISTICS,)
    compares_gradients: bool = True
    name: str = "layers"

    def __init__(self, at: Callable[[int], bool] = one_two_five) -> None:
        self._at = at

    def due(self, step: int, /) -> bool:
        """Whether `at` says so."""
        return self._at(step)

    def measure(self, context: StepContext) -> LayerStatistics:
        """The statistics of this step."""
        model = context.network.source
        if not isinstance(model, nn.Module):
            raise UserError(f"LayerProbe measures networks of flax.linen, not {type(model).__name__}")
        return self.collect(
            model,
            context.inputs,
            context.variables["params"],
            context.gradients,
            context.tapped,
            context.collected,
            context.updates,
            context.previous_gradients,
        )

    def taps(self, params: Any) -> dict[str, Any]:
        """Zeros, one for each kernel (with the axis over depth, where kernels are stacked)."""

        def tap(node: Any) -> Any:
            if "kernel" in node:
                kernel = node["kernel"]
                stacked = kernel.shape[:1] if kernel.ndim in (3, 5) else ()
                return {"gradient": jnp.zeros(stacked, wide(kernel.dtype))}
            return {name: tap(child) for name, child in node.items() if isinstance(child, dict)}

        return {TAPS: tap(params)}

    def watching(self) -> contextlib.AbstractContextManager[Any]:
        """The context for `apply`."""
        return nn.intercept_methods(_watch)

    def collect(
        self,
        model: nn.Module,
        images: jax.Array,
        params: Any,
        gradients: Any,
        tapped: Any,
        new: Any,
        updates: Any = None,
        previous: Any = None,
    ) -> LayerStatistics:
        """The statistics, from the loss's gradients by parameters and taps and what the forward pass left.

        Args:
            model: the network.
            images: as it took them; only their shape matters.
            params: its parameters.
            gradients: of the loss, like `params`.
            tapped: of the loss, like `taps(params)`.
            new: the mutable collections that `apply` gave.
            updates: the optimiser's, like `params`, if there are any.
            previous: the gradients of the step before, if they are known.
        """
        layout = call_order(model, images)
        params, gradients, updates = unstack(params), unstack(gradients), unstack(updates)
        cosines = None if previous is None else jax.tree.map(_cosine, gradients, unstack(previous))
        seen, norms = unstack(new[STATISTICS]), unstack(tapped[TAPS])

        def gather(tree: Any, paths: tuple[Path, ...], name: str, of: Callable = jnp.asarray) -> jax.Array:
            values = [value_at(tree, (*path, name)) for path in paths]
            return (
                jnp.stack([jnp.asarray(jnp.nan) if v is None else of(v) for v in values])
                if values
                else jnp.zeros(0)
            )

        layers, responses, joins = layout
        return LayerStatistics(
            weight_norm=gather(params, layers, "kernel", _norm),
            weight_gradient_norm=gather(gradients, layers, "kernel", _norm),
            activation_gradient_norm=gather(norms, layers, "gradient"),
            rms=gather(seen, responses, "rms"),
            response_std=gather(seen, responses, "std"),
            activation=gather(seen, responses, "activation"),
            co_activation=gather(seen, responses, "co_activation"),
            dead_fraction=gather(seen, responses, "dead_fraction"),
            scale=gather(params, responses, "scale", _rms),
            gradient_cosine=gather(cosines, layers, "kernel"),
            update_norm=gather(updates, layers, "kernel", _norm),
            branch_rms=gather(seen, joins, "branch_rms"),
            stream_rms=gather(seen, joins, "stream_rms"),
            layers=tuple("/".join(path) for path in layers),
            blocks=tuple("/".join(path[:-1]) for path in joins),
        )


class Layout(NamedTuple):
    """Paths of modules in the order of their calls."""

    layers: tuple[Path, ...]
    responses: tuple[Path, ...]
    """For each layer, the BatchNorm that takes its output, or the layer itself."""
    joins: tuple[Path, ...]
    """Where a branch joins the stream."""


def call_order(model: nn.Module, images: jax.Array) -> Layout:
    """Convolutions, dense layers and shortcuts in the order of their calls, from a trace of `init`."""
    layers: list[Path] = []
    responses: dict[Path, Path] = {}
    joins: list[Path] = []
    outputs: list[tuple[Any, Path]] = []

    def note(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        result = call(*args, **kwargs)
        module = context.module
        if context.method_name == "__call__":
            if _is_layer(module) and module.path not in responses:
                layers.append(module.path)
                responses[module.path] = module.path
                outputs.append((result, module.path))
            elif _is_norm(module):
                responses.update({path: module.path for output, path in outputs if output is args[0]})
        elif _is_join(context) and module.path not in joins:
            joins.append(module.path)
        return result

    def trace(images: jax.Array) -> Any:
        with nn.intercept_methods(note):
            return model.init(jax.random.key(0), images, **mode(model.__call__, False))

    jax.eval_shape(trace, jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype))
    return Layout(tuple(layers), tuple(responses[path] for path in layers), tuple(joins))


def _watch(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
    """Sum up what a module gives, and tap what comes back to it."""
    result = call(*args, **kwargs)
    module = context.module

    def put(**values: jax.Array) -> None:
        for name, value in values.items():
            module.put_variable(STATISTICS, name, value)

    if context.method_name == "moments" and module.group_size is None:
        put(**_from_moments(module, *result))
    if _is_join(context):
        put(stream_rms=_rms(result[0]), branch_rms=_rms(result[1]))
    if context.method_name != "__call__":
        return result
    if _is_layer(module):
        put(rms=_rms(result), std=_std(result), **_activity(result))
        return _tap(result, module.get_variable(TAPS, "gradient"))
    if _is_norm(module):
        put(**_activity(result))
        if not module.has_variable(STATISTICS, "std"):
            put(rms=_rms(args[0]), std=_std(result))
    return result


def _is_layer(module: nn.Module) -> bool:
    return module.has_variable("params", "kernel")


def _is_norm(module: nn.Module) -> bool:
    return module.has_variable("params", "scale") and not module.has_variable("params", "kernel")


def _is_join(context: Any) -> bool:
    """The method of a shortcut that gives the two addends; one of a base class may be called within it."""
    return context.module.name == "shortcut" and context.method_name == "paths"


def _from_moments(norm: nn.Module, mean: jax.Array, var: jax.Array) -> dict[str, jax.Array]:
    """What a BatchNorm takes and what it makes of that, without three more sums over all of it."""
    scale, bias = (norm.get_variable("params", name) for name in ("scale", "bias"))
    made = var * jnp.square(scale) / (var + norm.epsilon)
    return {
        "rms": jnp.sqrt(jnp.mean(var + jnp.square(mean))),
        "std": jnp.sqrt(jnp.mean(made) + jnp.var(bias)),
    }


def _activity(y: jax.Array) -> dict[str, jax.Array]:
    """From how often y is positive at each place: one sum over the batch; the rest is small."""
    batch = len(y)
    byte = jnp.uint8 if batch < 256 else jnp.uint32  # bytes are counted fastest
    times = (y > 0).sum(0, dtype=byte).astype(wide(y.dtype))
    return {
        "activation": times.mean() / batch,
        "co_activation": jnp.mean(times * (times - 1)) / max(1, batch * (batch - 1)),
        "dead_fraction": jnp.mean(times.sum(tuple(range(times.ndim - 1))) == 0, dtype=times.dtype),
    }


@jax.custom_vjp
def _tap(x: jax.Array, tap: jax.Array) -> jax.Array:
    return x


_tap.defvjp(lambda x, tap: (x, tap), lambda tap, g: (g, _norm(g).astype(tap.dtype)))


def _norm(x: jax.Array) -> jax.Array:
    x = x.astype(wide(x.dtype))
    squares = jnp.sum(jnp.square(x))

    def scaled() -> jax.Array:
        largest = jnp.max(jnp.abs(x))
        largest = jnp.where(largest > 0, largest, 1)
        return largest * jnp.sqrt(jnp.sum(jnp.square(x / largest)))

    # Squares of what is left of a gradient after 50 sigmoids would be 0, and of one that explodes, infinite.
    return jax.lax.cond((squares > 1e-20) & (squares < 1e30), lambda: jnp.sqrt(squares), scaled)


def _cosine(x: jax.Array, y: jax.Array) -> jax.Array:
    """NaN where one of them is 0."""
    return jnp.sum((x / _norm(x)) * (y / _norm(y)))


def _std(x: jax.Array) -> jax.Array:
    return jnp.std(x.astype(wide(x.dtype)))


def _rms(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.mean(jnp.square(x.astype(wide(x.dtype)))))


def value_at(tree: Any, path: Path) -> Any:
    """What lies at `path`, or None."""
    for name in path:
        if not isinstance(tree, dict) or name not in tree:
            return None
        tree = tree[name]
    return tree
