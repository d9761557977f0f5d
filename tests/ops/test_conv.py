"""Against `lax.conv_general_dilated`: values, gradients and second derivatives, over shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cnnjax.ops.conv import LAYOUT, conv_general_dilated


def random_case(seed):
    """A window that fits, its images and its kernel; every option is met in a few dozen draws."""
    draw = np.random.default_rng(seed)
    groups = int(draw.choice([1, 1, 2, 3]))
    kernel = draw.integers(1, 4, 2)
    dilation = draw.integers(1, 3, 2)
    strides = draw.integers(1, 4, 2)
    input_dilation = draw.integers(1, 3, 2) if draw.random() < 0.3 else np.ones(2, int)
    padding = [tuple(map(int, draw.integers(0, 3, 2))) for _ in range(2)]
    if draw.random() < 0.3:
        padding, input_dilation = str(draw.choice(["SAME", "VALID"])), np.ones(2, int)
    height, width = draw.integers(6, 11, 2)
    images = draw.normal(size=(2, height, width, 2 * groups)).astype(np.float32)
    weights = draw.normal(size=(*kernel, 2, 3 * groups)).astype(np.float32)
    options = {
        "window_strides": tuple(map(int, strides)),
        "padding": padding,
        "lhs_dilation": tuple(map(int, input_dilation)),
        "rhs_dilation": tuple(map(int, dilation)),
        "feature_group_count": groups,
        "dimension_numbers": LAYOUT,
    }
    return jnp.asarray(images), jnp.asarray(weights), options


def derivatives(conv, images, kernel, options):
    """Value, gradients, and the gradient of a function of the gradients (Hessian-vector products)."""

    def loss(images, kernel):
        return jnp.sin(conv(images, kernel, **options)).sum()

    def curvature(images, kernel):
        gradients = jax.grad(loss, argnums=(0, 1))(images, kernel)
        return sum(jnp.cos(gradient).sum() for gradient in gradients)

    return (
        conv(images, kernel, **options),
        *jax.grad(loss, argnums=(0, 1))(images, kernel),
        *jax.grad(curvature, argnums=(0, 1))(images, kernel),
    )


@pytest.mark.parametrize("seed", range(24))
def test_equals_lax(seed):
    images, kernel, options = random_case(seed)
    for ours, theirs in zip(
        derivatives(conv_general_dilated, images, kernel, options),
        derivatives(lax.conv_general_dilated, images, kernel, options),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def test_the_cases_meet_every_option():
    cases = [random_case(seed)[2] for seed in range(24)]
    assert {case["feature_group_count"] for case in cases} == {1, 2, 3}
    assert {"SAME", "VALID"} <= {case["padding"] for case in cases if isinstance(case["padding"], str)}
    for option in ("window_strides", "lhs_dilation", "rhs_dilation"):
        assert len({case[option] for case in cases}) > 2


def test_under_vmap_and_in_bfloat16(key):
    images, kernel, options = random_case(0)
    several = jnp.stack([kernel, 2 * kernel])
    ours, theirs = (
        jax.vmap(jax.grad(lambda kernel, conv=conv: jnp.square(conv(images, kernel, **options)).sum()))(
            several
        )
        for conv in (conv_general_dilated, lax.conv_general_dilated)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)
    half = conv_general_dilated(images.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16), **options)
    assert half.dtype == jnp.bfloat16


def test_backward_convolutions_have_the_layout_that_is_fast_in_loops():
    """In the compiled loop every convolution is NHWC x HWIO: other layouts run in naive loops there."""
    kernel = jnp.ones((3, 3, 4, 4))

    def loss(kernel, images):
        def layer(x, _):
            return jnp.sin(conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT)), None

        return lax.scan(layer, images, length=3)[0].sum()

    compiled = jax.jit(jax.grad(loss)).lower(kernel, jnp.ones((2, 6, 6, 4))).compile().as_text()
    layouts = {
        line.split("dim_labels=")[1].split(",")[0].split()[0]
        for line in compiled.splitlines()
        if "dim_labels=" in line
    }
    assert layouts == {"b01f_01io->b01f"}
