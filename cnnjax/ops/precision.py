"""How wide the numbers are that must not be narrow."""

from typing import Any

import jax.numpy as jnp


def wide(dtype: Any) -> Any:
    """The type of parameters, statistics and logits where a network computes in `dtype`.

    It is float32, or float64 where that is `dtype`.
    """
    return jnp.promote_types(dtype, jnp.float32)


def types(dtype: Any) -> dict[str, Any]:
    """The fields of a Flax layer that computes in `dtype`."""
    return {"dtype": dtype, "param_dtype": wide(dtype)}
