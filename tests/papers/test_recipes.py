import sys

import jax
import numpy as np
import pytest

import cnnjax
from cnnjax.config import Config
from cnnjax.data import spec
from cnnjax.errors import UserError
from cnnjax.models import build
from cnnjax.optimizers import label, learning_rate
from cnnjax.papers import RECIPES, find, recipe
from cnnjax.papers.recipe import epochs
from tests.nets import narrow
from tests.papers.page import PAGE, page

CIFAR, IMAGENET = 50_000, 1_281_167
SCHEDULES = {  # rates by epoch, as the papers state them; batch, images
    "nin_cifar": (128, CIFAR, {0: 0.1, 199: 0.1, 200: 0.01, 229: 0.01, 230: 0.001, 259: 0.001}),
    "resnet_imagenet_modern": (256, IMAGENET, {0: 0.1, 29: 0.1, 30: 0.01, 60: 0.001, 89: 0.001}),
    "vgg_modern": (256, IMAGENET, {0: 0.1, 29: 0.1, 30: 0.01, 60: 0.001, 89: 0.001}),
    "wrn_cifar": (128, CIFAR, {0: 0.1, 59: 0.1, 60: 0.02, 119: 0.02, 120: 0.004, 160: 0.0008, 199: 0.0008}),
    "fractalnet_cifar": (
        100,
        CIFAR,
        {0: 0.02, 199: 0.02, 200: 0.002, 300: 2e-4, 349: 2e-4, 350: 2e-5, 375: 2e-6, 399: 2e-6},
    ),
    "densenet_cifar": (64, CIFAR, {0: 0.1, 149: 0.1, 150: 0.01, 224: 0.01, 225: 0.001, 299: 0.001}),
    "densenet_imagenet": (256, IMAGENET, {0: 0.1, 29: 0.1, 30: 0.01, 59: 0.01, 60: 0.001, 89: 0.001}),
    "resnext_cifar": (128, CIFAR, {0: 0.1, 149: 0.1, 150: 0.01, 225: 0.001, 299: 0.001}),
    "resnext_imagenet": (256, IMAGENET, {0: 0.1, 30: 0.01, 60: 0.001, 90: 0.0001, 99: 0.0001}),
    "stochastic_depth_cifar": (128, 45_000, {0: 0.1, 249: 0.1, 250: 0.01, 375: 0.001, 499: 0.001}),
    "se_imagenet": (1024, IMAGENET, {0: 0.6, 29: 0.6, 30: 0.06, 60: 0.006, 90: 0.0006, 99: 0.0006}),
    "fixup_cifar": (128, CIFAR, {0: 0.1, 99: 0.1, 100: 0.01, 149: 0.01, 150: 0.001, 199: 0.001}),
    "googlenet": (32, IMAGENET, {0: 0.01, 7: 0.01, 8: 0.0096, 15: 0.0096, 16: 0.01 * 0.96**2}),
    "inception_v3": (
        32,
        IMAGENET,
        {0: 0.045, 1: 0.045, 2: 0.045 * 0.94, 5: 0.045 * 0.94**2, 99: 0.045 * 0.94**49},
    ),
}
IN_STEPS = {
    "resnet_cifar": {0: 0.1, 31_999: 0.1, 32_000: 0.01, 47_999: 0.01, 48_000: 0.001, 63_999: 0.001},
    "resnet110_cifar": {0: 0.01, 399: 0.01, 400: 0.1, 31_999: 0.1, 32_000: 0.01, 48_000: 0.001},
    "preresnet_cifar": {0: 0.01, 399: 0.01, 400: 0.1, 31_999: 0.1, 32_000: 0.01, 48_000: 0.001},
    "nin_imagenet": {0: 0.01, 199_999: 0.01, 200_000: 1e-3, 399_999: 1e-3, 400_000: 1e-4, 449_999: 1e-4},
    "bn_inception": {  # 8 / 6 epochs of 40,036 steps are 53,381
        0: 0.045, 53_380: 0.045, 53_381: 0.045 * 0.96, 106_761: 0.045 * 0.96, 106_762: 0.045 * 0.96**2,
        5_999_999: 0.045 * 0.96**112,
    },
    "wrn_cifar_modern": {
        390 * epoch: 0.025 * (1 + np.cos(np.pi * epoch / 200)) for epoch in (0, 50, 100, 150)
    },
    "lenet5": {
        60_000 * passes + step: rate
        for passes, rate in ((0, 5e-4), (2, 2e-4), (5, 1e-4), (8, 5e-5), (12, 1e-5))
        for step in (0, 59_999)
    },
    "lenet_caffe": {step: 0.01 * (1 + 1e-4 * step) ** -0.75 for step in range(0, 10_001, 250)},
    "highway_mnist": {0: 0.01, 59_999: 0.01, 60_000: 1e-3, 119_999: 1e-3, 120_000: 1e-4, 179_999: 1e-4},
    "highway_cifar": {0: 0.025, 99_999: 0.025, 100_000: 0.0025, 150_000: 2.5e-4, 175_000: 2.5e-5},
}  # fmt: skip


PLATEAUS = {"alexnet": (128, 90, 0.01), "zfnet": (128, 70, 0.01), "vgg": (256, 74, 0.01)}


def rates(config, steps):
    return [float(learning_rate(config)(step)) for step in steps]


