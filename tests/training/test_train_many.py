import dataclasses
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import cnnjax
from cnnjax.errors import Interrupted, UserError
from cnnjax.files import read_jsonl, write_json
from cnnjax.training import inputs
from experiments import runner
from tests.training import tiny
from tests.training.tiny import DATA, PROBE

# In float64, where no ReLU falls to the other side.
pytestmark = pytest.mark.usefixtures("x64")
CONFIG = dataclasses.replace(tiny.CONFIG, dtype="float64")
CONFIGS = [CONFIG, dataclasses.replace(CONFIG, seed=1, learning_rate=0.01, weight_decay=0.01)]


@pytest.fixture(scope="module")
def data():
    return DATA


def folders(root):
    return [root / "0", root / "1"]


@pytest.fixture(scope="module")
def sequential(x64, data, tmp_path_factory):
    outs = folders(tmp_path_factory.mktemp("sequential"))
    return cnnjax.train_many(CONFIGS, outs, data=data, probes=PROBE)


def numbers(out):
    lines = [{k: v for k, v in line.items() if k != "time"} for line in read_jsonl(out / "metrics.jsonl")]
    return [list(line) for line in lines], np.array([value for line in lines for value in line.values()])


def assert_close(outs, sequential, rtol=1e-8):
    for config, out, reference in zip(CONFIGS, outs, sequential, strict=True):
        (names, values), (expected_names, expected) = numbers(out), numbers(reference.out)
        assert names == expected_names
        np.testing.assert_allclose(values, expected, rtol=rtol)
        assert json.loads((out / "result.json").read_text())["config"] == config.to_json()
        assert (out / "checkpoints" / "4").exists()
        for step in range(4):
            with np.load(out / f"probes/step_{step}.npz") as probed:
                for name, expected in np.load(reference.out / f"probes/step_{step}.npz").items():
                    if expected.dtype.kind == "f":
                        np.testing.assert_allclose(probed[name], expected, rtol=rtol, atol=1e-9)


def test_sequential_runs_are_those_of_train(data, sequential, tmp_path):
    alone = cnnjax.train(CONFIGS[1], tmp_path, data=data, probes=PROBE)
    np.testing.assert_array_equal(numbers(alone.out)[1], numbers(sequential[1].out)[1])
    assert sequential[0].metrics != sequential[1].metrics


def stop_at(monkeypatch, seed, step):
    """SIGTERM when this run's batch of `step` is asked for."""
    plain = inputs.batch_indices

    def batch_indices(its_seed, now, *rest):
        if (its_seed, now) == (seed, step):
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(its_seed, now, *rest)

    monkeypatch.setattr(inputs, "batch_indices", batch_indices)


def test_begun_with_vmap_a_study_goes_on_one_by_one(monkeypatch, data, sequential, tmp_path):
    outs = folders(tmp_path)
    with monkeypatch.context() as patch:
        stop_at(patch, seed=1, step=2)
        with pytest.raises(Interrupted, match=f"stopped at step 3 of 4, saved in {outs[0]}, {outs[1]}"):
            cnnjax.train_many(CONFIGS, outs, "vmap", data=data, probes=PROBE)
    results = cnnjax.train_many(CONFIGS, outs, data=data, probes=PROBE)
    assert [result.config for result in results] == CONFIGS
    assert_close(outs, sequential)


def test_begun_one_by_one_a_study_goes_on_with_vmap(monkeypatch, data, sequential, tmp_path):
    outs = folders(tmp_path)
    with monkeypatch.context() as patch:
        stop_at(patch, seed=0, step=1)
        with pytest.raises(Interrupted, match="stopped at step 2 of 4"):
            cnnjax.train_many(CONFIGS, outs, data=data, probes=PROBE)
    said = []
    cnnjax.train_many(CONFIGS, outs, "vmap", data=data, probes=PROBE, say=said.append)  # from steps 2 and 0
    assert said == [f"{outs[0]}: goes on from step 2 of 4"]
    assert_close(outs, sequential)


