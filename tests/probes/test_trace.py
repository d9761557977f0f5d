"""Layers from the trace: the same network under every transformation of JAX has the same statistics."""

import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, PartitionSpec

from cnnjax.probes import layer_statistics

pytestmark = pytest.mark.usefixtures("x64")

BLOCKS, WIDTH = 3, 4
LAYERS = ("stem", *(f"blocks/{name}[{i}]" for i in range(BLOCKS) for name in ("first", "second")), "head")


def conv(x, kernel, **options):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )


def normalize(x, scale, bias):
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias


def block(x, params, convolve=conv):
    y = jax.nn.relu(normalize(convolve(x, params["first"]), params["scale"], params["bias"]))
    return x + convolve(y, params["second"])


def net(params, x, block=block):
    x = conv(x, params["stem"])
    for each in range(BLOCKS):
        x = block(x, jax.tree.map(lambda leaf, each=each: leaf[each], params["blocks"]))
    return x.mean((1, 2)) @ params["head"]


def over_depth(params, x, loop):
    x = loop(conv(x, params["stem"]), params["blocks"])
    return x.mean((1, 2)) @ params["head"]


def scanned(x, blocks, **options):
    return lax.scan(lambda x, each: (block(x, each), None), x, blocks, **options)[0]


def scanned_backwards(x, blocks):
    return scanned(x, jax.tree.map(lambda leaf: leaf[::-1], blocks), reverse=True)


@pytest.fixture(scope="module")
def example():
    draw = np.random.default_rng(0).normal
    params = {
        "blocks": {
            "bias": draw(size=(BLOCKS, WIDTH)),
            "first": 0.3 * draw(size=(BLOCKS, 3, 3, WIDTH, WIDTH)),
            "scale": 1 + 0.1 * draw(size=(BLOCKS, WIDTH)),
            "second": 0.3 * draw(size=(BLOCKS, 3, 3, WIDTH, WIDTH)),
        },
        "head": draw(size=(WIDTH, 5)),
        "stem": draw(size=(3, 3, 3, WIDTH)),
    }
    batch = draw(size=(6, 8, 8, 3)), np.array([0, 1, 2, 3, 4, 0])
    return jax.tree.map(jnp.asarray, (params, batch))


def statistics(function, example):
    params, batch = example
    return jax.jit(lambda params: layer_statistics(function, params, batch))(params)


@pytest.fixture(scope="module")
def expected(example):
    return statistics(net, example)


def test_layers_and_blocks(expected):
    assert expected.layers == LAYERS
    assert expected.blocks == tuple(f"blocks[{i}]" for i in range(BLOCKS))


@jax.custom_vjp
def own_conv(x, kernel):
    return conv(x, kernel)


own_conv.defvjp(lambda x, k: (conv(x, k), (x, k)), lambda saved, g: jax.vjp(conv, *saved)[1](g))


