"""A fully sharded run with groups, a loop over depth and a probe is that of one device, in float64."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import cnnjax
from cnnjax.data.synthetic import synthetic
from cnnjax.files import read_jsonl

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]
ROOT = Path(__file__).parents[2]
CONFIG = cnnjax.Config(
    model="resnext29_4x16d",
    model_options={"stage_sizes": [3], "width": 8, "loop": "scan", "remat": True},
    dtype="float64",
    data="synthetic",
    steps=2,
    batch_size=8,
    learning_rate=0.02,
    schedule="cosine",
    evaluate_every=2,
    checkpoint_every=1,
)


def train(out, mesh, **options):
    data = synthetic(train=24, test=10, size=8)
    probe = cnnjax.probes.LayerProbe(at=lambda step: True)
    return cnnjax.train(CONFIG, out, data=data, mesh=cnnjax.make_mesh(**mesh), probes=probe, **options)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """The folder of a run on 2 x 2 devices."""
    out = tmp_path_factory.mktemp("sharded") / "run"
    environment = {**os.environ, "JAX_ENABLE_X64": "1", "JAX_NUM_CPU_DEVICES": "4", "PJRT_NPROC": "16"}
    command = [sys.executable, "-m", "tests.training.test_sharded", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return train(tmp_path_factory.mktemp("alone"), {"data": 1})


def assert_same(out, alone):
    for ours, theirs in zip(*(read_jsonl(each / "metrics.jsonl") for each in (out, alone.out)), strict=True):
        assert list(ours) == list(theirs)
        np.testing.assert_allclose(*(list(line.values())[:-1] for line in (ours, theirs)), rtol=1e-9)


def test_metrics(sharded, alone):
    assert_same(sharded, alone)


@pytest.mark.parametrize("step", range(2))
def test_what_the_probe_measures(sharded, alone, step):
    ours, theirs = (np.load(out / "probes" / f"step_{step}.npz") for out in (sharded, alone.out))
    assert set(ours) == set(theirs)
    for name in ours:
        if ours[name].dtype.kind == "f":
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-8, atol=1e-12, err_msg=name)
        else:
            np.testing.assert_array_equal(ours[name], theirs[name])


def test_its_checkpoint_goes_on_on_one_device(sharded, alone, tmp_path):
    moved, said = tmp_path / "moved", []
    shutil.copytree(sharded, moved)
    result = train(moved, {"data": 1}, resume=1, say=said.append)
    assert said[0] == f"{moved}: goes on from step 1 of 2"
    assert len(said) == 2  # the other says that the device is another
    assert "its last bits may differ" in said[1]
    assert_same(moved, alone)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12)
    jax.tree.map(close, result.variables, alone.variables)


if __name__ == "__main__":
    train(sys.argv[1], {"data": 2, "model": 2}, shard="fsdp")
