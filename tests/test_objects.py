"""Objects in the place of names: they train, go on, are told apart, and mistakes in them are told before."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from PIL import Image

import cnnjax
from cnnjax.data.examples import read_item
from cnnjax.data.synthetic import synthetic
from cnnjax.errors import Diverged, UserError
from cnnjax.objects import describe
from cnnjax.recipes import Objects, resolve
from cnnjax.training.program import Program
from examples import arrays, contrastive_loss, nnx_network, own_network, own_optimizer, vit

DRAW = np.random.default_rng(0)
PIXELS = DRAW.integers(0, 256, (40, 28, 28, 1), np.uint8)
CLASSES = np.arange(40) % 10
IMAGES = PIXELS[:32], CLASSES[:32], PIXELS[32:], CLASSES[32:]
FEATURES = DRAW.normal(size=(40, 7)).astype(np.float32)
TABLE = FEATURES[:32], CLASSES[:32] % 3, FEATURES[32:], CLASSES[32:] % 3
CONFIG = cnnjax.Config(
    augment="none",
    steps=6,
    batch_size=8,
    learning_rate=0.01,
    schedule="constant",
    evaluate_every=3,
    checkpoint_every=3,
)


def case(example, **fields):
    """A short run of an example on few images."""
    short = {"steps": 6, "batch_size": 8, "evaluate_every": 3, "checkpoint_every": 3}
    config = dataclasses.replace(example.CONFIG, **short, **fields)
    return config, {"data": IMAGES, **example.OBJECTS}


CASES = {
    "linen": case(own_network),
    "nnx": case(nnx_network),
    "vit": case(vit, warmup_steps=2),
    "pair": case(arrays),
    "optimizer": case(own_optimizer, model_options={"width": 2}, downsample=2),
    "loss": case(contrastive_loss, model_options={"width": 2, "num_classes": 12}, downsample=2),
}


class Spelled(nn.Module):
    """Its names and its field are those of our networks over depth, and mean nothing."""

    loop: str = "scan"

    @nn.compact
    def __call__(self, x):
        for block in range(1, 4):
            x = nn.Dense(3, name=f"stage1_block{block:02d}")(x)
        return x


def test_a_network_with_our_names_is_not_taken_for_ours(tmp_path):
    config = dataclasses.replace(CONFIG, steps=1, evaluate_every=1)
    result = cnnjax.train(config, tmp_path / "run", model=Spelled(), data=TABLE)
    assert set(result.variables["params"]) == {f"stage1_block{block:02d}" for block in (1, 2, 3)}


class Killed(Exception):
    """What a run in a test dies of."""


class KillAt(cnnjax.Callback):
    """Dies when it is told of a step."""

    def __init__(self, step):
        self.step = step

    def on_step(self, step, metrics):
        if step == self.step:
            raise Killed


def bits(result):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(result.variables)]


EACH = [name if name == "pair" else pytest.param(name, marks=pytest.mark.slow) for name in CASES]


@pytest.mark.parametrize("name", EACH)
def test_a_run_that_is_killed_ends_with_the_same_bits(tmp_path, name):
    config, objects = CASES[name]
    whole = cnnjax.train(config, tmp_path / "whole", **objects)
    with pytest.raises(Killed):
        cnnjax.train(config, tmp_path / "run", **objects, callbacks=[KillAt(4)])
    assert not (tmp_path / "run" / "result.json").exists()
    result = cnnjax.train(config, tmp_path / "run", **objects)
    assert bits(result) == bits(whole)
    assert result.metrics == whole.metrics
    assert all(np.isfinite(value) for value in result.metrics.values())


@pytest.mark.parametrize("name", EACH)
def test_four_seeds_at_once_take_the_same_first_steps(tmp_path, name):
    config, objects = CASES[name]
    config = dataclasses.replace(config, steps=1, evaluate_every=1, checkpoint_every=1, warmup_steps=0)
    seeds = [dataclasses.replace(config, seed=seed) for seed in range(4)]
    at_once = cnnjax.train_many(seeds, [tmp_path / f"{seed}" for seed in range(4)], "vmap", **objects)
    alone = cnnjax.train(seeds[2], tmp_path / "alone", **objects)
    # The gradient before an update, which no ReLU has passed through, is continuous in the weights.
    assert at_once[2].metrics["train_loss"] == pytest.approx(alone.metrics["train_loss"], rel=1e-4)
    assert at_once[0].metrics["train_loss"] != at_once[1].metrics["train_loss"]
    assert {result.out.name for result in at_once} == {"0", "1", "2", "3"}


ON_EIGHT_DEVICES = """
import dataclasses, sys, jax, numpy as np
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
import cnnjax
from tests.test_objects import CASES
for name, (config, objects) in CASES.items():
    # The first step, before an update: what a ReLU does to later ones depends on the processor.
    config = dataclasses.replace(config, steps=1, evaluate_every=1, checkpoint_every=1, warmup_steps=0)
    results = [
        cnnjax.train(config, f"{sys.argv[1]}/{name}{devices}", **objects, shard=shard,
                     mesh=cnnjax.make_mesh(data=devices))
        for devices, shard in ((1, "replicated"), (8, "fsdp"))
    ]
    losses = [result.metrics["train_loss"] for result in results]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5, err_msg=name)
    for one, eight in zip(*(jax.tree.leaves(result.variables["params"]) for result in results)):
        np.testing.assert_allclose(eight, one, rtol=1e-3, atol=2e-3, err_msg=name)