def one_sample(params, x):
    """As Equinox's modules are: for one sample, with the batch's statistics over a named axis."""

    def normalize(x, scale, bias):
        mean = lax.pmean(x.mean((0, 1)), "batch")
        var = lax.pmean(jnp.square(x - mean).mean((0, 1)), "batch")
        return (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias

    def convolve(x, kernel):
        return conv(x[None], kernel)[0]

    def block(x, params):
        y = jax.nn.relu(normalize(convolve(x, params["first"]), params["scale"], params["bias"]))
        return x + convolve(y, params["second"])

    x = scan_of(block)(convolve(x, params["stem"]), params["blocks"])
    return x.mean((0, 1)) @ params["head"]


def scan_of(block):
    return lambda x, blocks: lax.scan(lambda x, each: (block(x, each), None), x, blocks)[0]


def branched(params, x):
    """Each block in a branch that is taken."""

    def taken(x, params):
        return lax.cond(params["scale"].sum() > -1e9, block, lambda x, params: x, x, params)

    return net(params, x, taken)


def weight_normalized(params, x):
    """Kernels behind a transformation that leaves their values as they are."""

    def kernel(k):
        norm = jnp.sqrt(jnp.square(k).sum())
        return (norm * (k / norm)).astype(jnp.float64).reshape(-1).reshape(k.shape)

    return net(params, x, partial(block, convolve=lambda x, k: conv(x, kernel(k))))


TRANSFORMED = {
    "jit": jax.jit(net),
    "jit of each block": partial(net, block=jax.jit(block)),
    "remat": partial(net, block=jax.checkpoint(block)),
    "scan": partial(over_depth, loop=scanned),
    "scan, unrolled": partial(over_depth, loop=partial(scanned, unroll=2)),
    "scan of remat": partial(over_depth, loop=scan_of(jax.checkpoint(block))),
    "cond": branched,
    "custom_vjp": partial(net, block=partial(block, convolve=own_conv)),
    "vmap": lambda params, x: jax.vmap(one_sample, (None, 0), axis_name="batch")(params, x),
    "transformed kernels": weight_normalized,
}


@pytest.mark.parametrize("how", TRANSFORMED)
def test_transformations_change_nothing(example, expected, how):
    found = statistics(TRANSFORMED[how], example)
    assert found.layers == expected.layers
    assert found.blocks == expected.blocks
    for name, value in expected.arrays().items():
        if isinstance(value, jax.Array):
            np.testing.assert_allclose(found.arrays()[name], value, rtol=1e-9, err_msg=name)


def sharded(params, x):
    """On one device, of which there is one on every machine; several are in tests/training."""
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("data")
    return jax.shard_map(net, mesh=mesh, in_specs=(PartitionSpec(), spec), out_specs=spec)(params, x)


def sharded_conv(params, x):
    """Each convolution by itself."""
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("data")
    convolve = jax.shard_map(conv, mesh=mesh, in_specs=(spec, PartitionSpec()), out_specs=spec)
    return net(params, x, partial(block, convolve=convolve))


TRANSFORMED |= {"shard_map": sharded, "shard_map of each convolution": sharded_conv}


def test_of_while_the_last_iteration_is_measured(example, expected):
    """Nothing can come back through it; here the same block is applied three times."""
    params, batch = example
    one = jax.tree.map(lambda leaf: leaf[0], params["blocks"])

    def looped(params, x):
        x = lax.stop_gradient(conv(x, params["stem"]))
        x = lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, block(c[1], params["block"])), (0, x))[1]
        return lax.stop_gradient(x).mean((1, 2)) @ params["head"]

    def unrolled(params, x):
        x = conv(x, params["stem"])
        for _ in range(3):
            x = block(x, params["block"])
        return x.mean((1, 2)) @ params["head"]

    params = {"block": one, "head": params["head"], "stem": params["stem"]}
    found, plain = (statistics(function, (params, batch)) for function in (looped, unrolled))
    assert found.layers == ("stem", "block/first", "block/second", "head")
    np.testing.assert_allclose(found.rms, plain.rms[jnp.array([0, 5, 6, 7])], rtol=1e-9)
    np.testing.assert_array_equal(np.isnan(found.activation_gradient_norm), [False, True, True, False])


DIVIDED = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, PartitionSpec as P
from cnnjax.probes import layer_statistics

jax.config.update("jax_enable_x64", True)
mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))

def block(x, p):
    return x + jnp.tanh(x @ p["a"]) @ p["b"], None

def net(p, x):
    return jax.lax.scan(block, x @ p["stem"], p["blocks"])[0] @ p["head"]

def divided(p, x):
    return jax.shard_map(net, mesh=mesh, in_specs=(P(), P("data")), out_specs=P("data"))(p, x)

draw = np.random.default_rng(0).normal
blocks = {"a": 0.4 * draw(size=(3, 6, 6)), "b": 0.4 * draw(size=(3, 6, 6))}
params = {"stem": draw(size=(7, 6)), "blocks": blocks, "head": draw(size=(6, 5))}
batch = draw(size=(8, 7)), np.arange(8) % 5
whole, parts = (jax.jit(lambda p: layer_statistics(f, p, batch))(params) for f in (net, divided))
assert whole.layers == parts.layers and whole.blocks == parts.blocks
for name in ("weight_gradient_norm", "activation_gradient_norm", "rms", "branch_rms", "stream_rms"):
    np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-9)
"""


@pytest.mark.slow
def test_what_four_devices_measure_is_put_together():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "PJRT_NPROC": "32"}
    subprocess.run([sys.executable, "-c", DIVIDED], env={**os.environ, **flags}, check=True)
