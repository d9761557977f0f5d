"""A loop over depth is the same network, whichever way it runs and its variables are laid out."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnjax.models import build
from cnnjax.ops.depth import SCANNED_FROM, block_names, is_stacked, stack, stage_of, unstack
from tests.counting import random_variables
from tests.gradients import compiled

pytestmark = pytest.mark.usefixtures("x64")
FIELDS = {"width": 2, "stage_sizes": (2, 4), "dtype": "float64"}


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(1), (4, 8, 8, 3))


@pytest.fixture(scope="module")
def variables():
    return random_variables(build("resnet8", **FIELDS), (8, 8, 3))


def assert_close(ours, theirs, rtol=1e-9):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * max(1e-3, np.abs(b).max())),
        ours,
        theirs,
    )


def test_stacked_arrays_have_an_axis_over_depth(variables):
    params = stack(variables)["params"]
    assert [name for name in params if "block" in name] == [
        "stage1_block01", "stage2_block01", "stage1_block02-02", "stage2_block02-04",
    ]  # fmt: skip
    kernels = [variables["params"][f"stage2_block0{index}"]["conv1"]["kernel"] for index in (2, 3, 4)]
    np.testing.assert_array_equal(params["stage2_block02-04"]["conv1"]["kernel"], np.stack(kernels))


def test_stack_and_unstack_are_inverse_in_any_tree(variables):
    optimizer = optax.sgd(0.1, 0.9)
    tree = {"variables": variables, "state": optimizer.init(variables["params"]), "step": jnp.zeros(())}
    back = unstack(stack(tree))
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    jax.tree.map(np.testing.assert_array_equal, back, tree)
    assert jax.tree.structure(stack(tree["state"])) == jax.tree.structure(
        optimizer.init(stack(variables)["params"])
    )


def test_only_long_stages_are_stacked_on_request(variables):
    assert [name for name in stack(variables, at_least=2)["params"] if "-" in name] == ["stage2_block02-04"]


def losses(model, variables, images, convert):
    """Loss, its gradients and the new statistics in training mode, and logits in evaluation; by block."""

    def loss(params, rest):
        logits, new = model.apply({**rest, "params": params}, images, train=True, mutable=["batch_stats"])
        return jnp.square(logits - jnp.arange(10)).mean(), new

    def everything(variables):
        (value, new), gradients = jax.value_and_grad(loss, has_aux=True)(variables["params"], variables)
        return value, gradients, new, model.apply(variables, images, train=False)

    value, gradients, new, logits = compiled(everything, variables)(variables)
    return value, convert(gradients), convert(new), logits


@pytest.fixture(scope="module")
def reference(variables, images):
    model = build("resnet8", **FIELDS, loop="unrolled", convolution="native")
    return losses(model, variables, images, lambda tree: tree)


@pytest.mark.parametrize(
    ("loop", "layout", "remat"),
    [("scan", "by block", False), pytest.param("scan", "stacked", False, marks=pytest.mark.slow),
     ("unrolled", "stacked", False), pytest.param("unrolled", "by block", True, marks=pytest.mark.slow),
     ("scan", "stacked", True)],
)  # fmt: skip
def test_every_loop_and_layout_gives_the_same(variables, images, reference, loop, layout, remat):
    model = build("resnet8", **FIELDS, loop=loop, remat=remat)
    if layout == "stacked":
        found = losses(model, stack(variables), images, unstack)
    else:
        found = losses(model, variables, images, lambda tree: tree)
    assert_close(found, reference)


OTHERS = {
    "plain8": {},
    "resnet50": {"shortcut": "C", "num_classes": 10, "stage_sizes": (3,)},
    "preresnet11": {"remat": True, "activation": "prelu", "norm": "none", "shortcut": "exclusive_gating"},
}


@pytest.mark.parametrize(
    "name",
    [name if name == "preresnet11" else pytest.param(name, marks=pytest.mark.slow) for name in OTHERS],
)
def test_other_blocks_scan_too(images, name):
    model = build(name, **{"width": 4, "stage_sizes": (3, 1), "dtype": "float64", **OTHERS[name]})
    variables = random_variables(model, (8, 8, 3))
    assert_close(
        losses(model.clone(loop="scan"), stack(variables), images, unstack),
        losses(model.clone(loop="unrolled"), variables, images, lambda tree: tree),
    )


def loops(model, variables, images):
    jaxpr = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))(variables, images).jaxpr
    return [equation.params for equation in jaxpr.eqns if equation.primitive.name == "scan"]


def test_auto_scans_long_stages(images):
    model = build("resnet8", width=2, stage_sizes=(1 + SCANNED_FROM, SCANNED_FROM))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    assert [loop["length"] for loop in loops(model, variables, images)] == [SCANNED_FROM]
    assert not loops(model.clone(loop="unrolled"), variables, images)
    assert len(loops(model.clone(loop="scan"), variables, images)) == 2


def test_the_size_of_a_scanned_program_does_not_grow_with_depth(images):
    def size(blocks):
        model = build("resnet8", width=2, stage_sizes=(blocks, blocks), loop="scan")
        shapes = jax.eval_shape(lambda: stack(model.init(jax.random.key(0), images, train=False)))

        def loss(params):
            stats = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), shapes["batch_stats"])
            variables = {"params": params, "batch_stats": stats}
            return model.apply(variables, images, train=True, mutable=["batch_stats"])[0].sum()

        return len(jax.jit(jax.grad(loss)).lower(shapes["params"]).as_text().splitlines())

    assert size(9) == size(3)


@pytest.mark.parametrize("mutable", [[], ["batch_stats"], False])
def test_a_scanned_network_says_what_was_changed_as_flax_does(images, mutable):
    def result(loop):
        model = build("resnet20", width=2, loop=loop, norm="none")
        variables = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)
        return jax.eval_shape(partial(model.apply, train=True, mutable=mutable), variables, images)

    assert jax.tree.structure(result("scan")) == jax.tree.structure(result("unrolled"))


def test_names_say_the_stage_and_whether_blocks_are_stacked():
    names = block_names(2, 3)
    assert names == ["stage2_block01", "stage2_block02", "stage2_block03"]
    assert block_names(12, 2, longest=100) == ["stage12_block001", "stage12_block002"]
    stacked = stack({"params": {name: {"kernel": jnp.zeros(4)} for name in names}, "step": jnp.zeros(())})
    paths = {
        jax.tree_util.keystr(path, simple=True, separator="/"): path
        for path, _ in jax.tree.leaves_with_path(stacked)
    }
    assert {name: is_stacked(path) for name, path in paths.items()} == {
        "params/stage2_block01/kernel": False,
        "params/stage2_block02-03/kernel": True,
        "step": False,
    }
    others = ["conv1", "stage1_conv1", "stages", "block1_layer01", "stage_block01", "my_stage1_block01"]
    assert [stage_of(name) for name in [*stacked["params"], "stage12_block001", *others]] == [2, 2, 12] + [
        None
    ] * 6
