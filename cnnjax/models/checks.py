"""What every network asks of its fields and images, so that the errors of all of them read alike."""

from collections.abc import Collection

import jax
from flax import linen as nn

from cnnjax.errors import UserError


def check_choices(network: nn.Module, **choices: Collection[str]) -> None:
    """Each field named must have one of its choices, such as `stem=STEMS`; raises UserError."""
    for field, values in choices.items():
        if (value := getattr(network, field)) not in values:
            raise UserError(f"{field}={value!r}: must be one of {', '.join(values)}")


def check_at_least_one(network: nn.Module, *fields: str) -> None:
    """Each field named, or each number in it, must be 1 or more; raises UserError."""
    for field in fields:
        value = getattr(network, field)
        if min(value if isinstance(value, tuple) else (value,)) < 1:
            raise UserError(f"{field}={value}: must be at least 1")


def check_rates(network: nn.Module, *fields: str) -> None:
    """Each field named, or each number in it, is a dropout rate, in [0, 1); raises UserError."""
    for field in fields:
        value = getattr(network, field)
        if not all(0 <= rate < 1 for rate in (value if isinstance(value, tuple) else (value,))):
            raise UserError(f"{field}={value}: must be in [0, 1), such as 0.2")


def check_image_size(x: jax.Array, smallest: int, largest: int | None = None, note: str = "") -> None:
    """Images [batch, height, width, channel] must have so many pixels a side; raises UserError."""
    height, width = x.shape[1:3]
    if min(height, width) < smallest or (largest and max(height, width) > largest):
        fits = (
            f"{smallest}x{smallest} to {largest}x{largest}" if largest else f"at least {smallest}x{smallest}"
        )
        raise UserError(f"images of {height}x{width} do not fit: must be {fits}{note and ' ' + note}")
