"""Sums over images: BatchNorm's arithmetic, and what probes ask of every layer.

On a CPU, XLA computes a mean, a variance and the two sums of BatchNorm's backward pass one by one, each at
half the speed of memory; our own code (`sums.h`) reads the images once for the moments, and once for the
backward pass. Where `best_form` is not "direct", all of it is XLA's.

`scale_shift` is linear in gain and offset. Its transpose, `products`, is linear in what comes back, and has
`scale_shift` as its own transpose: BatchNorm's primitives are closed under forward and reverse mode of every
order. Those of the probes have no derivatives.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from cnnjax.ops import direct
from cnnjax.ops.conv import best_form

MOMENTS, SCALE_SHIFT = "reduce_moments", "scale_shift"
"""Their names in a trace."""
Axes = tuple[int, ...]


def moments(x: jax.Array, axes: Axes | None = None) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance of `x` over `axes`, by default over all but the last one, [channel]."""
    all_but_last = tuple(range(x.ndim - 1))
    axes = all_but_last if axes is None else axes
    if axes == all_but_last and _is_direct(x):
        mean, var = _moments.bind(x, axes=axes)
        return mean, var
    return _moments_by_xla(x, axes)


def scale_shift(x: jax.Array, centre: jax.Array, gain: jax.Array, offset: jax.Array) -> jax.Array:
    """(x - centre) * gain + offset, with `x` [..., channel] and the others [channel]."""
    axes = tuple(range(x.ndim - 1))
    if _is_direct(x, centre, gain, offset):
        return _scale_shift.bind(x, centre, gain, offset, axes=axes)[0]
    return _scale_shift_by_xla(x, centre, gain, offset, axes)[0]


