"""Against `lax.conv_general_dilated`: values, gradients and second derivatives, over shapes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cnnjax.errors import UserError
from cnnjax.ops import direct
from cnnjax.ops.conv import CONVOLUTIONS, LAYOUT, conv_general_dilated
from tests.gradients import compiled

SEEDS = range(20)
QUICK = (1, 2, 3, 4, 9, 10, 13)  # these meet every option
FORMS = ("canonical", "direct")
needs_compiler = pytest.mark.skipif(direct.load() is not None, reason=f"{direct.load()}")


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
    """Value, gradients, their own gradients (Hessian-vector products), and forward mode."""

    def loss(images, kernel):
        return jnp.sin(conv(images, kernel, **options)).sum()

    def curvature(images, kernel):
        gradients = jax.grad(loss, argnums=(0, 1))(images, kernel)
        return sum(jnp.cos(gradient).sum() for gradient in gradients)

    def compute(images, kernel):
        return (
            conv(images, kernel, **options),
            *jax.grad(loss, argnums=(0, 1))(images, kernel),
            *jax.grad(curvature, argnums=(0, 1))(images, kernel),
            jax.jvp(loss, (images, kernel), (jnp.cos(images), jnp.cos(kernel)))[1],
        )

    return compiled(compute, images, kernel)(images, kernel)


@pytest.mark.parametrize(
    "seed", [seed if seed in QUICK else pytest.param(seed, marks=pytest.mark.slow) for seed in SEEDS]
)
def test_equals_lax(seed):
    images, kernel, options = random_case(seed)
    theirs = derivatives(lax.conv_general_dilated, images, kernel, options)
    for form in FORMS if direct.load() is None else FORMS[:1]:
        for mine, reference in zip(
            derivatives(CONVOLUTIONS[form], images, kernel, options), theirs, strict=True
        ):
            np.testing.assert_allclose(
                mine, reference, rtol=1e-4, atol=1e-4 * np.abs(reference).max(), err_msg=form
            )


@needs_compiler
@pytest.mark.parametrize(
    ("batch", "channels"), [(70, (3, 16)), (70, (16, 40)), (70, (33, 7)), (5, (33, 300))]
)
@pytest.mark.parametrize("stride", [1, 2])
def test_direct_equals_lax_where_tiles_and_images_have_remainders(key, batch, channels, stride):
    """Full and cut tiles of pixels and channels; threads that share images, or blocks of a large kernel."""
    images = jax.random.normal(key, (batch, 9, 11, channels[0]))
    kernel = jax.random.normal(key, (3, 3, *channels))

    def derivative(conv):
        def loss(images, kernel):
            result = conv(images, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=LAYOUT)
            return jnp.sin(result).sum(), result

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(images, kernel)

    ours, theirs = derivative(CONVOLUTIONS["direct"]), derivative(lax.conv_general_dilated)
    for mine, reference in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(mine, reference, rtol=1e-4, atol=1e-4 * np.abs(reference).max())


def rounds_well(image_shape, kernel_shape, stride, padding):
    """Against float64, in relation to the results' size: result, and both gradients."""
    draw = np.random.default_rng(0).normal
    images, kernel = draw(size=image_shape), draw(size=kernel_shape)
    around = ((padding, padding), (padding, padding))

    def derivative(conv, dtype):
        def loss(images, kernel):
            result = conv(images, kernel, (stride, stride), around, dimension_numbers=LAYOUT)
            return (result * jnp.arange(result.size, dtype=dtype).reshape(result.shape) % 7).sum(), result

        arguments = jnp.asarray(images, dtype), jnp.asarray(kernel, dtype)
        return jax.tree.map(np.asarray, jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(*arguments))

    (_, ours), our_gradients = derivative(CONVOLUTIONS["direct"], jnp.float32)
    with jax.enable_x64(True):
        (_, theirs), their_gradients = derivative(lax.conv_general_dilated, jnp.float64)
    for mine, reference in zip((ours, *our_gradients), (theirs, *their_gradients), strict=True):
        assert np.abs(mine - reference).max() < 1e-5 * np.sqrt(np.square(reference).mean())


@needs_compiler
@pytest.mark.parametrize(
    ("batch", "size", "channels", "stride"),
    [
        (70, (9, 11), (64, 70), 1),  # one block of the gradient, whose pixels are in parts
        (3, (7, 5), (210, 270), 1),  # several blocks, and pixels that end within a tile
        (2, (6, 9), (67, 90), 2),
        (1, (1, 1), (64, 65), 1),
        (70, (9, 11), (16, 40), 1),  # few channels are no product
    ],
)
def test_products_of_matrices_round_like_any_other(batch, size, channels, stride):
    """Kernels of one pixel."""
    rounds_well((batch, *size, channels[0]), (1, 1, *channels), stride, 0)


