"""A planted fault is named, with its layer; healthy networks have no finding."""

import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import cnnjax
from cnnjax.errors import UserError
from tests.diagnosis.patients import HEALTHY, MLP, SICK, batch, diagnosed

QUICK = ("dead", "small weights")


def check(name):
    diagnose, words, layers = SICK[name]
    named = [finding for finding in diagnose().findings if words in finding.what]
    assert named, "the fault is not found"
    for layer in layers:
        assert any(where.endswith(layer) for where in named[0].where), f"{layer} is not named"
    assert named[0].cause
    assert named[0].cure


@pytest.mark.parametrize("name", QUICK)
def test_the_fault_is_named(name):
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SICK if name not in QUICK])
def test_every_fault_is_named(name):
    if name == "float16" and "SSE4_2" in os.environ.get("XLA_FLAGS", ""):
        pytest.skip("XLA compiles no float16 for processors without instructions for it")
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_networks_have_no_finding(name):
    assert HEALTHY[name]().findings == []


@pytest.fixture(scope="module")
def healthy():
    return diagnosed(MLP(depth=3), optimizer=optax.adam(1e-3), steps=3)


def test_the_report_is_whole(healthy, tmp_path):
    found = healthy.to_json()
    assert json.loads(json.dumps(found)) == found
    assert found["layers"] == ["dense0", "dense1", "dense2", "head"]
    assert found["verdict"] in ("trains", "unlikely", "unknown")
    assert all(len(values) == 4 for values in found["statistics"].values())
    assert found["not_measured"] == {}
    assert found["findings"] == []
    assert "no finding" in str(healthy)
    assert healthy.figure(tmp_path / "figure.png").read_bytes()[1:4] == b"PNG"
    assert (tmp_path / "figure.svg").exists()


def test_samples_are_those_of_a_layers_own_weight():
    """Weights stacked for a scan, and one used twice, have the numbers of the same net written out."""
    draw = np.random.default_rng(0).normal
    inner = draw(size=(2, 6, 6)).astype(np.float32)
    ends = {name: draw(size=size).astype(np.float32) for name, size in (("first", (5, 6)), ("last", (6, 3)))}
    data = draw(size=(4, 5)).astype(np.float32), np.arange(4) % 3

    def scanned(params, x):
        x = jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x @ params["first"], params["inner"])[0]
        return jnp.tanh(x @ params["inner"][0]) @ params["last"]

    def written_out(params, x):
        x = jnp.tanh(jnp.tanh(x @ params["first"] @ params["a"]) @ params["b"])
        return jnp.tanh(x @ params["a"]) @ params["last"]

    one = cnnjax.diagnose(scanned, {**ends, "inner": inner}, data, steps=1)
    other = cnnjax.diagnose(written_out, {**ends, "a": inner[0], "b": inner[1]}, data, steps=1)
    assert len(one.layers) == 5
    for name in ("signal", "shattering"):
        assert not np.isnan(one.statistics[name]).any()
        np.testing.assert_allclose(one.statistics[name], other.statistics[name], rtol=1e-3, atol=1e-5)


def test_what_is_measured_of_the_whole_network(healthy):
    """Sharpness and gradients of samples, by a second path."""
    variables = MLP(depth=3).init(jax.random.key(0), batch()[0])
    images, labels = batch()

    def loss(params):
        logits = MLP(depth=3).apply({"params": params}, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

    by_sample = jax.vmap(lambda gradient: jax.flatten_util.ravel_pytree(gradient)[0])(
        jax.jacrev(loss)(variables["params"])
    )
    mean = by_sample.mean(0)
    alignment = len(labels) * jnp.sum(mean**2) / jnp.mean(jnp.sum(by_sample**2, 1))
    found = healthy.examination.samples.by_weights.alignment[-1]
    np.testing.assert_allclose(found, alignment, rtol=1e-3)
    assert healthy.examination.sharpness > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"batch": (np.zeros((1, 14, 14, 1), np.float32), np.zeros(1, int))}, "one sample"),
        ({"steps": 0}, "steps=0"),
        ({"optimizer": "sgd"}, "optax.GradientTransformation"),
        ({"batch": np.zeros(3)}, "must be"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, words):
    given = {"batch": batch(), **arguments}
    variables = MLP(depth=1).init(jax.random.key(0), batch()[0])
    with pytest.raises(UserError, match=words):
        cnnjax.diagnose(MLP(depth=1), variables, **given)
