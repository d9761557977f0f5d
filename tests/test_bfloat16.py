"""bfloat16 computes convolutions and activations; weights, statistics, sums and the loss stay float32."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

import cnnjax
from cnnjax.config import Config
from cnnjax.data.synthetic import synthetic
from cnnjax.files import read_jsonl
from cnnjax.mesh import make_mesh
from cnnjax.probes import LayerProbe, layer_statistics
from cnnjax.recipes import Objects, resolve
from cnnjax.training.program import Program

NET = {"width": 4, "stage_sizes": [1, 1]}
CONFIG = Config(model="resnet8", model_options=NET, dtype="bfloat16", data="synthetic", batch_size=8)
# Sums of many numbers, and functions whose results lie close together for different arguments.
SENSITIVE = {"reduce_sum", "cumsum", "reduce_window_sum", "exp", "log", "log1p", "logistic", "div", "sqrt"}
SENSITIVE |= {"rsqrt", "integer_pow", "square", "erf_inv", "pow"}


def narrow_operations(jaxpr):
    """What gives bfloat16, by name and place in the source."""
    for equation in jaxpr.eqns:
        if any(getattr(var.aval, "dtype", None) == jnp.bfloat16 for var in equation.outvars):
            yield equation.primitive.name
        for inner in jaxprs_in_params(equation.params):
            yield from narrow_operations(inner)


@pytest.fixture(scope="module")
def traced():
    task = resolve(CONFIG, Objects(data=synthetic(train=16, test=8, size=8), probes=[LayerProbe()]))
    program = Program(task, make_mesh(data=1))
    return program, program.trace(due=(True,))


def test_sums_statistics_and_the_loss_are_float32(traced):
    """Sums in bfloat16 are those within a convolution or product, which accelerators take in float32."""
    found = set(narrow_operations(traced[1].jaxpr.jaxpr))
    assert {"conv_general_dilated", "convolve"} & found
    assert found & SENSITIVE == {"reduce_sum"}  # the gradient of the classifier's bias


def test_what_is_kept_and_what_is_told_is_float32(traced):
    program, step = traced
    state, metrics, measured = step.out_info
    floating = [leaf for leaf in jax.tree.leaves((state, metrics, measured)) if leaf.dtype.kind not in "iub"]
    assert {leaf.dtype.name for leaf in floating} == {"float32"}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(program.state_shapes)} == {"float32", "int32"}


def test_probes_measure_a_bfloat16_network_as_its_float32_twin():
    """Norms and deviations within the 8 bits that bfloat16 has, times the depth."""
    images = jax.random.normal(jax.random.key(1), (16, 8, 8, 3))
    batch = images, jnp.arange(16) % 10
    found = []
    for dtype in ("float32", "bfloat16"):
        model = cnnjax.build("resnet8", width=4, stage_sizes=(1, 1), dtype=dtype)
        variables = model.init(jax.random.key(0), images, train=False)
        found.append(jax.jit(lambda v, model=model: layer_statistics(model, v, batch))(variables))
    wide, narrow = found
    assert narrow.layers == wide.layers
    for field in ("weight_norm", "weight_gradient_norm", "activation_gradient_norm", "rms", "response_std"):
        ours, theirs = (np.asarray(getattr(one, field)) for one in (narrow, wide))
        assert ours.dtype == np.float32, field
        np.testing.assert_allclose(ours, theirs, rtol=0.05, err_msg=field)


@pytest.mark.slow
def test_losses_of_a_hundred_steps_are_those_of_float32(tmp_path):
    """The first within 1 %, and the mean of each twenty within 3 %; measured was 0.3 %."""
    losses = {}
    for dtype in ("float32", "bfloat16"):
        config = dataclasses.replace(
            CONFIG, dtype=dtype, model_options={**NET, "width": 8}, batch_size=64, steps=100, augment="none",
            evaluate_every=100, checkpoint_every=100, boundaries=(), learning_rate=0.05,
        )  # fmt: skip
        cnnjax.train(config, tmp_path / dtype)
        lines = read_jsonl(tmp_path / dtype / "metrics.jsonl")
        losses[dtype] = np.array([line["train_loss"] for line in lines if "train_loss" in line])
    assert losses["bfloat16"][0] == pytest.approx(losses["float32"][0], rel=0.01)
    wide, narrow = (losses[dtype].reshape(5, 20).mean(1) for dtype in ("float32", "bfloat16"))
    np.testing.assert_allclose(narrow, wide, rtol=0.03)
    assert wide[-1] < wide[0] / 2  # they learn


@pytest.mark.slow
def test_training_errors_on_fashion_mini_are_those_of_float32(tmp_path):
    """Means over three seeds, within what these means vary by: two standard errors of their difference."""
    errors = {}
    for dtype in ("float32", "bfloat16"):
        config = Config(
            model="resnet8", model_options={"width": 8}, dtype=dtype, data="fashion_mini", downsample=2,
            steps=200, batch_size=64, schedule="cosine", evaluate_every=200, checkpoint_every=200,
        )  # fmt: skip
        configs = [dataclasses.replace(config, seed=seed) for seed in range(3)]
        results = cnnjax.train_many(configs, [tmp_path / f"{dtype}{seed}" for seed in range(3)])
        errors[dtype] = np.array([result.metrics["train_error"] for result in results])
    wide, narrow = errors["float32"], errors["bfloat16"]
    spread = np.sqrt((wide.var(ddof=1) + narrow.var(ddof=1)) / 3)
    assert abs(wide.mean() - narrow.mean()) < max(2 * spread, 0.02)
