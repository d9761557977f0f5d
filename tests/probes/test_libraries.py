"""One network in every library: the same weights give the same statistics, in float64."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import cnnjax
from cnnjax import probes
from cnnjax.models import build
from cnnjax.probes import layer_statistics
from cnnjax.probes.subject import as_subject

libraries = pytest.importorskip("tests.probes.libraries", reason="pip install equinox dm-haiku keras")

pytestmark = pytest.mark.usefixtures("x64", "keras_in_float64")
FIELDS = {"width": 4, "dtype": "float64", "convolution": "native"}


@pytest.fixture(scope="module")
def keras_in_float64():
    """Keras computes in its `floatx`, but for BatchNorm: on JAX that is float32.

    Layers take the policy, which Keras makes of `floatx` when it is first asked for, and keeps.
    """
    import keras

    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)


@pytest.fixture(scope="module")
def ours(x64):
    model = build("resnet8", **FIELDS)
    draw = np.random.default_rng(0).normal
    x, y = jnp.asarray(draw(size=(6, 8, 8, 3))), jnp.array([0, 1, 2, 3, 4, 0])
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False))
    variables = jax.tree.map(lambda leaf: jnp.asarray(draw(size=leaf.shape) * 0.4, leaf.dtype), shapes)
    statistics = jax.jit(lambda variables: layer_statistics(model, variables, (x, y)))(variables)
    return variables, (x, y), statistics


CLOSE = (1e-9, 1e-12)  # relative and absolute
CLOSE_IN_FLOAT32 = (1e-5, 1e-7)
FAST = ("function", "NNX")  # the others take as long to compile


@pytest.mark.parametrize(
    "library", [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in libraries.IN]
)
def test_statistics_are_those_of_ours(ours, library):
    variables, batch, expected = ours
    other, its_own = libraries.IN[library](flatten_dict(variables["params"], sep="/"))
    network, of_other = as_subject(other, its_own)
    found = jax.jit(lambda variables: layer_statistics(network, variables, batch))(of_other)
    assert len(found.layers) == len(set(found.layers)) == 8
    close = CLOSE_IN_FLOAT32 if library == "Keras" else CLOSE
    for name, value in expected.arrays().items():
        if isinstance(value, jax.Array):
            np.testing.assert_allclose(found.arrays()[name], value, *close, err_msg=name)


@pytest.mark.parametrize("library", ["NNX", "Equinox", "Keras"])
def test_costs_are_those_of_ours(ours, library):
    """The other two always are in training mode here: BatchNorm's statistics see the whole image."""
    variables, *_ = ours
    other, its_own = libraries.IN[library](flatten_dict(variables["params"], sep="/"))
    found = cnnjax.summary(other, (8, 8, 3), its_own)
    expected = cnnjax.summary("resnet8", (8, 8, 3), width=4)
    for what in ("parameters", "macs", "receptive_field"):
        assert getattr(found, what) == getattr(expected, what)
    layers, theirs = ([layer for layer in each.layers if layer.macs] for each in (found, expected))
    for layer, one in zip(layers, theirs, strict=True):
        assert sorted(layer.output) == sorted(one.output)
        assert (layer.macs, layer.receptive_field, layer.stride) == (
            one.macs,
            one.receptive_field,
            one.stride,
        )


@pytest.mark.slow
@pytest.mark.parametrize("library", ["NNX", "Equinox"])
def test_gradients_and_jacobians_are_those_of_ours(ours, library):
    """With every treatment of BatchNorm's statistics; Linen's modules and the trace have it in two ways."""
    variables, (images, labels), _ = ours
    flat = flatten_dict(variables["params"], sep="/")
    subjects = (build("resnet8", **FIELDS), variables), libraries.IN[library](flat)
    batch = images[:4], labels[:4]

    def measure(model, variables):
        found = {
            f"input, {how}": probes.input_gradients(model, variables, batch, how)
            for how in ("frozen", "batch", "full")
        }
        found |= {
            f"samples, {how}": probes.sample_statistics(model, variables, batch, how).mean_cosine
            for how in ("frozen", "batch")
        }
        found["jacobian"] = probes.jacobian.singular_values(model, variables, batch[0])
        found["loss"] = probes.curvature.batch_loss(model, variables, batch)(variables["params"])
        return found

    expected, found = (jax.jit(partial(measure, model))(own) for model, own in map(as_pair, subjects))
    for name, values in expected.items():
        scale = np.abs(values).max()
        np.testing.assert_allclose(found[name], values, atol=1e-9 * scale, err_msg=name)


def as_pair(subject):
    return as_subject(*subject)
