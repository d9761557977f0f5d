"""A watch over training: dead layers, exploding gradients, and where a jump of the loss began."""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from cnnjax.errors import UserError
from cnnjax.ops.precision import wide
from cnnjax.probes.found import Record
from cnnjax.probes.layers import over_weights
from cnnjax.probes.probe import Probe, StepContext
from cnnjax.probes.response import Output
from cnnjax.probes.taps import norm_of

DEAD = 0.9
"""A layer is dead if this share of its channels is nowhere positive in the batch, and a ReLU follows."""
JUMP = 3.0
"""A loss, an output or a gradient jumps if it is so many times its usual size."""
USUAL = 20
"""The usual size is the median over so many of the last measurements."""


class HealthMeasure:
    """What is recorded of each layer: two sums over its output."""

    def layer(self, output: Output) -> Record:
        """Root mean square of the output, and the share of channels that are nowhere positive."""
        z, y = output.z.astype(wide(output.z.dtype)), output.response
        others = tuple(axis for axis in range(y.ndim) if axis not in output.units)
        return {
            "rms": jnp.sqrt(jnp.mean(jnp.square(z))),
            "dead": jnp.mean(y.max(others) <= 0, dtype=z.dtype),
        }

    def join(self, stream: jax.Array, branch: jax.Array) -> Record:
        """Nothing."""
        return {}

    def over_devices(self, record: Record) -> Record:
        """Of parts of equal size; a channel is dead if it is dead everywhere, at most the least share."""
        return {"rms": jnp.sqrt(jnp.mean(jnp.square(record["rms"]), 0)), "dead": jnp.min(record["dead"], 0)}


@struct.dataclass
class HealthRecord:
    """One step's; arrays [layer] and scalars."""

    loss: jax.Array
    gradient_norm: jax.Array
    """Of all parameters."""
    dead_layers: jax.Array
    """How many layers before a ReLU are dead (`DEAD`)."""
    rms: jax.Array
    """Of each layer's output."""
    weight_gradient_norm: jax.Array
    dead: jax.Array
    """Share of dead channels of each layer; 0 where no ReLU follows."""
    layers: tuple[str, ...] = struct.field(pytree_node=False)

    def arrays(self) -> dict[str, Any]:
        """Arrays and names by field."""
        return dict(vars(self))


class Health(Probe):
    """Says in the log when layers die, gradients explode, or the loss jumps, and in which layer it began.

    Scalars go to metrics.jsonl as `health/loss`, `health/gradient_norm` and `health/dead_layers`. Nothing
    that is trained changes. What is usual is known from the measurements since the run was started or went
    on; the first jump that can be told is that after five of them.

    Args:
        every: steps from one measurement to the next.
    """

    name: str = "health"
    keeps_arrays = False
    watch = HealthMeasure()

    def __init__(self, every: int = 10) -> None:
        if every < 1:
            raise UserError(f"every={every}: must be at least 1 step")
        self._every = every
        self._before: dict[str, deque[Mapping[str, Any]]] = {}
        self._said: dict[str, set[str]] = {}

    def due(self, step: int, /) -> bool:
        """Every so many steps."""
        return step % self._every == 0

    def measure(self, context: StepContext) -> HealthRecord:
        """This step's."""
        assert context.layers is not None
        rectified = jnp.array([name in ("relu", "relu6") for name in context.layers.activations])
        dead = jnp.where(rectified, context.layers.of_layers["dead"], 0)
        return HealthRecord(
            loss=context.loss,
            gradient_norm=optax.tree.norm(context.gradients),
            dead_layers=jnp.sum(dead > DEAD).astype(dead.dtype),
            rms=context.layers.of_layers["rms"],
            weight_gradient_norm=over_weights(norm_of, context.layers.weights, context.gradients),
            dead=dead,
            layers=context.layers.names,
        )

    def remarks(self, step: int, run: str, arrays: Mapping[str, Any]) -> list[str]:
        """What this measurement shows, compared with those before it."""
        before = self._before.setdefault(run, deque(maxlen=USUAL))
        lines = [*self._new(run, _dead(arrays)), *(_jumps(arrays, list(before)) if len(before) >= 5 else [])]
        if np.isfinite(arrays["loss"]):
            before.append(arrays)
        return [f"step {step}: {line}" for line in lines]

    def _new(self, run: str, lines: Mapping[str, str]) -> list[str]:
        """Those of layers that were not named before; a layer that recovers may be named again."""
        said = self._said.get(run, set())
        self._said[run] = set(lines)
        return [line for name, line in lines.items() if name not in said]


def _dead(arrays: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: f"{name} is dead: {100 * share:.0f} % of its channels are nowhere positive in the batch"
        for name, share in zip(arrays["layers"], np.asarray(arrays["dead"]), strict=True)
        if share > DEAD
    }


def _jumps(arrays: Mapping[str, Any], before: list[Mapping[str, Any]]) -> Iterator[str]:
    loss, gradient = (_times_usual(name, arrays, before) for name in ("loss", "gradient_norm"))
    if loss > JUMP:
        usual = np.median([one["loss"] for one in before])
        yield f"the loss jumped to {arrays['loss']:.3g} from about {usual:.3g}; {_where(arrays, before)}"
    elif gradient > 10 * JUMP:
        yield f"gradients exploded to {gradient:.3g} times their usual norm; {_where(arrays, before)}"


def _where(arrays: Mapping[str, Any], before: list[Mapping[str, Any]]) -> str:
    """The first layer, in the order of the calls, whose output jumped; else that of the largest gradient."""
    outputs = _times_usual("rms", arrays, before)
    jumped = np.flatnonzero(outputs > JUMP)
    if len(jumped):
        first = jumped[0]
        layer, times = arrays["layers"][first], outputs[first]
        return f"it began in {layer}, whose output is {times:.3g} times its usual size"
    gradients = _times_usual("weight_gradient_norm", arrays, before)
    most = int(np.argmax(gradients))
    return (
        f"no layer's output jumped; the gradient of {arrays['layers'][most]} grew most, to "
        f"{gradients[most]:.3g} times its usual norm"
    )


def _times_usual(name: str, arrays: Mapping[str, Any], before: list[Mapping[str, Any]]) -> Any:
    """How many times its median it is; infinity if it is not finite."""
    usual = np.median([one[name] for one in before], 0)
    times = np.asarray(arrays[name]) / np.maximum(usual, np.finfo(np.float32).tiny)
    return np.where(np.isfinite(times), times, np.inf)