"""


@pytest.mark.slow
def test_divided_over_eight_devices_a_first_step_is_that_of_one(tmp_path):
    environment = {**os.environ, "PJRT_NPROC": "32"}  # threads for all devices
    command = [sys.executable, "-c", ON_EIGHT_DEVICES, str(tmp_path)]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[1], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


OTHERS = {
    "model": lambda: {"model": own_network.Net(depth=2)},
    "optimizer": lambda: {"optimizer": optax.sgd(0.02)},
    "loss": lambda: {
        "loss": lambda outputs, labels: 2 * optax.softmax_cross_entropy_with_integer_labels(outputs, labels)
    },
    "data": lambda: {"data": (PIXELS[:32][::-1], *IMAGES[1:])},
    "augment": lambda: {"augment": lambda key, x: x + 1},
}


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A run with an object in the place of every name, and those objects, made anew at each call."""

    def objects():
        return {
            "model": own_network.Net(),
            "optimizer": optax.sgd(0.01),
            "loss": lambda outputs, labels: optax.softmax_cross_entropy_with_integer_labels(outputs, labels),
            "data": tuple(np.array(part) for part in IMAGES),
            "augment": lambda key, x: x + 0.01 * jax.random.normal(key, x.shape),
        }

    config = cnnjax.Config(steps=2, batch_size=8, evaluate_every=2, checkpoint_every=2)
    out = tmp_path_factory.mktemp("mine") / "run"
    cnnjax.train(config, out, **objects())
    return config, out, objects


def test_the_same_objects_made_anew_go_on(mine, capsys):
    config, out, objects = mine
    said = []
    longer = dataclasses.replace(config, steps=4)
    cnnjax.train(longer, out, **objects(), say=said.append)
    assert any("goes on from step 2 of 4" in line for line in said), said


@pytest.mark.parametrize("name", OTHERS)
def test_another_object_is_refused_by_its_name(mine, name):
    config, out, objects = mine
    longer = dataclasses.replace(config, steps=4)
    with pytest.raises(UserError, match=name) as refused:
        cnnjax.train(longer, out, **{**objects(), **OTHERS[name]()})
    assert "\n" not in str(refused.value)


