"""Grouped convolutions, whose groups may be divided over devices.

A network knows nothing about devices, and XLA does not see that groups are independent. So the code that
traces a network may say how to divide a grouped convolution (`cnnjax.mesh.by_groups`).
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import jax

Convolve = Callable[[jax.Array, jax.Array, int], jax.Array]
"""From images, kernel and number of groups to the result."""
Divide = Callable[[Convolve, jax.Array, jax.Array, int], jax.Array]
"""The same, given a `Convolve` first, on all devices together."""
_divide: ContextVar[Divide | None] = ContextVar("divide", default=None)


@contextlib.contextmanager
def divided(how: Divide) -> Iterator[None]:
    """Let networks that are traced inside compute their grouped convolutions by `how`."""
    before = _divide.set(how)
    try:
        yield
    finally:
        _divide.reset(before)


def divisible(convolve: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Make `convolve`, which Flax calls as `lax.conv_general_dilated`, follow `divided` if it has groups."""

    @functools.wraps(convolve)
    def grouped(
        images: jax.Array, kernel: jax.Array, *window: Any, feature_group_count: int = 1, **options: Any
    ) -> jax.Array:
        def plain(images: jax.Array, kernel: jax.Array, groups: int) -> jax.Array:
            return convolve(images, kernel, *window, feature_group_count=groups, **options)

        how = _divide.get()
        if how is None or feature_group_count == 1:
            return plain(images, kernel, feature_group_count)
        return how(plain, images, kernel, feature_group_count)

    return grouped