@needs_compiler
@pytest.mark.parametrize(
    ("batch", "size", "kernel", "channels", "stride", "padding"),
    [
        (70, (3, 3), 3, (68, 70), 1, 1),  # only the middle tap meets pixels everywhere
        (5, (6, 7), 3, (64, 66), 2, 1),
        (3, (1, 1), 2, (65, 64), 1, 1),  # each result meets a tap of its own, and none of them meets all
        (2, (2, 3), 2, (64, 64), 3, 3),  # most meet none
    ],
)
def test_products_leave_out_what_is_outside_of_the_image(batch, size, kernel, channels, stride, padding):
    rounds_well((batch, *size, channels[0]), (kernel, kernel, *channels), stride, padding)


@needs_compiler
@pytest.mark.parametrize(
    ("batch", "size", "channels", "padding"),
    [(70, (9, 11), (16, 40), 1), (3, (5, 5), (24, 8), 0), (2, (6, 4), (32, 32), 2), (1, (1, 1), (16, 16), 1)],
)
def test_minimal_filtering_rounds_like_a_direct_sum(batch, size, channels, padding):
    rounds_well((batch, *size, channels[0]), (3, 3, *channels), 1, padding)


def test_direct_by_name_without_a_compiler(monkeypatch, key):
    monkeypatch.setattr(direct, "load", lambda: "no C++ compiler is here")
    images, kernel = jnp.zeros((1, 4, 4, 3)), jnp.zeros((3, 3, 3, 5))
    with pytest.raises(UserError, match=r"convolution='direct': no C\+\+ compiler is here; 'auto' takes"):
        CONVOLUTIONS["direct"](images, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT)


@needs_compiler
def test_direct_gives_the_same_bits_every_time(key):
    images, upstream = jax.random.normal(key, (2, 64, 8, 8, 16))

    @jax.jit
    def gradient(images, upstream):
        kernel = jnp.zeros((3, 3, 16, 16))
        pull = jax.vjp(
            lambda kernel: CONVOLUTIONS["direct"](images, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT),
            kernel,
        )[1]
        return pull(upstream)[0]

    first = gradient(images, upstream)
    assert all((gradient(images, upstream) == first).all() for _ in range(20))


def test_without_a_compiler_the_canonical_form_is_used(key, monkeypatch):
    monkeypatch.setattr(direct, "load", lambda: "no C++ compiler is here")
    images, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 2))
    program = jax.make_jaxpr(partial(conv_general_dilated, dimension_numbers=LAYOUT), static_argnums=(2, 3))(
        images, kernel, (1, 1), "SAME"
    )
    assert program.eqns[0].params["window"].form == "canonical"


def test_the_cases_meet_every_option():
    cases = [random_case(seed)[2] for seed in QUICK]
    assert {case["feature_group_count"] for case in cases} == {1, 2, 3}
    assert {"SAME", "VALID"} <= {case["padding"] for case in cases if isinstance(case["padding"], str)}
    for option in ("window_strides", "lhs_dilation", "rhs_dilation"):
        assert len({case[option] for case in cases}) > 2


def test_under_vmap_and_in_bfloat16(key):
    images, kernel, options = random_case(0)
    batches, kernels = jnp.stack([images, 2 * images], 1), jnp.stack([kernel, 2 * kernel], 2)
    for axes in ((1, None), (None, 2), (1, 2)):
        operands = (batches if axes[0] else images, kernels if axes[1] else kernel)
        ours, theirs = (
            jax.vmap(jax.grad(lambda *x, conv=conv: jnp.square(conv(*x, **options)).sum(), (0, 1)), axes)(
                *operands
            )
            for conv in (conv_general_dilated, lax.conv_general_dilated)
        )
        for mine, reference in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine, reference, rtol=1e-4, atol=1e-3)
    half = conv_general_dilated(images.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16), **options)
    assert half.dtype == jnp.bfloat16


def test_backward_convolutions_have_the_layout_that_is_fast_in_loops():
    """In the compiled loop every convolution is NHWC x HWIO: other layouts run in naive loops there."""
    kernel = jnp.ones((3, 3, 4, 4))

    def loss(kernel, images):
        def layer(x, _):
            convolved = CONVOLUTIONS["canonical"](x, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT)
            return jnp.sin(convolved), None

        return lax.scan(layer, images, length=3)[0].sum()

    program = jax.jit(jax.grad(loss)).lower(kernel, jnp.ones((2, 6, 6, 4))).compile().as_text()
    layouts = {
        line.split("dim_labels=")[1].split(",")[0].split()[0]
        for line in program.splitlines()
        if "dim_labels=" in line
    }
    assert layouts == {"b01f_01io->b01f"}


@needs_compiler
def test_what_is_exported_runs_where_our_code_is_not():
    """jax.export takes no custom calls: what it gets is XLA's convolution, on this platform and any other."""
    images, kernel, options = random_case(0)
    conv = partial(conv_general_dilated, form="direct")

    @jax.jit
    def value_and_gradient(images):
        return jax.value_and_grad(lambda images: conv(images, kernel, **options).sum())(images)

    exported = jax.export.export(value_and_gradient)(images)
    assert "custom_call @cnnjax" not in exported.mlir_module()
    for ours, theirs in zip(value_and_gradient(images), exported.call(images), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    assert jax.export.export(value_and_gradient, platforms=["tpu", "cuda"])(images).platforms == (
        "tpu",
        "cuda",
    )
