"""What rides on a training step to measure it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from flax import struct

from cnnjax.network import Network
from cnnjax.probes.found import Measure, Record
from cnnjax.probes.response import Output
from cnnjax.probes.subject import Losses
from cnnjax.probes.trace import Watched


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
        losses: the function of outputs and labels to the loss of each example, [batch], that is trained with.
        variables: parameters and what else the network carries, before the update.
        gradients: by the parameters.
        updates: what the optimizer adds to the parameters.
        previous_gradients: those of the step before, if a probe has `compares_gradients`; else None.
        layers: what the probe's `watch` measured of the layers; None if it has none.
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
    layers: Watched | None
    network: Network = struct.field(pytree_node=False)
    losses: Losses = struct.field(pytree_node=False)


class Probe:
    """Measures training steps from within. Override `measure`, and `due` for other steps than all.

    What `measure` returns by name is written down: scalars to metrics.jsonl as `NAME/...`, other arrays to
    `probes/NAME/step_S.npz`, where S is the number of steps taken before. Probes that are not due cost
    nothing; each set of probes that are due together is a program of its own.
    """

    compares_gradients: bool = False
    """Whether it takes the gradients of the step before, too; then every step's are kept for the next."""
    keeps_arrays: bool = True
    """Whether its arrays are written down; else they are for `remarks` alone."""
    watch: Measure | None = None
    """What it records of every layer and residual block in the forward pass, as scalars by name.

    Then the context has `layers`, which also has the norms of what comes back to them.
    """

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

    def remarks(self, step: int, run: str, arrays: Mapping[str, Any]) -> Sequence[str]:
        """Lines for the log about what it measured, called on the host a few steps later; none by default.

        Args:
            step: how many steps were taken before.
            run: the run's folder; several runs may train together.
            arrays: what `measure` returned, by name.
        """
        return ()


class Together:
    """What several probes watch, in one pass: a `Measure` whose names begin with the probe's."""

    def __init__(self, probes: Sequence[Probe]) -> None:
        self.parts = {probe.name: probe.watch for probe in probes if probe.watch is not None}

    def layer(self, output: Output) -> Record:
        """What all of them record of a layer."""
        return _under_names({name: part.layer(output) for name, part in self.parts.items()})

    def join(self, stream: jax.Array, branch: jax.Array) -> Record:
        """What all of them record of a join."""
        return _under_names({name: part.join(stream, branch) for name, part in self.parts.items()})

    def over_devices(self, record: Record) -> Record:
        """What stands for the records of several devices."""
        return _under_names({name: part.over_devices(_of(name, record)) for name, part in self.parts.items()})

    def part(self, probe: Probe, layers: Watched | None) -> Watched | None:
        """What one of them has watched."""
        if layers is None or probe.name not in self.parts:
            return None
        of_layers, of_joins = _of(probe.name, layers.of_layers), _of(probe.name, layers.of_joins)
        return dataclasses.replace(layers, of_layers=of_layers, of_joins=of_joins)


def _under_names(records: dict[str, Record]) -> Record:
    return {f"{probe}/{name}": value for probe, record in records.items() for name, value in record.items()}


def _of(probe: str, record: Record) -> Record:
    own = f"{probe}/"
    return {name.removeprefix(own): value for name, value in record.items() if name.startswith(own)}