def test_the_record_says_what_was_trained(mine):
    _, out, _ = mine
    held = json.loads((out / "config.json").read_text())
    assert "own_network:Net" in held["config"]["model"]
    assert held["config"]["learning_rate"] is None  # the optimizer's own
    assert set(held["objects"]) == {"model", "optimizer", "loss", "augment", "traced by"}
    run = cnnjax.open_run(out)
    assert run.metrics["train_loss"].shape[1] == 2
    assert set(run.variables) == {"params"}


class Unused(nn.Module):
    """Has a parameter that nothing depends on."""

    @nn.compact
    def __call__(self, x):
        self.param("unused", nn.initializers.ones, (3,))
        return nn.Dense(3)(x)


class Forgetful(nn.Module):
    """Changes a collection in training that it did not have at first."""

    @nn.compact
    def __call__(self, x, train):
        if train:
            self.variable("seen", "count", lambda: jnp.zeros(())).value += 1
        return nn.Dense(3)(x)


class Narrow(nn.Module):
    """Fewer outputs than classes."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(x)


def scalar(outputs, labels):
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()


MISTAKES = {
    "a class": ({"model": Narrow}, r"model=.*Narrow.*: give .*Net\(\)"),
    "no network": ({"model": 5}, "model=5: give a flax.linen.Module"),
    "no function of arrays": ({"model": lambda rngs: 5}, "for rngs, not a flax.nnx.Module"),
    "few outputs": ({"model": Narrow()}, r"takes logits \[batch, 3\].*float32\[8, 2\].*give loss="),
    "an unused parameter": (
        {"model": Unused()},
        "does not depend on the parameter 'unused'.*freeze='unused'",
    ),
    "a lost collection": ({"model": Forgetful()}, "model=.*Forgetful.*fails"),
    "a shape": ({"model": nn.Conv(3, (3, 3))}, r"model=.*Conv.*"),
    "a scalar loss": ({"loss": scalar}, r"loss=.*scalar must give one number for each example.*float32\[\]"),
    "a loss that fails": ({"loss": lambda outputs, labels: outputs.nothing}, "loss=.*fails.*AttributeError"),
    "no optimizer": ({"optimizer": 0.1}, "optimizer=.*give an optax.GradientTransformation"),
    "labels that no loss takes": (
        {"augment": lambda key, x, y: (x, (y, 0.5))},
        r"augment=.*the loss does not take the labels int32\[8\], float32\[\] that it gives",
    ),
    "a loss of mixed labels alone": (
        {"augment": lambda key, x, y: (x, jax.nn.one_hot(y, 3)), "loss": optax.softmax_cross_entropy},
        r"loss=.*softmax_cross_entropy fails on outputs float32\[8, 3\] and labels int32\[8\]",
    ),
    "lists of several lengths": (
        {"data": ([[1.0], [1.0, 2.0]], *TABLE[1:])},
        "data=: lists that make no array",
    ),
    "an augmentation that fails": ({"augment": lambda key, x: x[:, :99] @ x}, "augment=.*fails.*TypeError"),
    "a metric": ({"metrics": {"mine": scalar}}, r"metrics\['mine'\]=.*must give one number for each example"),
    "a metric's name": ({"metrics": ["best"]}, "metrics='best': must be of error, top5_error"),
    "a probe's class": (
        {"probes": cnnjax.probes.LayerProbe},
        r"is a class: give an instance, LayerProbe\(\)",
    ),
    "two probes of a name": ({"probes": ["layers", "layers"]}, "two are called 'layers'"),
    "a data set's name": ({"data": "mnist"}, r"a name goes into Config\(data=...\)"),
    "two arrays": ({"data": (FEATURES, CLASSES)}, r"give \(x, y, x_test, y_test\)"),
    "lengths": ({"data": (FEATURES[:5], *TABLE[1:])}, "their numbers must agree"),
    "not a number": ({"data": (np.full((32, 7), np.nan), *TABLE[1:])}, r"example 0 .*nan"),
    "initial variables": ({"initial": {"params": {"other": np.ones(3)}}}, "initial: lacks params/"),
    "no callback": ({"callbacks": [print]}, "must be a list of cnnjax.Callback"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_an_object_is_one_line_and_claims_no_folder(tmp_path, mistake):
    objects, message = MISTAKES[mistake]
    given = {"model": nn.Dense(3), "data": TABLE, **objects}
    config = cnnjax.Config(steps=6, batch_size=8) if "optimizer" in objects else CONFIG
    with pytest.raises(UserError, match=message) as told:
        cnnjax.train(config, tmp_path / "run", **given)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "run").exists()


def test_a_learning_rate_beside_an_optimizer_is_a_contradiction(tmp_path):
    with pytest.raises(UserError, match=r"learning_rate=0\.01 contradicts optimizer="):
        cnnjax.train(CONFIG, tmp_path / "run", model=nn.Dense(3), data=TABLE, optimizer=optax.sgd(0.1))


def test_a_loss_that_is_not_finite_at_first_claims_no_folder(tmp_path):
    def infinite(outputs, labels):
        return jnp.log(0 * outputs[:, 0])

    with pytest.raises(Diverged, match="train_loss is -inf in the first step"):
        cnnjax.train(CONFIG, tmp_path / "run", model=nn.Dense(3), data=TABLE, loss=infinite)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    cnnjax.train(dataclasses.replace(CONFIG, steps=1), tmp_path / "run", model=nn.Dense(3), data=TABLE)


def test_a_frozen_parameter_stays(tmp_path):
    config = dataclasses.replace(CONFIG, freeze=("Dense_0/*",), steps=2)
    start = own_network_variables()
    result = cnnjax.train(config, tmp_path / "run", model=own_network.Net(), data=IMAGES, initial=start)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), result.variables["params"], start["params"])
    assert not any(jax.tree.leaves(moved.pop("Dense_0")))
    assert all(jax.tree.leaves(moved))


def own_network_variables():
    return jax.jit(own_network.Net().init)(jax.random.key(7), jnp.zeros((1, 28, 28, 1)))


def test_an_average_is_tested_beside_the_weights(tmp_path):
    config = dataclasses.replace(CONFIG, ema=0.5, steps=2, evaluate_every=2, checkpoint_every=1)
    objects = {"model": nn.Dense(3), "data": TABLE}
    result = cnnjax.train(config, tmp_path / "run", **objects, keep=cnnjax.CheckpointPolicy(last=3))
    run = cnnjax.open_run(tmp_path / "run", **objects)
    first, last = run.at(1)["params"]["kernel"], run.at(2)["params"]["kernel"]
    before = run.at(1, averaged=True)["params"]["kernel"]
    np.testing.assert_allclose(result.averaged["params"]["kernel"], (before + last) / 2, rtol=1e-6)
    assert not np.array_equal(first, before)
    assert result.metrics["averaged_test_loss"] != result.metrics["test_loss"]


class Counted:
    """A source that says which items it was asked for."""

    def __init__(self, offset):
        self.offset, self.asked = offset, []

    def __len__(self):
        return 20

    def __getitem__(self, index):
        self.asked.append(index)
        return FEATURES[self.offset + index], int(CLASSES[self.offset + index] % 3)


def test_a_source_is_trained_on_like_its_arrays(tmp_path):
    """Batches are the same, for both are a function of (seed, step)."""
    config = dataclasses.replace(CONFIG, steps=2, evaluate_every=2)
    arrays = FEATURES[:20], CLASSES[:20] % 3, FEATURES[20:], CLASSES[20:] % 3
    results = [
        cnnjax.train(config, tmp_path / name, model=nn.Dense(3), data=data)
        for name, data in (("arrays", arrays), ("source", (Counted(0), Counted(20))))
    ]
    assert bits(results[0]) == bits(results[1])
    assert results[0].metrics == results[1].metrics


def test_items_are_pairs_or_mappings():
    picture = Image.fromarray(PIXELS[0, ..., 0])
    for item in (
        (picture, 3),
        {"image": picture, "label": 3},
        {"label": 3, "image": picture},
        {"x": picture, "y": 3},
    ):
        inputs, label = read_item([item], 0)
        np.testing.assert_array_equal(inputs, PIXELS[0, ..., 0])
        assert label == 3
    for item in (picture, {"image": picture}, (1, 2, 3), ("words", 3)):
        with pytest.raises(UserError, match="data=: item 0"):
            read_item([item], 0)


def test_an_object_is_compiled_as_the_name_is():
    """What the compiler gets is the same, but for names."""
    config = dataclasses.replace(CONFIG, model="resnet8", model_options={"width": 2}, data="synthetic")
    data = synthetic(train=20, test=8, size=8)
    anonymous = dataclasses.replace(config, model="resnet20", model_options={})
    tasks = [
        resolve(config, Objects(data=data)),
        resolve(anonymous, Objects(data=data, model=cnnjax.build("resnet8", width=2))),
    ]
    texts = []
    for task in tasks:
        texts.append(Program(task, cnnjax.make_mesh(data=1)).trace().lower().as_text())
    assert texts[0] == texts[1]


def test_seeds_of_the_weights_and_of_the_data_are_apart(tmp_path):
    def first_loss(**seeds):
        config = dataclasses.replace(CONFIG, steps=1, evaluate_every=1, **seeds)
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        return cnnjax.train(config, out, model=nn.Dense(3), data=TABLE)

    same, other_data, other_weights = (
        first_loss(seed=3, data_seed=5),
        first_loss(seed=3, data_seed=6),
        first_loss(seed=4, data_seed=5),
    )
    again = first_loss(seed=3, data_seed=5)
    assert bits(again) == bits(same)
    assert len({result.metrics["train_loss"] for result in (same, other_data, other_weights)}) == 3


def test_early_stopping_ends_a_run_and_ends_it_again(tmp_path):
    config = dataclasses.replace(CONFIG, steps=12, evaluate_every=2, checkpoint_every=2, learning_rate=1e-8)
    objects = {"model": nn.Dense(3), "data": TABLE}

    def stopping():
        return [cnnjax.EarlyStopping("test_loss", patience=2, least=0.1)]

    result = cnnjax.train(config, tmp_path / "run", **objects, callbacks=stopping())
    held = json.loads((tmp_path / "run" / "result.json").read_text())
    assert held["step"] == 6  # the first evaluation, and two that are no better
    with pytest.raises(Killed):
        cnnjax.train(config, tmp_path / "killed", **objects, callbacks=[*stopping(), KillAt(5)])
    again = cnnjax.train(config, tmp_path / "killed", **objects, callbacks=stopping())
    assert bits(again) == bits(result)


def test_a_plateau_of_the_training_loss_ends_a_run(tmp_path):
    """At a tiny rate the second window's loss is that of the first, at a good one it is lower."""
    config = dataclasses.replace(CONFIG, steps=40, batch_size=32, evaluate_every=5, checkpoint_every=40)
    objects = {"model": nn.Dense(3), "data": TABLE}
    for rate, expected in ((1e-8, 10), (0.05, 40)):
        stop = [cnnjax.StopOnPlateau(window=5, least=0.001)]
        one = dataclasses.replace(config, learning_rate=rate)
        result = cnnjax.train(one, tmp_path / str(rate), **objects, callbacks=stop)
        assert cnnjax.open_run(result.out).step == expected


