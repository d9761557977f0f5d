import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import cnnjax
from cnnjax.data.augment import normalizer
from cnnjax.data.synthetic import synthetic
from cnnjax.errors import Diverged, Interrupted, UserError
from cnnjax.files import read_jsonl
from cnnjax.mesh import check_divisible
from cnnjax.ops.conv import best_form
from cnnjax.probes import LayerProbe
from cnnjax.training import inputs, program
from cnnjax.training.run_dir import environment

CONFIG = cnnjax.Config(
    model="resnet8",
    model_options={"width": 2, "stage_sizes": [1]},
    data="synthetic",
    steps=12,
    batch_size=16,
    augment="crop_flip",
    learning_rate=0.05,
    schedule="cosine",
    warmup_steps=3,
    evaluate_every=5,
    checkpoint_every=4,
    seed=3,
)


@pytest.fixture(scope="module")
def data():
    return synthetic(train=50, test=21, size=8)


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    return cnnjax.train(CONFIG, tmp_path_factory.mktemp("run"), data=data)


def lines(folder):
    return [{k: v for k, v in line.items() if k != "time"} for line in read_jsonl(folder / "metrics.jsonl")]


def assert_same(result, uninterrupted):
    assert lines(result.out) == lines(uninterrupted.out)
    assert result.metrics == uninterrupted.metrics
    jax.tree.map(np.testing.assert_array_equal, result.variables, uninterrupted.variables)


def at_step(monkeypatch, step, act):
    """Call `act` when the batch of `step` is asked for."""
    plain = inputs.batch_indices

    def batch_indices(seed, now, *rest):
        if now == step:
            act()
        return plain(seed, now, *rest)

    monkeypatch.setattr(inputs, "batch_indices", batch_indices)