def positives(
    x: jax.Array, centre: jax.Array, gain: jax.Array, offset: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """How often `scale_shift` of these is positive, and how many pairs of samples are at the same place.

    `x` is [sample, ..., channel], all else [channel]; each pair counts twice.
    """
    axes = tuple(range(x.ndim - 1))
    if _is_direct(x, centre, gain, offset):
        counts, pairs = _positives.bind(x, centre, gain, offset, axes=axes)
        return counts, pairs
    return _positives_by_xla(x, centre, gain, offset, axes=axes)


def count(which: jax.Array, axis: int) -> jax.Array:
    """How many are true along this axis."""
    byte = jnp.uint8 if which.shape[axis] < 256 else jnp.uint32  # bytes are counted fastest
    return which.sum(axis, dtype=byte)


def norm(x: jax.Array) -> jax.Array:
    """The Euclidean norm of all elements, for any size that it can have."""
    if x.ndim and _is_direct(x):
        return _norm.bind(x, axes=tuple(range(x.ndim)))[0]
    return _norm_by_xla(x, tuple(range(x.ndim)))[0]


def _is_direct(*operands: jax.Array) -> bool:
    return all(best_form(x.dtype) == "direct" for x in operands)


def _moments_by_xla(x: jax.Array, axes: Axes) -> tuple[jax.Array, jax.Array]:
    mean = x.mean(axes)
    centre = lax.stop_gradient(mean)
    var = jnp.square(x - jnp.expand_dims(centre, axes)).mean(axes) - jnp.square(mean - centre)
    return mean, var


def _scale_shift_by_xla(x: jax.Array, centre: Any, gain: Any, offset: Any, axes: Axes) -> list[jax.Array]:
    centre, gain, offset = (jnp.expand_dims(each, axes) for each in (centre, gain, offset))
    return [(x - centre) * gain + offset]


def _products_by_xla(x: jax.Array, centre: Any, other: jax.Array, axes: Axes) -> tuple[jax.Array, jax.Array]:
    """Sums of (x - centre) * other, and of `other`."""
    return ((x - jnp.expand_dims(centre, axes)) * other).sum(axes), other.sum(axes)


def _positives_by_xla(x: jax.Array, *numbers: Any, axes: Axes) -> tuple[jax.Array, jax.Array]:
    samples, *places = axes
    times = count(_scale_shift_by_xla(x, *numbers, axes=axes)[0] > 0, samples).astype(x.dtype)
    places = tuple(axis - 1 for axis in places)
    return times.sum(places), (times * (times - 1)).sum(places)


def _norm_by_xla(x: jax.Array, axes: Axes) -> list[jax.Array]:
    squares = jnp.square(x).sum(axes)

    def scaled() -> jax.Array:
        largest = jnp.abs(x).max(axes, keepdims=True, initial=0)
        largest = jnp.where(largest > 0, largest, 1)
        return jnp.squeeze(largest, axes) * jnp.sqrt(jnp.square(x / largest).sum(axes))

    # Squares of what is left of a gradient after 50 sigmoids would be 0, and of one that explodes, infinite.
    usual = jnp.all((squares > 1e-20) & (squares < 1e30))
    return [lax.cond(usual, lambda: jnp.sqrt(squares), scaled)]


def _here(name: str, results: int = 2) -> Callable:
    """The function of that name in `sums.h`."""

    def compute(x: jax.Array, *others: jax.Array, axes: Axes) -> Sequence[jax.Array]:
        shape = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
        leading = x.ndim - len(axes) - (x.ndim - 1 not in axes)
        return direct.sums(name, x, *others, shape=shape, leading=leading, results=results)

    return compute


def _primitive(name: str, compute: Callable, by_xla: Callable, images: Sequence[int] = (0,)) -> Primitive:
    """Make a function with several results that `jit` and `vmap` know; `images` number its large operands."""
    primitive = Primitive(name)
    primitive.multiple_results = True

    def abstract(*operands: Any, axes: Axes) -> list[ShapedArray]:
        results = jax.eval_shape(partial(by_xla, axes=axes), *operands)
        return [ShapedArray(result.shape, result.dtype) for result in results]

    def batch(operands: Sequence[jax.Array], mapped: Sequence[int | None], *, axes: Axes) -> Any:
        if any(mapped[number] is None for number in images):  # one image for all would be copied for each
            results = jax.vmap(partial(by_xla, axes=axes), mapped)(*operands)
        else:  # more groups
            size = next(x.shape[at] for x, at in zip(operands, mapped, strict=True) if at is not None)
            operands = [
                jnp.broadcast_to(x, (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
                for x, axis in zip(operands, mapped, strict=True)
            ]
            results = primitive.bind(*operands, axes=tuple(axis + 1 for axis in axes))
        return results, [0] * len(results)

    here, elsewhere = (mlir.lower_fun(form, multiple_results=True) for form in (compute, by_xla))

    def lower(context: Any, *operands: Any, axes: Axes) -> Any:
        # An exported program runs elsewhere, where our own code may be missing.
        exported = context.module_context.lowering_parameters.for_export
        return (elsewhere if exported else here)(context, *operands, axes=axes)

    primitive.def_impl(jax.jit(compute, static_argnames="axes"))
    primitive.def_abstract_eval(abstract)
    batching.primitive_batchers[primitive] = batch
    mlir.register_lowering(primitive, lower)
    return primitive


_moments = _primitive(MOMENTS, _here("moments"), _moments_by_xla)
_products = _primitive("reduce_products", _here("products"), _products_by_xla, images=(0, 2))
_scale_shift = _primitive(SCALE_SHIFT, _scale_shift_by_xla, _scale_shift_by_xla)
_positives = _primitive("reduce_positives", _here("positives"), _positives_by_xla)
_norm = _primitive("reduce_norm", _here("norm", results=1), _norm_by_xla)


def _moments_jvp(primals: Any, tangents: Any, *, axes: Axes) -> Any:
    (x,), (dx,) = primals, tangents
    mean, var = _moments.bind(x, axes=axes)
    of_products, of_dx = _products.bind(x, mean, dx, axes=axes)
    rows = math.prod(x.shape[axis] for axis in axes)
    return [mean, var], [of_dx / rows, of_products * (2 / rows)]


def _scale_shift_jvp(primals: Any, tangents: Any, *, axes: Axes) -> Any:
    x, centre, gain, _ = primals
    dx, dcentre, dgain, doffset = map(ad.instantiate_zeros, tangents)
    (change,) = _scale_shift.bind(x, centre, dgain, doffset, axes=axes)
    if not all(isinstance(tangent, ad.Zero) for tangent in tangents[:2]):
        change += (dx - jnp.expand_dims(dcentre, axes)) * jnp.expand_dims(gain, axes)
    return _scale_shift.bind(*primals, axes=axes), [change]


def _scale_shift_transpose(upstream: Any, x: Any, centre: Any, gain: Any, offset: Any, *, axes: Axes) -> Any:
    gradients = _products.bind(x, centre, *map(ad.instantiate_zeros, upstream), axes=axes)
    of_linear = (
        gradient if ad.is_undefined_primal(operand) else None
        for gradient, operand in zip(gradients, (gain, offset), strict=True)
    )
    return [None, None, *of_linear]


def _products_jvp(primals: Any, tangents: Any, *, axes: Axes) -> Any:
    x, centre, other = primals
    of_products, of_other = _products.bind(*primals, axes=axes)
    dx, dcentre, dother = map(ad.instantiate_zeros, tangents)
    of_change, change = _products.bind(x, centre, dother, axes=axes)
    if not isinstance(tangents[0], ad.Zero):
        of_change += (dx * other).sum(axes)
    return [of_products, of_other], [of_change - dcentre * of_other, change]


def _products_transpose(upstream: Any, x: Any, centre: Any, other: Any, *, axes: Axes) -> Any:
    return [None, None, *_scale_shift.bind(x, centre, *map(ad.instantiate_zeros, upstream), axes=axes)]


ad.primitive_jvps[_moments] = _moments_jvp
ad.primitive_jvps[_scale_shift] = _scale_shift_jvp
ad.primitive_jvps[_products] = _products_jvp
ad.primitive_transposes[_scale_shift] = _scale_shift_transpose
ad.primitive_transposes[_products] = _products_transpose
