"""Marks in a network's trace: they say what a network means where that cannot be told from what it computes.

They change no value and cost nothing: XLA never sees them.
"""

from collections.abc import Sequence
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

mark = Primitive("mark")
mark.multiple_results = True
mark.def_impl(lambda *values, meaning: list(values))
mark.def_abstract_eval(lambda *values, meaning: list(values))
batching.primitive_batchers[mark] = lambda values, axes, meaning: (mark.bind(*values, meaning=meaning), axes)
mlir.register_lowering(mark, lambda context, *values, meaning: values)

JOIN, LAYER = "join", "layer"


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], meaning: str) -> tuple[list[Any], list[Any]]:
    return mark.bind(*primals, meaning=meaning), list(tangents)


ad.primitive_jvps[mark] = _jvp


def join(
    stream: jax.Array, branch: jax.Array, block_input: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Mark what a residual block adds, and return both: `stream, branch = join(stream, branch)`.

    Probes find most additions of this kind by themselves (`cnnjax.probes.trace`).

    Args:
        stream: the shortcut's value; in a plain block, zeros.
        branch: what the block's layers computed.
        block_input: what the block took, if `stream` does not come from there.
    """
    start = stream if block_input is None else block_input
    marked = mark.bind(stream, branch, start, meaning=JOIN)
    return marked[0], marked[1]


def layer(output: jax.Array, kernel: jax.Array) -> jax.Array:
    """Mark `output` [..., unit] as that of one layer with these weights, and return it.

    Probes see convolutions, matrix products and look-ups. A kernel of one's own (Pallas, FFI) needs this
    mark, and so does a layer that is computed by several of those.
    """
    return mark.bind(output, kernel, meaning=LAYER)[0]
