"""Checks of fields and images, with the same error messages for all networks."""

import numbers
from collections.abc import Collection, Mapping
from typing import Any, get_origin, get_type_hints

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.errors import UserError

TYPES: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "True or False"),
    int: ((numbers.Integral,), "a whole number"),
    float: ((numbers.Real,), "a number"),
    str: ((str,), "a word in quotes"),
    tuple: ((tuple, list), "several values in parentheses"),
}
"""What a field's value must be, by its annotation: classes, and words for the message."""


def check_types(network: type[nn.Module], fields: Mapping[str, Any]) -> None:
    """Raise UserError unless each field has the type that `network` declares."""
    try:
        hints = get_type_hints(network)
    except NameError:  # a quoted annotation that only its own function can resolve
        hints = {}
    for field, value in fields.items():
        hint = hints.get(field, Any)
        hint = get_origin(hint) or hint
        classes, words = TYPES.get(hint, ((object,), ""))
        is_right = isinstance(value, classes) and (hint in (bool, Any) or not isinstance(value, bool))
        if field == "dtype":
            is_right, words = _is_floating(value), "a floating-point type, such as 'bfloat16'"
        if not is_right:
            raise UserError(f"{field}={value!r}: must be {words}")
        if field == "dtype" and _is_truncated(value):
            raise UserError("dtype='float64': JAX computes in float32 here; set JAX_ENABLE_X64=1")


def _is_truncated(dtype: Any) -> bool:
    """Whether JAX would silently compute in float32 instead."""
    return jnp.dtype(dtype) == jnp.float64 != jnp.result_type(float)


def _is_floating(dtype: Any) -> bool:
    try:
        return jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        return False


def check_choices(network: nn.Module, **choices: Collection[str]) -> None:
    """Raise UserError unless each named field has one of its choices, such as `stem=STEMS`."""
    for field, values in choices.items():
        if (value := getattr(network, field)) not in values:
            raise UserError(f"{field}={value!r}: must be one of {', '.join(values)}")


def check_at_least_one(network: nn.Module, *fields: str) -> None:
    """Raise UserError unless each named field, or each number in it, is at least 1."""
    for field in fields:
        value = getattr(network, field)
        values = value if isinstance(value, tuple) else (value,)
        if not values or not all(isinstance(one, numbers.Integral) and int(one) >= 1 for one in values):
            raise UserError(f"{field}={value}: must be at least 1")


def check_rates(network: nn.Module, *fields: str) -> None:
    """Raise UserError unless each named field, or each number in it, is a rate in [0, 1)."""
    for field in fields:
        value = getattr(network, field)
        if not all(0 <= rate < 1 for rate in (value if isinstance(value, tuple) else (value,))):
            raise UserError(f"{field}={value}: must be in [0, 1), such as 0.2")


def blocks_in(
    family: str, depth: int, step: int, others: int, suffix: str = "", forms: str = "", note: str = ""
) -> int:
    """Find n for a net of depth step * n + others; its name is `family`, `depth` and `suffix`.

    Raises:
        UserError: there is no such n; the message gives the `forms` of valid depths, the nearest of them, and
            `note`.
    """
    n, rest = divmod(depth - others, step)
    if rest or n < 1:
        forms = forms or f"{step}n + {others}"
        near = dict.fromkeys(f"{family}{step * max(1, m) + others}{suffix}" for m in (n, n + 1))
        nearest = f"nearest: {' and '.join(near)}"
        raise UserError(f"{family}{depth}{suffix}: depth {depth} is not {forms} ({nearest}){note}")
    return n


def check_image_size(x: jax.Array, smallest: int, largest: int | None = None, note: str = "") -> None:
    """Raise UserError unless images [batch, height, width, channel] have sides in this range."""
    height, width = x.shape[1:3]
    if min(height, width) < smallest or (largest and max(height, width) > largest):
        fits = (
            f"{smallest}x{smallest} to {largest}x{largest}" if largest else f"at least {smallest}x{smallest}"
        )
        raise UserError(f"images of {height}x{width} do not fit: must be {fits}{note and ' ' + note}")
