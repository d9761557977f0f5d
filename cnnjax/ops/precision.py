"""The precision of numbers that must not be narrow."""

from typing import Any

import jax.numpy as jnp


def wide(dtype: Any) -> Any:
    """The type of parameters, statistics and logits of a network that computes in `dtype`.

    It is float32, or float64 if that is `dtype`.
    """
    return jnp.promote_types(dtype, jnp.float32)


def types(dtype: Any) -> dict[str, Any]:
    """The fields of a Flax layer that computes in `dtype`."""
    return {"dtype": dtype, "param_dtype": wide(dtype)}
