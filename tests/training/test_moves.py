"""Runs on several devices and by two processes, begun there and gone on elsewhere, are that of one device.

`cnnjax train`, by the launcher, takes 4 steps in float64 at each of the places below and keeps its checkpoint
of step 2. From there the same command with `--resume 2` takes the last 2 steps again at other places.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import cnnjax
from cnnjax.files import read_json, read_jsonl

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]
PLACES = {
    "1 device": ("--processes 1 --devices 1", ""),
    "2 devices": ("--processes 1 --devices 2", ""),
    "8 devices": ("--processes 1 --devices 8", ""),
    "2 processes": ("--processes 2 --devices 4", ""),
    "8 devices, fsdp": ("--processes 1 --devices 8", "--mesh data=4,model=2 --shard fsdp"),
    "2 processes, fsdp": ("--processes 2 --devices 4", "--mesh data=4,model=2 --shard fsdp"),
}
MOVES = {
    "8 devices": ["1 device", "2 devices", "2 processes", "2 processes, fsdp"],
    "2 processes": ["8 devices", "8 devices, fsdp"],
    "8 devices, fsdp": ["1 device", "2 processes", "2 processes, fsdp"],
    "2 processes, fsdp": ["8 devices"],
}
TRAIN = (
    "--model resnet8 --options width=8 --dtype float64 --data synthetic --augment crop_flip --batch-size 16 "
    "--steps 4 --learning-rate 0.02 --schedule cosine --evaluate-every 2 --checkpoint-every 2"
)


def train(place: str, out: Path, *options: str) -> str:
    """Run `cnnjax train` there; what it said."""
    launch, mesh = PLACES[place]
    command = [sys.executable, "-m", "cnnjax.launch", *launch.split(), "--"]
    command += [sys.executable, "-m", "cnnjax", "train", "--out", str(out), *TRAIN.split(), *mesh.split()]
    environment = {**os.environ, "JAX_ENABLE_X64": "1"}
    done = subprocess.run([*command, *options], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{place}: {done.stderr}"
    assert done.stdout.count("test_loss") == 1, f"{place} said {done.stdout}"
    return done.stdout


def result(out: Path):
    """The losses of all steps, and all variables."""
    config = cnnjax.Config.from_json(read_json(out / "config.json")["config"])
    variables = cnnjax.train(config, out, say=lambda line: None).variables
    lines = read_jsonl(out / "metrics.jsonl")
    assert [line["step"] for line in lines if "train_loss" in line] == list(range(1, 5))
    losses = [line[name] for line in lines for name in ("train_loss", "test_loss") if name in line]
    return losses, variables


def assert_same(first, second):
    assert second[0] == pytest.approx(first[0], rel=1e-9)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10), first[1], second[1])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "run"
    train("1 device", out)
    return result(out)


@pytest.mark.parametrize("begun", MOVES)
def test_a_run_goes_on_elsewhere(alone, tmp_path, begun):
    stayed, moved = tmp_path / "stayed", tmp_path / "moved"
    train(begun, stayed)
    assert_same(alone, result(stayed))
    for other in MOVES[begun]:
        shutil.copytree(stayed, moved)
        said = train(other, moved, "--resume", "2")
        assert "goes on from step 2 of 4" in said, said
        assert_same(alone, result(moved))
        shutil.rmtree(moved)