@pytest.mark.slow
def test_over_a_mesh(sequential, tmp_path):
    """Two runs on eight devices: each run on four, which share its batches."""
    code = f"""
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
import cnnjax
from cnnjax.probes import layer_statistics
from cnnjax.training.session import _mesh_for
from tests.training.tiny import DATA, PROBE
assert dict(_mesh_for("mesh", 16, None)(2).shape) == dict(seed=2, data=4, model=1)
assert dict(_mesh_for("mesh", 10, None)(3).shape) == dict(seed=3, data=2, model=1)
assert dict(_mesh_for("mesh", 5, None)(16).shape) == dict(seed=8, data=1, model=1)
configs = [cnnjax.Config.from_json(config) for config in {[config.to_json() for config in CONFIGS]!r}]
cnnjax.train_many(configs, {[str(out) for out in folders(tmp_path)]!r}, "mesh", data=DATA, probes=PROBE)

import numpy as np
from tests.nets import TwoConvolutions
images, labels = jax.random.normal(jax.random.key(0), (16, 6, 6, 3)), jax.numpy.arange(16) % 3
variables = TwoConvolutions().init(jax.random.key(0), images, train=False)
measured = jax.jit(lambda *batch: layer_statistics(TwoConvolutions(), variables, batch))
over_devices = jax.NamedSharding(cnnjax.make_mesh(data=8), jax.P("data"))
jax.tree.map(
    lambda one, eight: np.testing.assert_allclose(one, eight, rtol=1e-5, atol=1e-7),
    measured(images, labels),
    measured(*jax.device_put((images, labels), over_devices)),
)
"""
    environment = {
        **os.environ,
        "JAX_ENABLE_X64": "1",
        "PJRT_NPROC": "32",
    }  # threads for eight devices, whatever the cores
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert_close(folders(tmp_path), sequential)


def test_what_cannot_be(data, tmp_path):
    outs = folders(tmp_path)
    with pytest.raises(UserError, match="may not differ so: batch_size 16 there, 8 here"):
        cnnjax.train_many([CONFIG, dataclasses.replace(CONFIG, batch_size=8)], outs, data=data)
    held_out = dataclasses.replace(CONFIG, validation=10)  # by seed, so each has its own training set
    with pytest.raises(UserError, match="may not differ so: seed 0 there, 1 here"):
        cnnjax.train_many([held_out, dataclasses.replace(held_out, seed=1)], outs, "vmap", data=data)
    with pytest.raises(UserError, match="how='pmap': must be one of sequential, vmap, mesh"):
        cnnjax.train_many(CONFIGS, outs, "pmap", data=data)
    with pytest.raises(UserError, match="steps_per_dispatch=0: must be a whole number, at least 1"):
        cnnjax.train(CONFIG, outs[0], data=data, steps_per_dispatch=0)
    with pytest.raises(UserError, match="seed=2, data=1, model=1 needs 2 devices"):
        cnnjax.make_mesh(seed=2)
    with pytest.raises(UserError, match="each must be at least 1"):
        cnnjax.make_mesh(model=0)
    assert not any(out.exists() for out in outs)


def test_a_study_trains_the_seeds_of_each_network_together(monkeypatch, data, tmp_path):
    calls = []

    def train_many(configs, outs, how, **_):
        calls.append(([(config.model, config.seed) for config in configs], [out.name for out in outs], how))
        for config, out in zip(configs, outs, strict=True):
            write_json(out / "result.json", {"metrics": {"test_error": config.seed}})

    monkeypatch.setattr(runner, "train_many", train_many)
    runs = {
        f"{model}_{seed}": dataclasses.replace(CONFIG, model=model, seed=seed)
        for model in ("plain8", "resnet8")
        for seed in (0, 1)
    }
    metrics = runner.run_all(runs, tmp_path, data, how="vmap", workers=1)
    assert metrics == {name: {"test_error": config.seed} for name, config in runs.items()}
    assert calls == [
        ([(model, 0), (model, 1)], [f"{model}_0", f"{model}_1"], "vmap") for model in ("plain8", "resnet8")
    ]
