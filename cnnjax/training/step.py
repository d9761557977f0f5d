"""One step of training and one of evaluation, as pure functions for `jit`."""

import contextlib
from collections.abc import Callable
from typing import Any, Protocol, cast

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct

from cnnjax.ops.precision import wide
from cnnjax.training.losses import Loss, cross_entropy

Metrics = dict[str, jax.Array]


@struct.dataclass
class State:
    """All that a run carries from step to step; arrays only."""

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    gradients: Any = None
    """Of the step before, 0 if there was none, in runs with a probe that compares them; else None."""

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def init_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    image_shape: tuple[int, ...],
    with_gradients: bool = False,
) -> State:
    """The state at step 0 for images of `image_shape` [height, width, channel].

    `with_gradients`: for a probe with `compares_gradients`.
    """
    images = jax.ShapeDtypeStruct((1, *image_shape), wide(getattr(model, "dtype", None) or jnp.float32))
    variables = model.lazy_init(key, images, train=False)  # weights alone: no forward pass is run
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    step, opt_state = jnp.zeros((), jnp.int32), optimizer.init(params)
    gradients = jax.tree.map(jnp.zeros_like, params) if with_gradients else None
    return State(step, params, batch_stats, opt_state, gradients)


class Probe(Protocol):
    """What rides on a step's forward and backward pass to measure it, such as `cnnjax.probes.LayerProbe`."""

    collections: tuple[str, ...]
    """Mutable collections that it fills in the forward pass."""

    compares_gradients: bool
    """Whether it takes the gradients of the step before, too; then every step's are kept for the next."""

    def due(self, step: int, /) -> bool:
        """Whether the step that follows `step` steps is measured."""
        ...

    def taps(self, params: Any) -> dict[str, Any]:
        """Collections for the forward pass beside the parameters; the loss is differentiated by them too."""
        ...

    def watching(self) -> contextlib.AbstractContextManager[Any]:
        """Entered around the forward pass."""
        ...

    def collect(
        self,
        model: nn.Module,
        images: jax.Array,
        params: Any,
        gradients: Any,
        tapped: Any,
        new: Any,
        updates: Any,
        previous: Any,
    ) -> Any:
        """The measurement, a tree of arrays whose method `arrays` names them."""
        ...


class NoProbe:
    """Measures nothing and costs nothing."""

    collections: tuple[str, ...] = ()
    compares_gradients: bool = False

    def due(self, step: int, /) -> bool:
        """Never."""
        return False

    def taps(self, params: Any) -> dict[str, Any]:
        """None."""
        return {}

    def watching(self) -> contextlib.AbstractContextManager[Any]:
        """Changes nothing."""
        return contextlib.nullcontext()

    def collect(self, *_: Any, **__: Any) -> None:
        """Nothing."""


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    schedule: Callable[[jax.Array], jax.Array],
    augment: Callable[[jax.Array, jax.Array], jax.Array],
    normalize: Callable[[jax.Array], jax.Array],
    loss_function: Loss = cross_entropy,
    probe: Probe = NoProbe(),  # noqa: B008 - it has no state
    gather: Callable[[Any], Any] = lambda params: params,
) -> Callable[..., tuple[State, Metrics, Any]]:
    """A function of (state, images, labels, key) to (state, metrics, what the probe measured).

    `images` uint8 [batch, height, width, channel] and `labels` [batch] are this step's. `key` belongs to the
    run; the step's own is folded from it. Metrics are scalars of the batch before the update: `train_loss`
    (mean, nats), `train_error` (fraction), `learning_rate`.

    The logits that a network sows in its collection "auxiliary" have losses too, which its field
    `auxiliary_weight` weighs; gradients are of the sum, `train_loss` is without them.

    `gather` brings parameters together that lie divided over devices.
    """

    def train_step(state: State, images, y, key):
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, state.step))
        x = augment(augment_key, normalize(images))

        def loss_of(params, taps):
            variables = {"params": gather(params), "batch_stats": state.batch_stats, **taps}
            mutable = ["batch_stats", "auxiliary", *probe.collections]
            with probe.watching():
                logits, new = model.apply(
                    variables, x, train=True, mutable=mutable, rngs={"dropout": dropout_key}
                )
            objective = loss = loss_function(cast(jax.Array, logits), y).mean()
            for head in jax.tree.leaves(new.get("auxiliary", {})):
                objective += model.auxiliary_weight * loss_function(head, y).mean()
            return objective, (loss, logits, new)

        gradient = jax.value_and_grad(loss_of, (0, 1), has_aux=True)
        (_, (loss, logits, new)), (grads, tapped) = gradient(state.params, probe.taps(state.params))
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        metrics = {
            "train_loss": loss,
            "train_error": jnp.mean(logits.argmax(-1) != y, dtype=loss.dtype),
            "learning_rate": schedule(state.step),
        }
        measured = probe.collect(model, x, state.params, grads, tapped, new, updates, state.gradients)
        params = optax.apply_updates(state.params, updates)
        kept = None if state.gradients is None else grads
        state = State(state.step + 1, params, new.get("batch_stats", {}), opt_state, kept)
        return state, metrics, measured

    return train_step


def in_one_dispatch(
    train_step: Callable[..., tuple[State, Metrics, Any]], pick: Callable[[Any, Any], tuple]
) -> Callable[..., tuple[State, Metrics, Any]]:
    """A function of (state, held, brought, key): so many steps in one program; all it gives is [step, ...].

    `pick` gives a step's images and labels from `held`, which is the same for all of them, and its part of
    `brought`, whose arrays are [step, ...].
    """

    def train_steps(state: State, held, brought, key):
        def body(state, its_own):
            state, *results = train_step(state, *pick(held, its_own), key)
            return state, results

        # One step is no loop (0 unrolls all of it), inside of which XLA compiles for CPUs less well.
        steps = len(jax.tree.leaves(brought)[0])
        state, (metrics, measured) = jax.lax.scan(body, state, brought, unroll=0 if steps == 1 else 1)
        return state, metrics, measured

    return train_steps


def make_eval_step(
    model: nn.Module,
    normalize: Callable[[jax.Array], jax.Array],
    loss_function: Loss = cross_entropy,
    gather: Callable[[Any], Any] = lambda params: params,
) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """A function of (variables, images, labels, counted) to summed loss and number of errors.

    `images` are uint8 [batch, height, width, channel]; `counted` [batch] is False for the padding of the last
    batch; `gather` is as in `make_train_step`.
    """

    def eval_step(variables, images, y, counted):
        variables = {**variables, "params": gather(variables["params"])}
        logits = cast(jax.Array, model.apply(variables, normalize(images), train=False))
        return jnp.sum(loss_function(logits, y) * counted), jnp.sum((logits.argmax(-1) != y) & counted)

    return eval_step
