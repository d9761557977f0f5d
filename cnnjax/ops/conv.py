"""The convolution of all networks, in the form that XLA runs fastest on the backend at hand.

XLA:CPU brings convolutions into the layout of its fast kernels in a program's entry computation only. The two
backward convolutions that autodiff writes are in other layouts, so inside `scan`, `while` and `cond` they run
in naive loops, 30 times slower (jax-ml/jax#12868). Here the backward pass is written with convolutions that
have the fast layout already, NHWC times HWIO, of operands transposed beforehand; optimisation barriers keep
XLA from folding the transposes back in. Values and gradients are those of `lax.conv_general_dilated`.

A convolution is linear in each operand, and so are its two gradients: the gradient by the images is a
convolution again, and the gradients of the gradient by the kernel are convolutions. So two functions that
name each other as their derivatives are closed under reverse mode of every order.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
from jax import lax

LAYOUT = ("NHWC", "HWIO", "NHWC")
Pair = tuple[int, int]


class Window(NamedTuple):
    """How a kernel moves over an image, height first."""

    strides: Pair
    padding: tuple[Pair, Pair]
    input_dilation: Pair
    kernel_dilation: Pair
    groups: int


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
    **options: Any,
) -> jax.Array:
    """`lax.conv_general_dilated`, for `flax.linen.Conv(conv_general_dilated=...)`.

    On a CPU, images [batch, height, width, channel] take the form above; it has reverse mode of every order
    but no forward mode (`jax.jvp`, `jax.jacfwd`), for which `lax.conv_general_dilated` itself is there.
    Everything else goes to XLA as it is.
    """
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    images = lhs.ndim == 4 and numbers == lax.conv_dimension_numbers(lhs.shape, rhs.shape, LAYOUT)
    if not images or options or jax.default_backend() != "cpu":
        return lax.conv_general_dilated(
            lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers,
            feature_group_count, precision=precision, **options,
        )  # fmt: skip
    dilation = _pair(rhs_dilation or (1, 1))
    if isinstance(padding, str):
        extent = [(size - 1) * step + 1 for size, step in zip(rhs.shape, dilation, strict=False)]
        padding = lax.padtype_to_pads(lhs.shape[1:3], extent, window_strides, padding)
    low, high = padding
    pads = _pair(low), _pair(high)
    window = Window(_pair(window_strides), pads, _pair(lhs_dilation or (1, 1)), dilation, feature_group_count)
    return convolve(lhs, rhs, window)


CONVOLUTIONS = {"auto": conv_general_dilated, "native": lax.conv_general_dilated}
"""Name to function, for the networks' field `convolution`; "native" has forward mode too."""


def _pair(values: Sequence[int]) -> Pair:
    first, second = values
    return int(first), int(second)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(images: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """[batch, height, width, c_in] by [k, k, c_in / groups, c_out] to [batch, height, width, c_out]."""
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


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def kernel_gradient(images: jax.Array, upstream: jax.Array, window: Window, size: Pair) -> jax.Array:
    """Gradient by the kernel of `convolve`, whose spatial size is `size`, from that by its result.

    The batch is summed over, so it takes the place of the channels: images [c_in, height, width, batch] are
    convolved with the result's gradient as the kernel [height, width, batch, c_out].
    """
    batch, height, width, c_in = images.shape
    groups = window.groups
    images = images.reshape(batch, height, width, groups, c_in // groups).transpose(4, 1, 2, 3, 0)
    images = images.reshape(c_in // groups, height, width, groups * batch)
    padding = tuple(
        (low, (k - 1) * kernel_dilation + (out - 1) * stride - (extent - 1) * input_dilation - low)
        for (low, _), k, kernel_dilation, out, stride, extent, input_dilation in zip(
            window.padding,
            size,
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


def input_gradient(upstream: jax.Array, kernel: jax.Array, window: Window, size: Pair) -> jax.Array:
    """Gradient by the images of `convolve`, whose spatial size is `size`, from that by its result.

    A convolution with the kernel flipped in space and its channels swapped; strides become input dilation.
    """
    *extent, c_in_per_group, c_out = kernel.shape
    groups = window.groups
    kernel = kernel[::-1, ::-1].reshape(*extent, c_in_per_group, groups, c_out // groups)
    kernel = kernel.transpose(0, 1, 4, 3, 2).reshape(*extent, c_out // groups, groups * c_in_per_group)
    padding = []
    for axis in range(2):
        reach = (extent[axis] - 1) * window.kernel_dilation[axis]
        low = reach - window.padding[axis][0]
        dilated = (size[axis] - 1) * window.input_dilation[axis]
        high = dilated + reach - (upstream.shape[1 + axis] - 1) * window.strides[axis] - low
        padding.append((low, high))
    swapped = Window(window.input_dilation, tuple(padding), window.strides, window.kernel_dilation, groups)
    return convolve(upstream, lax.optimization_barrier(kernel), swapped)


def _convolve_forward(images, kernel, window):
    return convolve(images, kernel, window), (images, kernel)


def _convolve_backward(window, residuals, upstream):
    images, kernel = residuals
    return (
        input_gradient(upstream, kernel, window, images.shape[1:3]),
        kernel_gradient(images, upstream, window, kernel.shape[:2]),
    )


def _kernel_gradient_forward(images, upstream, window, size):
    return kernel_gradient(images, upstream, window, size), (images, upstream)


def _kernel_gradient_backward(window, size, residuals, cotangent):
    images, upstream = residuals
    return input_gradient(upstream, cotangent, window, images.shape[1:3]), convolve(images, cotangent, window)


convolve.defvjp(_convolve_forward, _convolve_backward)
kernel_gradient.defvjp(_kernel_gradient_forward, _kernel_gradient_backward)
