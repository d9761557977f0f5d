"""Every network that is listed: its depth, its gradients, its precision, and what a probe sees of it.

The networks are narrow and their images small, but they are as deep as they are. `-k resnet` checks some.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from cnnjax.models import build, list_models, stack, unstack
from cnnjax.models.registry import _ENTRIES
from cnnjax.probes import layer_statistics
from tests.counting import random_variables, trace
from tests.gradients import compiled
from tests.nets import CLASSES, narrow
from tests.test_precision import check_float64

BATCH = 4
DEPTH = re.compile(r"(?!lenet|nin|inception)[a-z_]*?[a-z](\d+)(_|$)")
NAMES = list_models()
FAMILIES = [entry.listed[0] for entry in _ENTRIES if entry.listed]
FIRST = ["lenet5", "cuda_convnet_11pct", "highway10", "fixup_resnet20"]  # soon done, and odd each in its way
slow = pytest.mark.slow


def some(names, at_once):
    """`names` as parameters; all but those `at_once` take long together."""
    return [pytest.param(name, marks=[] if name in at_once else slow) for name in names]


def weighted_layers(name, params):
    """As the papers count them: what is beside the main path does not count."""
    kernels = [path for path in params if path[-1] == "kernel"]
    if name.startswith("wrn"):  # projections are counted, the classifier is not
        return len(kernels) - 1
    if name.startswith("fractalnet"):  # of the deepest column; the classifier is not counted
        columns = {part[:7] for path in kernels for part in path if part.startswith("column")}
        return sum(max(columns) in path[1] for path in kernels if len(path) > 2)
    beside = {"shortcut", "gate", "se"}
    fully_connected = re.fullmatch(r"highway(_plain)?\d+", name)  # its softmax layer is not counted
    return sum(beside.isdisjoint(path) for path in kernels) - bool(fully_connected)


@pytest.mark.parametrize("name", some(filter(DEPTH.match, NAMES), ["resnet20", "vgg11", *FIRST]))
def test_a_depth_in_a_name_is_that_of_the_network(name):
    model, image = narrow(name)
    depth = int(DEPTH.match(name)[1]) + (name == "densenet264")  # as its paper's table has it
    assert weighted_layers(name, flatten_dict(trace(model, image)["params"])) == depth


def loss(model, variables, params, images):
    """In training, auxiliary classifiers included."""
    logits, new = model.apply(
        {**variables, "params": params},
        images,
        train=True,
        mutable=["batch_stats", "auxiliary"],
        rngs={"dropout": jax.random.key(1)},
    )
    heads = [logits, *jax.tree.leaves(new.get("auxiliary", {}))]
    assert all(head.dtype == jnp.float32 for head in heads)
    return sum(jnp.square(head - jnp.arange(CLASSES)).mean() for head in heads)


def tamed(path, leaf):
    """The factors of branches without normalisation are small, as they are at first."""
    return leaf * np.float32(0.1) if leaf.ndim == 0 and path[-1].key == "scale" else leaf


@slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_gets_a_gradient(name):
    """In bfloat16, recomputing activations, mapped over two batches, scanned over depth where it can be."""
    model, image = narrow(name)
    if hasattr(model, "block_sizes"):  # dense blocks differ in length alone, and cannot be scanned
        model = model.clone(block_sizes=tuple(min(size, 2) for size in model.block_sizes))
    variables = stack(jax.tree_util.tree_map_with_path(tamed, random_variables(model, image)))
    images = jax.random.normal(jax.random.key(0), (2, BATCH, *image))
    remat = {"remat": True} if hasattr(model, "remat") else {}
    whole = partial(loss, model.clone(dtype=jnp.bfloat16, **remat), variables)
    each = jax.vmap(jax.grad(whole if remat else jax.checkpoint(whole)), (None, 0))

    def mean(params):
        return jax.tree.map(lambda leaf: leaf.mean(0), each(params, images))

    gradients = compiled(mean, variables["params"])(variables["params"])
    for path, gradient in flatten_dict(unstack(jax.device_get(gradients))).items():
        assert gradient.dtype == jnp.float32, path
        assert 0 < np.abs(gradient).max() < np.inf, path


@pytest.mark.parametrize("name", some(NAMES, FIRST))
def test_a_probe_sees_every_layer(name):
    """Networks of the papers' sizes are traced, not run."""
    model = build(name)
    images = jax.ShapeDtypeStruct((2, *model.input_shape), jnp.float32)
    labels = jax.ShapeDtypeStruct((2,), jnp.int32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    found = jax.eval_shape(lambda v, x, y: layer_statistics(model, v, (x, y)), variables, images, labels)
    paths = ("/".join(key.key for key in path) for path, _ in jax.tree.leaves_with_path(variables["params"]))
    assert sorted(found.layers) == sorted(
        path.removesuffix("/kernel") for path in paths if path.endswith("/kernel")
    )
    for field, values in found.arrays().items():
        over = found.blocks if field in ("blocks", "branch_rms", "stream_rms") else found.layers
        assert len(values) == len(over), field


@slow
@pytest.mark.parametrize("name", FAMILIES)
def test_float64_is_float64_throughout(name):
    check_float64(*narrow(name))