class Scale(cnnjax.probes.Probe):
    """A scalar and an array of every second step."""

    def due(self, step):
        return step % 2 == 0

    def measure(self, context):
        norms = [jnp.linalg.norm(leaf) for leaf in jax.tree.leaves(context.gradients)]
        return {"loss": context.loss, "norms": jnp.stack(norms), "batch": context.inputs.mean()}


def test_probes_of_ones_own_write_scalars_and_arrays(tmp_path):
    cnnjax.train(CONFIG, tmp_path / "run", model=nn.Dense(3), data=TABLE, probes=[Scale()])
    run = cnnjax.open_run(tmp_path / "run")
    losses = run.metrics["train_loss"]
    np.testing.assert_allclose(run.metrics["scale/loss"], losses[losses[:, 0] % 2 == 1], rtol=1e-6)
    with np.load(tmp_path / "run" / "probes" / "scale" / "step_2.npz") as found:
        assert found["norms"].shape == (2,)
    plain = cnnjax.train(CONFIG, tmp_path / "plain", model=nn.Dense(3), data=TABLE)
    np.testing.assert_allclose(
        run.metrics["train_loss"][:, 1], cnnjax.open_run(plain.out).metrics["train_loss"][:, 1]
    )


class Record(cnnjax.probes.Probe):
    """All that the statistics of a step depend on."""

    def measure(self, context):
        leaves = jax.tree.leaves(context.variables)
        named = {f"leaf{number:02d}": leaf for number, leaf in enumerate(leaves)}
        return {"inputs": context.inputs, "labels": context.labels, **named}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nnx", "pair"])
