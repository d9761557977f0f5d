from typing import get_args

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from cnnjax import config
from cnnjax.errors import UserError
from cnnjax.mesh import (
    AXES,
    SHARDS,
    check_divisible,
    check_shard,
    make_mesh,
    parse_mesh,
    shard_batch,
    shardings,
)


def test_a_mesh_from_the_command_line():
    assert parse_mesh("data=1,model=1") == parse_mesh("seed=1") == make_mesh()
    assert dict(make_mesh().shape) == {"seed": 1, "data": jax.device_count(), "model": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data=4,modle=2", "mesh 'data=4,modle=2': unknown axis 'modle', must be of seed, data, model"),
        ("8", "unknown axis '8'"),
        ("", "unknown axis ''"),
        ("data", "each axis has one number of devices, as in data=4,model=2"),
        ("data=two", "each axis has one number"),
        ("data=1,data=1", "each axis has one number"),
        ("data=0", "data=0, model=1: each must be at least 1"),
        ("data=64,model=2", "a mesh of seed=1, data=64, model=2 needs 128 devices: 1 found"),
    ],
)
def test_a_mesh_that_cannot_be(text, message):
    with pytest.raises(UserError, match=message) as error:
        parse_mesh(text)
    assert "\n" not in str(error.value)


def test_a_batch_is_a_multiple_of_the_devices():
    mesh = AbstractMesh((2, 4, 1), AXES)
    for batch_size in (4, 16, 20):
        check_divisible(batch_size, mesh, runs=6)
        check_divisible(batch_size, mesh)
    for batch_size, near in ((18, 16), (3, 4), (7, 4)):
        message = f"batch size {batch_size} does not divide over 4 devices: try {near}"
        with pytest.raises(UserError, match=message):
            check_divisible(batch_size, mesh)
    with pytest.raises(UserError, match="number of runs 3 does not divide over 2 devices: try 2"):
        check_divisible(4, mesh, runs=3)


def test_where_the_arrays_of_a_state_lie():
    mesh = AbstractMesh((1, 4, 2), AXES)
    tree = {
        "stage1_block01": {"conv1": {"kernel": (3, 3, 16, 64)}, "bn1": {"scale": (64,)}},
        "stage1_block02-09": {"conv1": {"kernel": (8, 3, 3, 16, 6)}},  # the first axis is depth
        "conv1": {"kernel": (7, 7, 3, 64)},  # nothing but the outputs divides by 4
        "fc": {"kernel": (4096, 10), "bias": (10,)},
        "odd": (1025, 3),
        "count": (),
    }
    arrays = jax.tree.map(jnp.zeros, tree, is_leaf=lambda node: isinstance(node, tuple))

    def specs(shard):
        found = jax.tree.leaves_with_path(shardings(arrays, mesh, shard))
        return {jax.tree_util.keystr(path, simple=True, separator="/"): tuple(x.spec) for path, x in found}

    model, data, both = "model", "data", ("model", "data")
    assert specs("model") == {
        "stage1_block01/conv1/kernel": ("seed", None, None, None, model),
        "stage1_block01/bn1/scale": ("seed", model),
        "stage1_block02-09/conv1/kernel": ("seed", None, None, None, None, model),
        "conv1/kernel": ("seed", None, None, None, model),
        "fc/kernel": ("seed", None, model),
        "fc/bias": ("seed", model),
        "odd": ("seed", None, None),
        "count": ("seed",),
    }
    assert specs("fsdp") == specs("model") | {
        "stage1_block01/conv1/kernel": ("seed", None, None, None, both),
        "stage1_block02-09/conv1/kernel": ("seed", None, None, None, data, model),
        "conv1/kernel": ("seed", None, None, None, both),
        "fc/kernel": ("seed", data, model),
    }
    assert all(set(spec[1:]) <= {None} for spec in specs("replicated").values())


def test_what_cannot_be_divided():
    with pytest.raises(UserError, match="shard='zero': must be one of replicated, model, fsdp"):
        check_shard("zero", make_mesh())
    with pytest.raises(UserError, match="shard='fsdp' needs a mesh with seed=1, not seed=2"):
        check_shard("fsdp", AbstractMesh((2, 1, 1), AXES))


def test_the_flags_know_every_way_to_divide_a_state():
    assert get_args(config.Shard) == SHARDS


def test_a_batch_is_divided_over_the_data_axis():
    mesh = make_mesh()
    batch = {"images": jnp.ones((4, 2, 2, 1)), "labels": jnp.arange(4)}
    placed = shard_batch(batch, mesh)
    assert jnp.array_equal(placed["labels"], batch["labels"])
    assert placed["images"].sharding == NamedSharding(mesh, PartitionSpec("data"))
