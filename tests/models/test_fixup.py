import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from cnnjax.models import build
from tests.counting import parameters, trace
from tests.gradients import compiled, initial


def test_fixup_has_the_kernels_of_resnets():
    params = flatten_dict(trace(build("resnet50"), (32, 32, 3))["params"])
    kernels = sum(leaf.size for path, leaf in params.items() if path[-1] == "kernel")
    assert parameters(build("fixup_resnet50")) == kernels + 1000 + 16 * 7 + 2


@pytest.mark.parametrize(("name", "branch"), [("fixup_resnet14", 2), ("fixup_resnet29", 3)])
def test_fixup_scales_by_the_number_of_blocks_and_of_convolutions(name, branch):
    model = build(name, width=32, stage_sizes=(4,))
    for name, leaf in initial(model, (8, 8, 3)).items():
        path = name.split("/")
        if path[-1] == "kernel" and path[0] != "classifier":
            *spatial, _, outputs = leaf.shape
            in_branch = "block" in path[0] and path[1] != "shortcut"
            factor = 4 ** (-1 / (2 * branch - 2)) if in_branch else 1
            factor = 0 if path[-2] == f"conv{branch}" and in_branch else factor
            std = factor * np.sqrt(2 / (np.prod(spatial) * outputs))
            assert abs(np.std(leaf) - std) <= std * 4 / np.sqrt(2 * leaf.size), path
        else:
            assert (leaf == (path[-1] == "scale")).all(), path


def test_fixup_at_first_gives_zero_and_its_blocks_are_identities(key):
    model = build("fixup_resnet8", width=2, stage_sizes=(1, 1))
    images = jax.random.normal(key, (1, 8, 8, 3))

    def run(key, images):
        variables = model.init(key, images, train=False)
        logits, seen = model.apply(variables, images, train=False, capture_intermediates=True)
        outputs = (seen["intermediates"][name]["__call__"][0] for name in ("act1", "stage1_block01"))
        return logits, *outputs

    logits, before, after = compiled(run, key, images)(key, images)
    assert not logits.any()
    np.testing.assert_array_equal(after, before)


def test_skipinit_is_a_preactivation_net_with_biases_and_one_factor_a_block():
    kernels, biases, factors = 0, 0, 0
    params = flatten_dict(trace(build("skipinit_resnet20"), (32, 32, 3))["params"])
    for path, leaf in params.items():
        kernels += leaf.size * (path[-1] == "kernel")
        biases += leaf.size * (path[-1] == "bias")
        factors += path[-2:] == ("alpha", "scale")
    assert factors == 9
    assert biases == 16 * 7 + 32 * 6 + 64 * 6 + 10
    assert sum(leaf.size for leaf in params.values()) == kernels + biases + factors
    assert build("skipinit_resnet50").order == "full_preactivation"
    assert build("skipinit_resnet164").shortcut == "B_without_bn"


@pytest.mark.parametrize("alpha", [0.0, 0.25])
def test_skipinit_factors_begin_at_alpha(alpha):
    model = build("skipinit_resnet8", width=2, stage_sizes=(1, 1), alpha=alpha)
    assert initial(model, (8, 8, 3))["stage2_block01/alpha/scale"] == alpha