def test_networks_of_any_library_are_measured_in_their_steps(tmp_path, name):
    config, objects = CASES[name]
    probes = [cnnjax.probes.LayerProbe(), cnnjax.probes.SampleProbe(4), Record()]
    result = cnnjax.train(config, tmp_path / "run", probes=probes, **objects)
    folder = tmp_path / "run" / "probes"
    with np.load(folder / "record" / "step_2.npz") as seen:
        batch = seen["inputs"], seen["labels"]
        leaves = [seen[f"leaf{number:02d}"] for number in range(len(seen.files) - 2)]
    structure = jax.tree.structure(result.variables)
    with np.load(folder / "step_2.npz") as found, np.load(folder / "samples" / "step_2.npz") as samples:
        measure = jax.jit(lambda v: cnnjax.probes.layer_statistics(objects["model"], v, batch))
        expected = measure(jax.tree.unflatten(structure, leaves))
        assert tuple(found["layers"]) == expected.layers
        assert tuple(samples["layers"]) == (*expected.layers, "all parameters")
        np.testing.assert_allclose(found["weight_norm"], expected.weight_norm, rtol=1e-5)
        if name == "pair":  # the other one draws another dropout mask
            for field in ("rms", "weight_gradient_norm", "activation_gradient_norm", "activation"):
                np.testing.assert_allclose(found[field], getattr(expected, field), rtol=1e-4)
        assert np.isfinite(found["update_norm"]).all()
        assert np.isfinite(found["gradient_cosine"]).all()


