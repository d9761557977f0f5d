import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

import cnnjax
from cnnjax.costs import compare, story
from cnnjax.counting import summary
from cnnjax.errors import UserError
from tests.counting import multiply_adds, parameters, trace


@pytest.mark.parametrize(
    ("name", "fields", "image"),
    [
        ("plain20", {}, (32, 32, 3)),
        ("resnet20", {"shortcut": "C", "remat": True}, (20, 24, 1)),
        ("resnet110", {"loop": "scan"}, (32, 32, 3)),
        ("resnet50_torchvision", {}, (65, 65, 3)),
        ("resnext29_2x16d", {"form": "split", "stage_sizes": (1, 2), "width": 16}, (8, 8, 3)),
    ],
)
def test_totals_are_those_of_an_independent_count(name, fields, image):
    counted = summary(name, image, **fields)
    model = cnnjax.build(name, **fields)
    assert counted.parameters == parameters(model, image)
    assert counted.macs == multiply_adds(model, image)


def test_the_bottleneck_with_its_stride_in_the_3x3():
    counted = summary("resnet50_torchvision")
    assert (counted.parameters, counted.macs) == (25_557_032, 4_089_184_256)


def test_every_module_with_weights_has_its_row_in_the_order_of_calls():
    counted = summary("resnet110", loop="scan")
    weights: dict = {}
    for path, leaf in flatten_dict(trace(cnnjax.build("resnet110"), (32, 32, 3))["params"]).items():
        name = "/".join(path[:-1])
        weights[name] = weights.get(name, 0) + leaf.size
    rows = {layer.name: layer.parameters for layer in counted.layers if layer.parameters}
    assert rows == weights
    names = list(rows)
    blocks = [name.split("/")[0] for name in names if "block" in name]
    assert blocks == sorted(blocks)
    assert names[:3] == ["conv1", "bn1", "stage1_block01/conv1"]
    assert names[-1] == "classifier"


def test_outputs_are_those_of_the_network():
    model = cnnjax.build("resnet20", shortcut="C")
    images = jnp.zeros((1, 36, 40, 3))
    _, state = jax.eval_shape(
        lambda: model.init_with_output(jax.random.key(0), images, train=False, capture_intermediates=True)
    )
    outputs = {
        "/".join(path[:-1]): leaf[0].shape[1:] for path, leaf in flatten_dict(state["intermediates"]).items()
    }
    layers = [layer for layer in summary(model, (36, 40, 3)).layers if layer.parameters]
    assert len(layers) == 2 * (1 + 18 + 9) + 1
    for layer in layers:
        assert layer.output == outputs[layer.name], layer.name


@pytest.mark.parametrize(
    ("name", "layer", "field", "stride"),
    [
        ("resnet18", "stage4_block02/conv2", 435, 32),
        ("resnet34", "stage4_block03/conv2", 899, 32),
        ("resnet50", "stage4_block03/conv3", 483, 32),
        ("resnet50_torchvision", "stage4_block03/conv3", 427, 32),
        ("resnet152_torchvision", "stage4_block03/conv3", 1451, 32),
        ("resnet20", "stage3_block03/conv2", 81, 4),
        ("plain56", "stage3_block09/conv2", 249, 4),
        ("resnet110", "stage3_block18/conv2", 501, 4),
        ("resnet1202", "stage3_block200/conv2", 5597, 4),
    ],
)
def test_receptive_fields(name, layer, field, stride):
    counted = summary(name)
    row = next(row for row in counted.layers if row.name == layer)
    assert (row.receptive_field, row.stride) == (field, stride)
    assert counted.receptive_field == field


def test_the_receptive_field_is_what_the_gradient_reaches(key):
    """For kernels without zeros and no pooling by maxima, as far as the image's border."""
    model = cnnjax.build("resnet8", width=2, stage_sizes=(1, 1))
    images = jax.random.normal(key, (1, 41, 41, 3))
    variables = jax.jit(partial(model.init, train=False))(key, images)

    def middle(images):
        _, state = model.apply(variables, images, train=False, capture_intermediates=True)
        return state["intermediates"]["stage2_block01"]["conv2"]["__call__"][0][0, 10, 10].sum()

    (reached,) = np.nonzero(np.abs(jax.jit(jax.grad(middle))(images)).sum((0, 2, 3)))
    row = next(row for row in summary(model, 41).layers if row.name == "stage2_block01/conv2")
    assert int(reached[-1] - reached[0]) + 1 == row.receptive_field == 13


