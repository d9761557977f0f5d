"""What rides on a training step to measure it."""

import contextlib
from typing import Any

import jax
from flax import struct

from cnnjax.network import Network


@struct.dataclass
class StepContext:
    """What a step knows, for a probe; arrays are traced, so what a probe makes of them is compiled with it.

    Attributes:
        step: how many steps were taken before, a scalar.
        key: of this step.
        inputs: the batch as the network took it, normalised and augmented.
        labels: those of the batch.
        outputs: the network's.
        loss: mean over the batch, a scalar.
        variables: parameters and what else the network carries, before the update.
        gradients: by the parameters.
        updates: what the optimizer adds to the parameters.
        previous_gradients: those of the step before, if a probe has `compares_gradients`; else None.
        tapped: gradients by the probe's own `taps`.
        collected: the collections that the probe filled.
        network: what is trained.
    """

    step: jax.Array
    key: jax.Array
    inputs: Any
    labels: Any
    outputs: Any
    loss: jax.Array
    variables: Any
    gradients: Any
    updates: Any
    previous_gradients: Any
    tapped: Any
    collected: Any
    network: Network = struct.field(pytree_node=False)


class Probe:
    """Measures training steps from within. Override `measure`, and `due` for other steps than all.

    What `measure` returns by name is written down: scalars to metrics.jsonl as `NAME/...`, other arrays to
    `probes/NAME/step_S.npz`, where S is the number of steps taken before. Probes that are not due cost
    nothing; each set of probes that are due together is a program of its own.
    """

    compares_gradients: bool = False
    """Whether it takes the gradients of the step before, too; then every step's are kept for the next."""
    collections: tuple[str, ...] = ()
    """Of a Linen network: mutable collections that the probe fills in the forward pass."""

    @property
    def name(self) -> str:
        """What its measurements are filed under."""
        return type(self).__name__.lower()

    def due(self, step: int, /) -> bool:
        """Whether the step that follows `step` steps is measured."""
        return True

    def measure(self, context: StepContext) -> Any:
        """Scalars and arrays by name, or a tree of arrays whose method `arrays` names them.

        It is called while the step is traced.
        """
        raise NotImplementedError(f"{type(self).__name__} must define measure(self, context)")

    def taps(self, params: Any) -> dict[str, Any]:
        """Collections for the forward pass beside the parameters; the loss is differentiated by them too."""
        return {}

    def watching(self) -> contextlib.AbstractContextManager[Any]:
        """Entered around the forward pass."""
        return contextlib.nullcontext()