def test_a_stateful_pair_and_a_list_of_parameters(tmp_path):
    def init(key, x):
        return [jax.random.normal(key, (x.shape[-1], 3))], {"calls": jnp.zeros(())}

    def apply(params, state, x):
        return x @ params[0], {"calls": state["calls"] + 1}

    result = cnnjax.train(CONFIG, tmp_path / "run", model=(init, apply), data=TABLE)
    assert float(result.variables["state"]["calls"]) == CONFIG.steps
    assert isinstance(result.variables["params"], list)


def test_mixup_is_an_augmentation(tmp_path):
    """The cross-entropy is that of both labels by their shares; metrics are of the data's labels."""

    def mixup(key, x, labels):
        share, odds = jax.random.beta(key, 0.4, 0.4), jax.nn.one_hot(labels, 3)
        return share * x + (1 - share) * x[::-1], share * odds + (1 - share) * odds[::-1]

    def mix(outputs, labels):
        seen.append(labels.shape)
        return outputs.argmax(-1) != labels

    seen = []
    config = dataclasses.replace(CONFIG, steps=1, evaluate_every=1, weight_decay=0.0)
    start = {"params": {"kernel": np.ones((7, 3), np.float32), "bias": np.arange(3, dtype=np.float32)}}
    objects = {"model": nn.Dense(3), "data": TABLE, "initial": start, "metrics": {"mine": mix}}
    mixed, plain = (
        cnnjax.train(config, tmp_path / name, **objects, augment=augment)
        for name, augment in (("mixed", mixup), ("plain", None))
    )
    # All logits rise alike with x, which the softmax does not see; and each label has both shares once.
    assert mixed.metrics["train_loss"] == pytest.approx(plain.metrics["train_loss"], rel=1e-5)
    assert mixed.metrics["train_mine"] == mixed.metrics["train_error"] == plain.metrics["train_error"]
    assert set(seen) == {(8,)}


