"""The objects that are trained with; nothing here is a name."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import optax

from cnnjax.config import Config
from cnnjax.data import Data
from cnnjax.data.whiten import Whitening
from cnnjax.network import Network, Variables
from cnnjax.probes.probe import Probe

PerExample = Callable[[Any, Any], jax.Array]
"""A function of a batch's outputs and labels to a number for each example, [batch]."""


class Moment(NamedTuple):
    """When a batch is augmented."""

    key: jax.Array
    """This step's own."""
    run_key: jax.Array
    """The same in all steps of a run."""
    step: jax.Array
    """How many batches there were before."""


Augment = Callable[[Moment, Any, Any], tuple[Any, Any]]
"""A function of the moment, inputs and labels to inputs and labels, inside the step."""


@dataclasses.dataclass(frozen=True)
class Task:
    """Everything that a training step and an evaluation are made of.

    Attributes:
        config: its numbers: steps, batch size, intervals, and what differs between runs of one program.
        network: what is trained.
        loss: of each example in training, in nats by default.
        test_loss: of each example in a test; None takes `loss`.
        metrics: by name; of each example, such as whether the largest output is that of a wrong class.
        optimizer: from a run's learning rate and weight decay, which may be traced, to the transformation.
        schedule: from a run's learning rate to a function of the step; None where the optimizer has its own.
        data: the training and test examples.
        normalize: raw inputs of a batch to the network's, inside the step.
        augment: what is done to a normalised training batch.
        probes: what measures the steps.
        frozen: from parameters to whether each leaf stays as it is.
        initial: from the network's own initial variables to those to start from; None leaves them.
        whitening: what `normalize` was fitted to, kept in the run's folder; None where it is exact.
        averaging: decay of the exponential moving average of the parameters; None keeps none.
        notes: remarks for the user before the first step, one line each.
        omitted: the examples that the data left out, in a line, for whoever tests on the rest.
        identity: what must be the same to continue a run, besides its config: the digest of its `data`, and
            the fingerprints of `objects` by name.
        in_place: what is recorded for the fields of `config` that an object replaces.
    """

    config: Config
    network: Network
    loss: PerExample
    metrics: Mapping[str, PerExample]
    optimizer: Callable[[Any, Any], optax.GradientTransformation]
    schedule: Callable[[Any], Callable[[Any], Any]] | None
    data: Data
    normalize: Callable[[Any], Any]
    augment: Augment
    test_loss: PerExample | None = None
    probes: Sequence[Probe] = ()
    frozen: Callable[[Any], list[bool]] = lambda params: [False] * len(jax.tree.leaves(params))
    initial: Callable[[Variables], Variables] | None = None
    whitening: Whitening | None = None
    averaging: float | None = None
    notes: Sequence[str] = ()
    omitted: str = ""
    identity: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    in_place: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the network is called."""
        return self.in_place.get("model") or self.config.model

    @property
    def short_name(self) -> str:
        """The network's name, or its class without its fields."""
        return self.name.split(" ", 1)[0]

    def init(self, key: jax.Array, inputs: Any) -> Variables:
        """The variables to start from; of the network's inputs [batch, ...] only shapes and types matter."""
        variables = self.network.init(key, inputs)
        return variables if self.initial is None else self.initial(variables)

    def identity_of(self, config: Config) -> dict[str, Any]:
        """What must be the same to continue a run, as JSON: its config, and digests of the rest."""
        return {"config": {**config.to_json(), **self.in_place}, **self.identity}
