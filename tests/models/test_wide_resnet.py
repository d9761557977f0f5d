import pytest
from flax.traverse_util import flatten_dict

from cnnjax.counting import summary
from cnnjax.errors import UserError
from cnnjax.models import build
from cnnjax.ops.init import INITS, he_normal_fan_in
from tests.counting import trace

CIFAR10 = {
    (16, 1): 175_066, (16, 2): 691_674, (16, 4): 2_748_890, (16, 8): 10_961_370, (16, 10): 17_116_634,
    (22, 2): 1_079_642, (22, 10): 26_797_914, (28, 1): 369_498, (28, 2): 1_467_610, (28, 10): 36_479_194,
    (28, 12): 52_517_850, (34, 10): 46_160_474, (40, 1): 563_930, (40, 2): 2_243_546, (40, 4): 8_949_210,
    (40, 8): 35_748_314,
}  # fmt: skip
CIFAR100 = {(22, 8): 17_204_276, (40, 10): 55_899_444, (52, 1): 764_212}


@pytest.mark.parametrize(("depth", "k"), [*CIFAR10, *CIFAR100])
def test_parameters(depth, k):
    expected, num_classes = (CIFAR10[depth, k], 10) if (depth, k) in CIFAR10 else (CIFAR100[depth, k], 100)
    assert summary(f"wrn{depth}_{k}", num_classes=num_classes).parameters == expected


def test_multiply_adds():
    assert summary("wrn16_1").macs == 26_657_408
    assert summary("wrn22_8", num_classes=100).macs == 2_454_161_408


def test_imagenet_bottlenecks():
    counted = summary("wide_resnet50_2")
    assert (counted.parameters, counted.macs) == (68_883_240, 11_398_021_120)


@pytest.mark.parametrize("depth", [16, 22])
def test_the_depth_counts_projections_and_no_classifier(depth):
    kernels = [
        p for p in flatten_dict(trace(build(f"wrn{depth}_2"), (32, 32, 3))["params"]) if p[-1] == "kernel"
    ]
    assert len(kernels) - 1 == depth


def test_the_first_block_has_its_own_batchnorm_and_the_stem_has_none():
    params = trace(build("wrn10_1"), (32, 32, 3))["params"]
    assert "bn1" not in params
    assert "bn1" in params["stage1_block01"]
    assert "shortcut" not in params["stage1_block01"]
    assert INITS[build("wrn10_1").kernel_init] is he_normal_fan_in


@pytest.mark.parametrize(
    ("name", "message"), [("wrn15_2", "wrn10_2 and wrn16_2"), ("wide_resnet34_2", "50, 101, 152, 200")]
)
def test_other_depths_say_which_there_are(name, message):
    with pytest.raises(UserError, match=message):
        build(name)
