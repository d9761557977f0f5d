"""The convolution of all networks, in the form that is fastest where the program will run.

On GPUs and TPUs that is XLA's own. On a CPU it is our own code (`direct_conv.cc`, `winograd.h` for 3x3
kernels with stride 1, `product.h` for other kernels of many channels), which takes between a half and a tenth
of XLA's time, or, if that is not available, XLA's code in a canonical form: XLA:CPU brings convolutions into
the layout of its fast kernels only in a program's entry computation. The two backward convolutions that
autodiff writes are in other layouts, so inside `scan`, `while` and `cond` they run in naive loops, 30 times
slower (jax-ml/jax#12868). Here they are written as convolutions that already have the fast layout, NHWC times
HWIO, of operands transposed beforehand; optimisation barriers keep XLA from folding the transposes back in.
Values and derivatives are those of `lax.conv_general_dilated`.

A convolution is linear in each operand, and so is its gradient with respect to the kernel; the gradient with
respect to the images is again a convolution. So two primitives, `convolve` and `kernel_gradient`, which are
each other's transposes, are closed under forward and reverse mode of every order.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from cnnjax.ops import direct
from cnnjax.ops.groups import divisible

LAYOUT = ("NHWC", "HWIO", "NHWC")
CONVOLVE = "convolve"
"""The name of `convolve` in a trace."""
Pair = tuple[int, int]
_platform: ContextVar[str | None] = ContextVar("platform", default=None)


@contextlib.contextmanager
def compiled_for(platform: str) -> Iterator[None]:
    """Let networks that are traced inside be for devices of `platform`, whatever device compiles them."""
    before = _platform.set(platform)
    try:
        yield
    finally:
        _platform.reset(before)


class Window(NamedTuple):
    """How a kernel of this size moves over an image, height first."""

    size: Pair
    strides: Pair
    padding: tuple[Pair, Pair]
    input_dilation: Pair
    kernel_dilation: Pair
    groups: int
    form: str
    reversed: bool = False
    """Whether the kernel is that of the convolution in the other direction: see `reverse`."""

    def direct(self) -> dict[str, Any]:
        """Return it under the names of `direct_conv.cc`, but for `reversed`."""
        return {
            "strides": self.strides,
            "low": [low for low, _ in self.padding],
            "input_dilation": self.input_dilation,
            "kernel_dilation": self.kernel_dilation,
            "groups": self.groups,
        }


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[Pair],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
    form: str | None = None,
    **options: Any,
) -> jax.Array:
    """`lax.conv_general_dilated`, for `flax.linen.Conv(conv_general_dilated=...)`.

    On a CPU, images [batch, height, width, channel] take one of the forms above: `form` ("direct" or
    "canonical"), or by default the faster one that is available. Everything else goes to XLA as it is.
    """
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    images = lhs.ndim == 4 and numbers == lax.conv_dimension_numbers(lhs.shape, rhs.shape, LAYOUT)
    form = form or best_form(lhs.dtype)
    if not images or options or form == "native":
        return lax.conv_general_dilated(
            lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers,
            feature_group_count, precision=precision, **options,
        )  # fmt: skip
    dilation = _pair(rhs_dilation or (1, 1))
    if isinstance(padding, str):
        extent = [(size - 1) * step + 1 for size, step in zip(rhs.shape, dilation, strict=False)]
        padding = lax.padtype_to_pads(lhs.shape[1:3], extent, window_strides, padding)
    low, high = padding
    window = Window(
        size=_pair(rhs.shape[:2]),
        strides=_pair(window_strides),
        padding=(_pair(low), _pair(high)),
        input_dilation=_pair(lhs_dilation or (1, 1)),
        kernel_dilation=dilation,
        groups=feature_group_count,
        form=form,
    )
    return convolve(lhs, rhs, window)


def best_form(dtype: Any = jnp.float32) -> str:
    """The fastest form for `compiled_for`'s platform, or this process's, a name in CONVOLUTIONS."""
    if (_platform.get() or jax.default_backend()) != "cpu":
        return "native"
    return "direct" if direct.usable(dtype) else "canonical"


CONVOLUTIONS = {
    "auto": divisible(conv_general_dilated),
    "direct": divisible(partial(conv_general_dilated, form="direct")),
    "canonical": divisible(partial(conv_general_dilated, form="canonical")),
    "native": divisible(lax.conv_general_dilated),
}
"""Name to function, for the networks' field `convolution`; "native" is XLA's own on every backend."""


def _pair(values: Sequence[int]) -> Pair:
    first, second = values
    return int(first), int(second)


def convolve(images: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """[batch, height, width, c_in] by [k, k, c_in / groups, c_out] to [batch, height, width, c_out].

    A `reversed` window has a kernel [k, k, c_out / groups, c_in].
    """
    return _convolve.bind(images, kernel, window=window)


def kernel_gradient(images: jax.Array, upstream: jax.Array, window: Window) -> jax.Array:
    """Gradient with respect to the kernel of `convolve`, given that with respect to its result."""
    return _kernel_gradient.bind(images, upstream, window=window)


def input_gradient(upstream: jax.Array, kernel: jax.Array, window: Window, size: Pair) -> jax.Array:
    """Gradient with respect to the images of `convolve`, of spatial `size`, given that of its result.

    A convolution in the other direction, with a reversed kernel; strides become input dilation.
    """
    extent = kernel.shape[:2]
    padding = []
    for axis in range(2):
        reach = (extent[axis] - 1) * window.kernel_dilation[axis]
        low = reach - window.padding[axis][0]
        dilated = (size[axis] - 1) * window.input_dilation[axis]
        high = dilated + reach - (upstream.shape[1 + axis] - 1) * window.strides[axis] - low
        padding.append((low, high))
    swapped = window._replace(
        strides=window.input_dilation,
        padding=tuple(padding),
        input_dilation=window.strides,
        reversed=not window.reversed,
    )
    return convolve(upstream, kernel, swapped)


def reverse(kernel: jax.Array, groups: int) -> jax.Array:
    """The kernel of the convolution in the other direction: flipped in space, its channels swapped."""
    *extent, c_in_per_group, c_out = kernel.shape
    kernel = kernel[::-1, ::-1].reshape(*extent, c_in_per_group, groups, c_out // groups)
    return kernel.transpose(0, 1, 4, 3, 2).reshape(*extent, c_out // groups, groups * c_in_per_group)


def _convolve_by_xla(images, kernel, window):
    if window.reversed:
        kernel = lax.optimization_barrier(reverse(kernel, window.groups))
    return lax.conv_general_dilated(
        images,
        kernel,
        window.strides,
        window.padding,
        window.input_dilation,
        window.kernel_dilation,
        LAYOUT,
        window.groups,
    )


def _convolve_here(images, kernel, window):
    if window.form == "direct":
        shape = jax.eval_shape(partial(_convolve_by_xla, window=window), images, kernel).shape
        return direct.convolve(images, kernel, shape, reversed=window.reversed, **window.direct())
    return _convolve_by_xla(images, kernel, window)


def _kernel_gradient_here(images, upstream, window):
    """Compute `kernel_gradient`; by XLA, which sums over the batch, so it takes the place of the channels.

    Images [c_in, height, width, batch] are convolved with the result's gradient as the kernel
    [height, width, batch, c_out].
    """
    batch, height, width, c_in = images.shape
    groups = window.groups
    if window.reversed:
        forwards = _kernel_gradient_here(images, upstream, window._replace(reversed=False))
        return reverse(forwards, groups)
    if window.form == "direct" and window.input_dilation == (1, 1):
        shape = (*window.size, c_in // groups, upstream.shape[-1])
        return direct.kernel_gradient(images, upstream, shape, **window.direct())
    images = images.reshape(batch, height, width, groups, c_in // groups).transpose(4, 1, 2, 3, 0)
    images = images.reshape(c_in // groups, height, width, groups * batch)
    padding = tuple(
        (low, (k - 1) * kernel_dilation + (out - 1) * stride - (extent - 1) * input_dilation - low)
        for (low, _), k, kernel_dilation, out, stride, extent, input_dilation in zip(
            window.padding,
            window.size,
            window.kernel_dilation,
            upstream.shape[1:3],
            window.strides,
            (height, width),
            window.input_dilation,
            strict=True,
        )
    )
    gradient = lax.conv_general_dilated(
        lax.optimization_barrier(images),
        lax.optimization_barrier(upstream.transpose(1, 2, 0, 3)),
        window.kernel_dilation,
        padding,
        window.input_dilation,
        window.strides,
        LAYOUT,
        groups,
    )
    return lax.optimization_barrier(gradient).transpose(1, 2, 0, 3)


def _primitive(
    name: str, compute: Callable, images_transpose: Callable, other_transpose: Callable
) -> Primitive:
    """Make a function of two arrays, linear in each, that `jit`, `vmap` and both modes of `grad` know."""
    primitive = Primitive(name)

    def batch(arguments, axes, window):
        (images, other), (images_axis, other_axis) = arguments, axes
        if name == CONVOLVE and other_axis is None:  # one kernel for all: one long batch
            images = jnp.moveaxis(images, images_axis, 0)
            result = primitive.bind(images.reshape(-1, *images.shape[2:]), other, window=window)
            return result.reshape(*images.shape[:2], *result.shape[1:]), 0
        mapped = [
            jnp.moveaxis(x, axis, 0) for x, axis in zip(arguments, axes, strict=True) if axis is not None
        ]

        def one(mapped):
            rest = iter(mapped)
            operands = (x if axis is None else next(rest) for x, axis in zip(arguments, axes, strict=True))
            return primitive.bind(*operands, window=window)

        return lax.map(one, mapped), 0

    def abstract(images, other, window):
        result = jax.eval_shape(partial(compute, window=window), images, other)
        return ShapedArray(result.shape, result.dtype)

    primitive.def_impl(jax.jit(compute, static_argnames="window"))
    primitive.def_abstract_eval(abstract)
    ad.defbilinear(primitive, images_transpose, other_transpose)
    batching.primitive_batchers[primitive] = batch
    lower = mlir.lower_fun(compute, multiple_results=False)

    def lower_here_or_to_export(context, images, other, window):
        # An exported program runs elsewhere, where our own code may be missing: there it uses XLA's.
        if context.module_context.lowering_parameters.for_export:
            window = window._replace(form="canonical")
        return lower(context, images, other, window=window)

    mlir.register_lowering(primitive, lower_here_or_to_export)
    return primitive


# A transpose gets the value of the other operand, and only the shape of its own.
_convolve = _primitive(
    CONVOLVE,
    _convolve_here,
    lambda upstream, images, kernel, window: input_gradient(upstream, kernel, window, images.aval.shape[1:3]),
    lambda upstream, images, kernel, window: kernel_gradient(images, upstream, window),
)
_kernel_gradient = _primitive(
    "kernel_gradient",
    _kernel_gradient_here,
    lambda cotangent, images, upstream, window: input_gradient(
        upstream, cotangent, window, images.aval.shape[1:3]
    ),
    lambda cotangent, images, upstream, window: convolve(images, cotangent, window),
)