def test_what_a_run_leaves(uninterrupted):
    found = lines(uninterrupted.out)
    assert [line["step"] for line in found if "train_loss" in line] == list(range(1, 13))
    assert [line["step"] for line in found if "test_loss" in line] == [5, 10, 12]
    saved = json.loads((uninterrupted.out / "result.json").read_text())
    assert saved["metrics"] == uninterrupted.metrics
    assert cnnjax.Config.from_json(saved["config"]) == CONFIG
    assert {"versions", "device", "command", "git_commit"} <= set(saved["environment"])
    assert saved["environment"]["flags"]["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1"  # tests/conftest.py
    assert saved["environment"]["convolution"] == best_form()
    assert environment({"dtype": "bfloat16"})["convolution"] == best_form(jnp.bfloat16)
    assert environment({"model_options": {"convolution": "native"}})["convolution"] == "native"
    began = json.loads((uninterrupted.out / "config.json").read_text())
    parameters = jax.tree.leaves(uninterrupted.variables["params"])
    assert began["parameters"] == sum(array.size for array in parameters)
    assert uninterrupted.metrics["train_loss"] == found[-2]["train_loss"]
    assert uninterrupted.metrics["test_error"] == found[-1]["test_error"]


def test_it_learns(data, tmp_path):
    config = dataclasses.replace(
        CONFIG, model_options={"width": 8}, steps=60, augment="none", evaluate_every=60, checkpoint_every=60
    )
    result = cnnjax.train(config, tmp_path, data=data)
    assert lines(tmp_path)[0]["train_loss"] > 2
    assert result.metrics["train_loss"] < 1


def test_the_same_config_twice_gives_the_same_bits(data, uninterrupted, tmp_path):
    assert_same(cnnjax.train(CONFIG, tmp_path, data=data), uninterrupted)


@pytest.mark.parametrize("step", [2, 4, pytest.param(11, marks=pytest.mark.slow)])
def test_a_crash_costs_nothing(monkeypatch, data, uninterrupted, tmp_path, step):
    def crash():
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        at_step(patch, step, crash)
        with pytest.raises(RuntimeError, match="power cut"):
            cnnjax.train(CONFIG, tmp_path, data=data)
    said = []
    result = cnnjax.train(CONFIG, tmp_path, data=data, say=said.append)
    assert ("goes on from step" in " ".join(said)) == (step >= 4)
    assert_same(result, uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_same_call_goes_on(monkeypatch, data, uninterrupted, tmp_path, number):
    with monkeypatch.context() as patch:
        at_step(patch, 6, lambda: os.kill(os.getpid(), number))
        with pytest.raises(Interrupted, match="stopped at step 7 of 12") as error:
            cnnjax.train(CONFIG, tmp_path, data=data)
    assert error.value.exit_code == 128 + number
    said = []
    result = cnnjax.train(CONFIG, tmp_path, data=data, say=said.append)
    assert "goes on from step 7 of 12" in said[0]
    assert_same(result, uninterrupted)


def test_a_signal_during_evaluation(monkeypatch, data, uninterrupted, tmp_path):
    def make_eval_step(*arguments):
        eval_step = plain(*arguments)

        def interrupted(*arguments):  # while it is compiled, so in its first batch
            os.kill(os.getpid(), signal.SIGTERM)
            return eval_step(*arguments)

        return interrupted

    plain = program.make_eval_step
    with monkeypatch.context() as patch:
        patch.setattr(program, "make_eval_step", make_eval_step)
        with pytest.raises(Interrupted, match="stopped at step 5"):
            cnnjax.train(CONFIG, tmp_path, data=data)
    assert_same(cnnjax.train(CONFIG, tmp_path, data=data), uninterrupted)


def test_a_damaged_checkpoint_costs_its_interval_only(monkeypatch, data, uninterrupted, tmp_path):
    with monkeypatch.context() as patch:
        at_step(patch, 10, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            cnnjax.train(CONFIG, tmp_path, data=data)
    largest = max(
        (tmp_path / "checkpoints" / "11").rglob("*"), key=lambda path: path.stat().st_size * path.is_file()
    )
    largest.write_bytes(largest.read_bytes()[:-1])
    said = []
    result = cnnjax.train(CONFIG, tmp_path, data=data, say=said.append)
    assert "checkpoint 11" in said[0]
    assert "goes on from step 8" in said[1]
    assert_same(result, uninterrupted)


@pytest.mark.slow
def test_sigkill_of_the_process(uninterrupted, data, tmp_path):
    """A process is killed as soon as its first checkpoint is there; this one goes on."""
    code = f"""
import cnnjax
from cnnjax.compilation import use_cache
from cnnjax.data.augment import normalizer
from cnnjax.data.synthetic import synthetic
use_cache()
config = cnnjax.Config.from_json({CONFIG.to_json()!r})
cnnjax.train(config, {str(tmp_path)!r}, data=synthetic(train=50, test=21, size=8))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    while process.poll() is None and not (tmp_path / "checkpoints" / "4").exists():
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert_same(cnnjax.train(CONFIG, tmp_path, data=data), uninterrupted)


def test_a_finished_run_is_not_repeated(monkeypatch, data, uninterrupted):
    at_step(monkeypatch, 0, lambda: pytest.fail("trained again"))
    said = []
    assert_same(cnnjax.train(CONFIG, uninterrupted.out, data=data, say=said.append), uninterrupted)
    assert "is finished" in said[0]


def test_nothing_is_compiled_after_the_first_evaluation(monkeypatch, data, tmp_path):
    """Four epochs, three evaluations whose last batch is padded, three checkpoints."""
    compiled = []

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    before = []
    at_step(monkeypatch, 6, lambda: before.extend(compiled))
    try:
        cnnjax.train(CONFIG, tmp_path, data=data)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert before
    assert len(compiled) == len(before)


def test_divergence_stops_with_the_step(data, tmp_path):
    config = dataclasses.replace(CONFIG, learning_rate=1e30, checkpoint_every=1)
    with pytest.raises(Diverged, match=r"(train_loss is (nan|inf) at|too large for float32 after) step \d+"):
        cnnjax.train(config, tmp_path, data=data)
    assert all(np.isfinite(line["train_loss"]) for line in lines(tmp_path))
    assert not (tmp_path / "result.json").exists()


def test_another_config_is_refused(data, uninterrupted):
    with pytest.raises(UserError, match=r"another config \(steps 12 there, 13 here\)"):
        cnnjax.train(dataclasses.replace(CONFIG, steps=13), uninterrupted.out, data=data)


def test_the_folder_of_an_experiment_is_refused(data, tmp_path):
    (tmp_path / "config.json").write_text('{"experiment": {}}')
    with pytest.raises(UserError, match="holds no config"):
        cnnjax.train(CONFIG, tmp_path, data=data)


def test_every_test_image_counts_once(data, uninterrupted):
    """21 images in batches of 16: the padding of the last batch must not count."""
    model = cnnjax.build("resnet8", **CONFIG.model_options)
    normalize = normalizer(data.train_images, "pixel_mean")
    logits = model.apply(uninterrupted.variables, normalize(jnp.asarray(data.test_images)), train=False)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, data.test_labels).mean()
    found = cnnjax.evaluate(CONFIG, uninterrupted.variables, data=data)
    assert found["test_error"] == np.mean(logits.argmax(-1) != data.test_labels)
    np.testing.assert_allclose(found["test_loss"], loss, rtol=1e-5)
    assert found["test_loss"] == uninterrupted.metrics["test_loss"]


def test_bfloat16_trains_with_float32_weights(data, tmp_path):
    result = cnnjax.train(dataclasses.replace(CONFIG, dtype="bfloat16"), tmp_path, data=data)
    assert {leaf.dtype for leaf in jax.tree.leaves(result.variables)} == {jnp.dtype("float32")}
    assert np.isfinite(result.metrics["test_loss"])


def test_validation_images_are_held_out(data, tmp_path):
    """Tested on the ten that the seed draws, which no training step and no mean image has seen."""
    config = dataclasses.replace(CONFIG, validation=10, steps=1, augment="none", learning_rate=1e-12)
    result = cnnjax.train(config, tmp_path, data=data)
    kept = data.split(10, config.seed)
    pixels = (kept.test_images - kept.train_images.mean(0)) / 255
    model = cnnjax.build("resnet8", **CONFIG.model_options)
    logits = np.asarray(jax.jit(lambda v, x: model.apply(v, x, train=False))(result.variables, pixels))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, kept.test_labels)
    assert result.metrics["test_loss"] == pytest.approx(float(losses.mean()), rel=1e-4)
    assert result.metrics["test_error"] == np.mean(logits.argmax(-1) != kept.test_labels)
    # The first batch is of the forty others: the weights, which have hardly moved, have the loss of it.
    first = inputs.batch_indices(config.seed, 0, 16, 40)
    pixels = (kept.train_images[first] - kept.train_images.mean(0)) / 255

    training = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"])[0])
    logits = training(result.variables, pixels)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, kept.train_labels[first])
    assert result.metrics["train_loss"] == pytest.approx(float(losses.mean()), rel=1e-4)


def test_a_batch_that_does_not_divide_over_the_devices():
    with pytest.raises(UserError, match="batch size 16 does not divide over 3 devices: try 15"):
        check_divisible(16, SimpleNamespace(shape={"data": 3}))
    with pytest.raises(UserError, match="number of runs 1 does not divide over 2 devices"):
        check_divisible(16, SimpleNamespace(shape={"data": 1, "seed": 2}), runs=1)
    with pytest.raises(UserError, match="needs 64 devices"):
        cnnjax.make_mesh(data=64)


def test_probes_write_arrays_at_their_steps_and_resume_to_the_same_bits(monkeypatch, data, tmp_path):
    def arrays(folder):
        paths = sorted((folder / "probes").iterdir())
        return {path.name: dict(np.load(path)) for path in paths}

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    straight = cnnjax.train(CONFIG, whole, data=data, probes=LayerProbe())
    with monkeypatch.context() as patch:
        at_step(patch, 9, lambda: os.kill(os.getpid(), signal.SIGTERM))  # it goes on with a measured step
        with pytest.raises(Interrupted):
            cnnjax.train(CONFIG, broken, data=data, probes=LayerProbe())
    assert_same(cnnjax.train(CONFIG, broken, data=data, probes=LayerProbe()), straight)
    found = arrays(whole)
    assert list(found) == [f"step_{step}.npz" for step in (0, 1, 10, 2, 5)]
    for name, theirs in arrays(broken).items():
        for field, values in theirs.items():
            np.testing.assert_array_equal(values, found[name][field])
    first = found["step_0.npz"]
    assert list(first["layers"][:2]) == ["conv1", "stage1_block01/conv1"]
    # Momentum has nothing to add yet, and the rate is a quarter of its peak (warm-up).
    rate = lines(whole)[0]["learning_rate"]
    np.testing.assert_allclose(first["update_norm"][-1], rate * first["weight_gradient_norm"][-1], rtol=1e-5)
    # The second update is momentum times the first gradient, plus the second: by the law of cosines
    second, momentum = found["step_1.npz"], CONFIG.momentum
    before, now = (each["weight_gradient_norm"][-1] for each in (first, second))
    velocity = second["update_norm"][-1] / lines(whole)[1]["learning_rate"]
    cosine = (velocity**2 - (momentum * before) ** 2 - now**2) / (2 * momentum * before * now)
    np.testing.assert_allclose(second["gradient_cosine"][-1], cosine, atol=1e-4)
    assert np.isnan(first["gradient_cosine"]).all()
    assert (np.abs(found["step_5.npz"]["gradient_cosine"]) <= 1).all()  # step 4 was not measured


def test_going_back_to_an_earlier_checkpoint_loses_nothing(monkeypatch, data, uninterrupted, tmp_path):
    """The later ones are moved; stopped and called again, the run goes on and does not go back twice."""
    keep = cnnjax.CheckpointPolicy(last=1, every=4)
    cnnjax.train(CONFIG, tmp_path, data=data, keep=keep)
    with pytest.raises(UserError, match="has no checkpoint of step 5: there are 4, 8, 12"):
        cnnjax.train(CONFIG, tmp_path, data=data, resume=5)
    assert not (tmp_path / "after_5").exists()
    said = []
    again = {"data": data, "keep": keep, "resume": 4, "say": said.append}
    with monkeypatch.context() as patch:
        at_step(patch, 9, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted, match="stopped at step 10"):
            cnnjax.train(CONFIG, tmp_path, **again)
    assert not (tmp_path / "result.json").exists()
    assert_same(cnnjax.train(CONFIG, tmp_path, **again), uninterrupted)
    assert said == [
        f"{tmp_path}: goes on from step 4 of 12",
        f"{tmp_path}: went back to step 4 before; what came after it then is in {tmp_path / 'after_4'}",
        f"{tmp_path}: goes on from step 10 of 12",
    ]
    left = {path.name for path in (tmp_path / "after_4").iterdir()}
    assert left == {"8", "12", "metrics.jsonl", "result.json"}
    assert lines(tmp_path / "after_4") == lines(uninterrupted.out)
