"""Lookahead: weights that return, every few steps, to an average of where they were."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class LookaheadState(NamedTuple):
    """Steps taken, and the average of the parameters."""

    count: jax.Array
    average: Any


def lookahead(every: int, steps: int, decay: float = 0.95) -> optax.GradientTransformation:
    """Change updates so that the parameters return to their average, every few steps and at the end.

    The average takes 1 - a of the parameters each time, with a = decay^5 (t / steps)^3 at step t: early steps
    hardly feel it, and the last ones are an average over some tens of steps (Jordan 2024, arXiv 2404.00498,
    section 3.4; Zhang et al. 2019, arXiv 1907.08610, have a constant a). `optax.lookahead` needs two sets of
    parameters in the training step.

    Args:
        every: steps between two returns, 5 in the paper.
        steps: of the run.
        decay: of the average, in a step of the last ones.
    """

    def init(params: Any) -> LookaheadState:
        return LookaheadState(jnp.zeros((), jnp.int32), params)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        count = state.count + 1
        average_now = count % every == 0

        def averaged(average: jax.Array, w: jax.Array, u: jax.Array) -> jax.Array:
            kept = decay**5 * (count.astype(w.dtype) / steps) ** 3
            return jnp.where(average_now, kept * average + (1 - kept) * (w + u), average).astype(w.dtype)

        average = jax.tree.map(averaged, state.average, params, updates)
        updates = jax.tree.map(
            lambda u, a, w: jnp.where(average_now | (count == steps), a - w, u), updates, average, params
        )
        return updates, LookaheadState(count, average)

    return optax.GradientTransformation(init, update)