def test_optimizers_that_search_and_that_begin_with_constants(tmp_path):
    """L-BFGS evaluates the loss again, and its first state holds plain numbers."""
    config = cnnjax.Config(steps=4, batch_size=32, evaluate_every=4)
    objects = {"model": nn.Dense(3), "data": TABLE}
    result = cnnjax.train(config, tmp_path / "run", **objects, optimizer=optax.lbfgs())
    losses = cnnjax.open_run(result.out).metrics["train_loss"][:, 1]
    assert losses[-1] < losses[0]


def test_lists_are_arrays(tmp_path):
    config = dataclasses.replace(CONFIG, steps=1, evaluate_every=1)
    lists = tuple(part.tolist() for part in TABLE)
    one, other = (
        cnnjax.train(config, tmp_path / name, model=nn.Dense(3), data=data)
        for name, data in (("arrays", TABLE), ("lists", (TABLE[0], lists[1], TABLE[2], lists[3])))
    )
    assert bits(one) == bits(other)


def test_descriptions_tell_what_an_object_is():
    assert describe((arrays.init, arrays.apply)) == "examples.arrays:init and examples.arrays:apply"
    assert describe(object()) == "builtins:object"  # its repr is of this one alone
    assert describe(own_network.Net()).startswith("examples.own_network:Net Net(")


def test_regression_needs_a_loss_and_has_no_error(tmp_path):
    targets = FEATURES @ np.ones((7, 2), np.float32)
    data = FEATURES[:32], targets[:32], FEATURES[32:], targets[32:]
    with pytest.raises(UserError, match="give loss="):
        cnnjax.train(CONFIG, tmp_path / "run", model=nn.Dense(2), data=data)

    def squares(outputs, labels):
        return jnp.square(outputs - labels).sum(-1)

    objects = {"model": nn.Dense(2), "data": data, "loss": squares, "probes": cnnjax.probes.SampleProbe(4)}
    result = cnnjax.train(CONFIG, tmp_path / "run", **objects)
    assert set(result.metrics) == {"train_loss", "test_loss"}
    with np.load(tmp_path / "run" / "probes" / "samples" / "step_5.npz") as found:  # by this loss
        assert np.isfinite(found["noise_scale"]).all()
    outputs = nn.Dense(2).apply(result.variables, FEATURES[32:])
    assert result.metrics["test_loss"] == pytest.approx(
        float(squares(outputs, targets[32:]).mean()), rel=1e-5
    )


def test_nnx_state_is_carried_and_random_streams_begin_anew_each_step(tmp_path):
    result = cnnjax.train(CONFIG, tmp_path / "run", model=nnx_network.OBJECTS["model"], data=IMAGES)
    assert set(result.variables) == {"params", "state"}
    mean = result.variables["state"]["norm"]["mean"]
    assert np.abs(mean).max() > 0
    network = nnx_network.Net(rngs=nnx.Rngs(0))
    assert set(result.variables["params"]) == {"conv", "norm", "classifier"}
    assert network.conv.kernel.shape == result.variables["params"]["conv"]["kernel"].shape