def test_every_recipes_rates_are_tested():
    others = {"resnet_imagenet", "lenet5_modern", "airbench"}
    assert {*SCHEDULES, *IN_STEPS, *PLATEAUS, *others} == set(RECIPES)


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_are_the_papers_in_every_epoch_that_it_names(name):
    batch, images, expected = SCHEDULES[name]
    config = recipe(name)
    assert config.batch_size == batch
    assert config.steps == (max(expected) + 1) * (images // batch) or name == "googlenet"  # stated in steps
    first = [epoch * (images // batch) for epoch in expected]
    last = [step + images // batch - 1 for step in first]
    np.testing.assert_allclose(rates(config, first), list(expected.values()), rtol=1e-5)
    np.testing.assert_allclose(rates(config, last), list(expected.values()), rtol=1e-5)


@pytest.mark.parametrize("name", IN_STEPS)
def test_rates_are_the_papers_at_every_boundary(name):
    np.testing.assert_allclose(rates(recipe(name), IN_STEPS[name]), list(IN_STEPS[name].values()), rtol=1e-5)


def test_airbenchs_rate_is_its_triangle():
    config = recipe("airbench")
    steps = np.arange(config.steps)
    triangle = np.interp(steps, [0, int(0.23 * 476), 476], [0.2, 1, 0.07]) * 11.5 / (1 + 1 / 0.15)
    np.testing.assert_allclose(rates(config, steps), triangle, rtol=0.01)  # optax rounds two of its steps


def test_airbenchs_decay_of_biases_is_that_of_the_others_in_a_step():
    config = recipe("airbench")
    own = config.groups["*_bn?/bias"]
    assert own["rate"] * own["decay"] == 1
    assert config.learning_rate * config.weight_decay == pytest.approx(0.0153 / (1 + 1 / 0.15))


@pytest.mark.parametrize("name", PLATEAUS)
def test_a_rate_that_drops_on_a_plateau_is_tested_every_epoch(name):
    batch, passes, rate = PLATEAUS[name]
    config = recipe(name)
    assert (config.schedule, config.learning_rate, config.rate_drop) == ("plateau", rate, 0.1)
    assert config.batch_size == batch
    assert config.evaluate_every == IMAGENET // batch
    assert config.steps == passes * (IMAGENET // batch)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_what_there_is(name):
    config = recipe(name)
    assert config.data == "imagenet2012" or spec(config.data)
    assert all(build(other) for other in (config.model, *find(name).published))
    if config.groups:
        model, shape = narrow(config.model)
        image = np.zeros((1, *shape), np.float32)
        shapes = jax.eval_shape(lambda key: model.init(key, image, train=False), jax.random.key(0))
        label(shapes["params"], tuple(config.groups))  # each pattern matches a parameter


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == page()


def test_epochs_are_of_whole_batches():
    assert epochs(200, CIFAR, 128) == 200 * 390


def test_changes_are_told_apart_from_the_papers_values():
    said = find("wrn_cifar").explain(cnnjax.recipe("wrn_cifar", model="wrn16_8", weight_decay=1e-4))
    lines = {line.split()[0]: line for line in str(said).splitlines() if line}
    assert "yours; the recipe has 0.0005" in lines["weight_decay"]
    assert "section 3" in lines["nesterov"]
    assert "not stated; Config's default" in lines["clip_norm"]
    assert all(field in lines for field in vars(Config()))
    assert "4.27 % test error" in lines["Published:"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("wrn",), "no recipe is called 'wrn': did you mean wrn_cifar"),
        (("alpha_zero_chess",), "`cnnjax recipes` lists them"),
        (("wrn_cifar", {"epochs": 3}), "Config has no field 'epochs'"),
        (("wrn_cifar", {"batch_size": 0}), "must be at least 1"),
    ],
)
def test_what_cannot_be_is_told(arguments, message):
    name, *changes = arguments
    with pytest.raises(UserError, match=message):
        recipe(name, **(changes[0] if changes else {}))


def command(monkeypatch, capsys, *words):
    from cnnjax.__main__ import main

    monkeypatch.setattr(sys, "argv", ["cnnjax", *map(str, words)])
    try:
        main()
    except SystemExit as end:
        return end.code, capsys.readouterr()
    return 0, capsys.readouterr()


def test_the_command_explains_and_lists(monkeypatch, capsys):
    code, said = command(monkeypatch, capsys, "train", "--recipe=wrn_cifar", "--batch-size", 64, "--explain")
    assert code == 0
    assert "yours; the recipe has 128" in said.out
    assert "reflect_crop_flip" in said.out
    code, said = command(monkeypatch, capsys, "recipes")
    assert [line.split()[0] for line in said.out.splitlines()] == list(RECIPES)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "--recipe", "wrn", "--explain"), "did you mean wrn_cifar"),
        (("train", "--explain"), "give a --recipe too"),
        (("train", "--recipe", "wrn_cifar"), "--out: give the run's folder, such as --out runs/wrn28_10"),
    ],
)
def test_the_command_tells_in_one_line_what_is_wrong(monkeypatch, capsys, words, message):
    code, said = command(monkeypatch, capsys, *words)
    assert code == 2
    assert message in said.err
    assert len(said.err.splitlines()) == 1


def test_the_command_trains_by_a_recipe_and_says_what_was_published(monkeypatch, capsys, tmp_path):
    words = ("train", "--recipe", "highway_cifar", "--model", "highway_cifar19", "--data", "synthetic")
    small = ("--options", "width=2", "--batch-size", 8, "--steps", 2, "--out", tmp_path / "run")
    code, said = command(monkeypatch, capsys, *words, *small)
    assert code == 0, said.err
    assert "published 7.54 % test error" in said.out
    config = cnnjax.open_run(tmp_path / "run").config
    assert (config.learning_rate, config.weight_decay, config.momentum) == (0.025, 1e-3, 0.9)
    assert config.groups["*/bias"] == {"rate": 2, "decay": 0}
    assert config.model_options == {"width": 2}