def test_connections_are_the_papers():
    """LeCun et al. 1998, section II.B: parameters and connections of each layer of LeNet-5."""
    rows = [layer for layer in summary("lenet5").layers if layer.connections]
    assert [(layer.parameters, layer.connections, layer.receptive_field) for layer in rows] == [
        (156, 122_304, 5),
        (12, 5_880, 6),
        (1_516, 151_600, 14),
        (32, 2_000, 16),
        (48_120, 48_120, 32),
        (10_164, 10_164, 32),
        (0, 840, 32),
    ]
    assert summary("lenet5").connections == 340_908


@pytest.mark.parametrize(
    ("name", "counts", "field"),
    [
        ("alexnet", (60_965_224, 724_406_816), 195),
        ("vgg19", (143_667_240, 19_632_062_464), 268),
        ("densenet121", (7_978_856, 2_834_161_664), None),
        ("googlenet", (13_378_280, 1_582_671_872), 715),
    ],
)
def test_totals_of_the_papers_nets(name, counts, field):
    """Multiply-adds are those of inference: GoogLeNet's auxiliary heads have none."""
    counted = summary(name)
    assert (counted.parameters, counted.macs) == counts
    assert field in (None, counted.receptive_field)


class Oddities(nn.Module):
    """One module called twice, a scan, a head for training, and weights beside submodules."""

    @nn.compact
    def __call__(self, x):
        conv = nn.Conv(4, (3, 3), name="twice")
        x = conv(nn.relu(conv(x)))
        bias = self.param("offset", nn.initializers.zeros, ())
        if self.is_initializing():
            self.sow("auxiliary", "logits", nn.Dense(3, name="head")(x.mean((1, 2))))
        gate = nn.Dense(4, name="gate")(x.mean((1, 2)))
        x = (x + bias) * gate[:, None, None]
        body = nn.scan(Step, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        x, _ = body(name="steps")(x, None)
        return nn.avg_pool(x, (2, 2), (2, 2))


class Step(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.Conv(4, (3, 3), feature_group_count=2, use_bias=False, name="conv")(x), None


def test_shared_scanned_auxiliary_and_mixed_modules():
    counted = summary(Oddities(), (8, 8, 4))
    rows = {layer.name: layer for layer in counted.layers}
    assert counted.parameters == parameters_of(Oddities(), (8, 8, 4))
    convolution, grouped = 64 * 4 * 36, 64 * 4 * 18
    assert counted.macs == 2 * convolution + 16 + 3 * grouped
    assert [layer.name for layer in counted.layers].count("twice") == 2
    assert rows["steps/conv"].kind == "Conv 3x3, 2 groups"
    assert rows["head"].kind == "Dense, training only"
    assert (rows["head"].parameters, rows["head"].macs) == (15, 0)
    # The gate sees the whole image from everywhere: 3x3 twice, the mean over 8 pixels, 3x3 three times, 2x2.
    assert rows["average_pool1"].receptive_field == 5 + 7 + 6 + 1
    assert rows["average_pool1"].connections == 8 * 8 * 4
    assert rows["twice"].connections == convolution + 64 * 4


def parameters_of(model, image):
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, *image))))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def test_the_table():
    text = str(cnnjax.summary("resnet20"))
    assert text.startswith("resnet20, input 32x32x3\n")
    assert re.search(r"^stage2_block01/conv1 +Conv 3x3/2 +16x16x32 +4,608 +1,179,648 ", text, re.M)
    assert re.search(r"^total +269,722 +40,551,040 ", text, re.M)
    assert cnnjax.summary("resnet18", 64).layers[0].output == (32, 32, 64)


def test_comparisons():
    text = str(compare(summary("plain34"), summary("resnet50")))
    assert "3,644,493,824    899  100.0 %" in text
    assert "105.9 %" in text
    text = str(story())
    for number in ("1,179,648", "69,632", "3,211,264", "1,769,472", "120,422,400", "12,443,648"):
        assert number in text


def test_a_module_that_does_not_say_its_input():
    with pytest.raises(UserError, match="give input"):
        summary(nn.Dense(3))
    assert summary(nn.Dense(3), (4, 4, 2)).macs == 16 * 6
