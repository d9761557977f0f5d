"""On a real Slurm of one host: pre-empted, stuck, and divided; see `tests/cluster/host.py`."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cnnjax
from cnnjax.files import read_json, read_jsonl
from tests.cluster.host import ask, can_start, slurm, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_start(), reason="needs root, and Debian's packages slurm-wlm and munge"),
]
STEPS = 40
RUN = f"""
import sys, time
from cnnjax.errors import one_line_errors
from cnnjax.launch import joined

with joined(), one_line_errors("run"):
    import jax
    import cnnjax
    from cnnjax.data.synthetic import synthetic

    class Slowly(cnnjax.Callback):
        def on_step(self, step, metrics):
            time.sleep(0.3)

    print("on", jax.device_count(), "devices of", jax.process_count(), "processes", flush=True)
    config = cnnjax.Config(
        model="resnet8", model_options={{"width": 2}}, data="synthetic", steps={STEPS}, batch_size=16,
        augment="crop_flip", evaluate_every=10, checkpoint_every=10,
    )
    cnnjax.train(config, sys.argv[1], data=synthetic(train=50, test=20, size=8), callbacks=[Slowly()])
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with slurm(tmp_path_factory.mktemp("slurm")) as environment:
        yield {**environment, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2", "PJRT_NPROC": "8"}


@pytest.fixture
def submit(cluster, tmp_path):
    """Send a command by `cnnjax slurm`; returns the job's number."""
    return sender(cluster, tmp_path)


@pytest.fixture(scope="module")
def undisturbed(cluster, tmp_path_factory):
    """The folder of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    job = sender(cluster, folder)("--tasks", "2", "--", "python", "./run.py", str(folder / "run"))
    wait_for(lambda: state(job, cluster) == {"COMPLETED"}, "the undisturbed run")
    return folder / "run"


def sender(cluster, folder):
    (folder / "run.py").write_text(RUN)

    def send(*words):
        command = [sys.executable, "-m", "cnnjax", "slurm", "--partition", "low", "--submit", *words]
        environment = {**cluster, "PYTHONPATH": str(Path(cnnjax.__file__).parents[1])}
        sent = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert sent.returncode == 0, sent.stderr
        return sent.stdout.split()[-1]

    return send


def state(job, cluster):
    """Slurm's words for a job's state, of all jobs of an array."""
    return set(re.findall(r"JobState=(\w+)", ask(["scontrol", "show", "job", job], cluster)))


def lines(run):
    path = run / "metrics.jsonl"
    return read_jsonl(path) if path.exists() else []


def pre_empt(cluster):
    """Take the host for a job of the partition `high`, and wait until it is done."""
    subprocess.run(
        ["sbatch", "--wait", "--partition=high", "--ntasks=2", "--output=/dev/null", "--wrap=true"],
        env=cluster,
    )


def assert_same_bits(one, other):
    for ours, theirs in zip(lines(one), lines(other), strict=True):
        assert {**ours, "time": 0} == {**theirs, "time": 0}
    ours, theirs = (cnnjax.open_run(run).variables for run in (one, other))
    for a, b in zip(*(map(np.asarray, leaves(each)) for each in (ours, theirs)), strict=True):
        np.testing.assert_array_equal(a, b)


def leaves(tree):
    import jax

    return jax.tree.leaves(tree)


def test_a_run_is_pre_empted_twice_and_keeps_its_bits(cluster, submit, tmp_path, undisturbed):
    log, run = tmp_path / "one.log", tmp_path / "run"
    job = submit(
        "--tasks", "2", "--name", "one", "--options", f"output={log}", "--", "python", "run.py", str(run)
    )
    for more in (5, 15):
        wait_for(lambda more=more: len(lines(run)) >= more, f"{more} steps")
        before = len(lines(run))
        pre_empt(cluster)
        assert state(job, cluster) & {"PENDING", "RUNNING"}
        assert before <= len(lines(run)) < STEPS
    wait_for(lambda: state(job, cluster) == {"COMPLETED"}, "the end")
    said = log.read_text()
    print(said)
    assert said.count("cnnjax: stopped, queued again") == 2
    assert said.count("goes on from step") == 2
    assert said.count("on 4 devices of 2 processes") == 3

    assert_same_bits(run, undisturbed)


def test_a_rank_that_is_stuck_is_found_and_the_run_goes_on(cluster, submit, tmp_path, undisturbed):
    log, run = tmp_path / "stuck.log", tmp_path / "run"
    options = ["--tasks", "2", "--name", "stuck", "--patience", "20", "--options", f"output={log}"]
    job = submit(*options, "--", "python", "run.py", str(run))
    wait_for(lambda: (run / "checkpoints/10").exists(), "a checkpoint")
    os.kill(rank(1, run), signal.SIGSTOP)
    wait_for(lambda: state(job, cluster) == {"COMPLETED"}, "the end")
    said = log.read_text()
    print(said)
    assert re.search(r"process 0 \(pid \d+ on .*\) got nothing done for 20 s", said)
    assert "loop.py" in said  # the stack of the one that waited
    assert said.count("cnnjax: went wrong") == 1
    assert "goes on from step 10" in said
    assert_same_bits(run, undisturbed)


def rank(number, run):
    """The process of that task of the run."""
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            variables = (folder / "environ").read_bytes().split(b"\0")
        except (OSError, NotADirectoryError):
            continue
        if (
            str(run).encode() in words
            and b"--" not in words
            and f"SLURM_PROCID={number}".encode() in variables
        ):
            return int(folder.name)
    raise AssertionError(f"there is no process of task {number}")


def test_a_sweep_is_an_array_and_its_figure_is_drawn_once(cluster, submit, tmp_path):
    out = tmp_path / "sweep"
    size = ["--depths", "8", "--seeds", "2", "--steps", "10", "--workers", "1"]
    sweep = ["python", "-m", "experiments.degradation", "--preset", "smoke", *size]
    job = submit("--parts", "4", "--", *sweep, "--out", str(out))
    wait_for(lambda: state(job, cluster) == {"COMPLETED"}, "the array")
    logs = [path.read_text() for path in tmp_path.glob(f"degradation-{job}_*.log")]
    print(*logs, sep="\n")
    assert len(logs) == 4
    assert sum("degradation.png" in log for log in logs) == 1
    results = read_json(out / "summary.json")["results"]
    assert [row["seeds"] for row in results] == [2, 2]
    assert {path.parent.name for path in out.glob("*/result.json")} == {
        f"{name}8_seed{seed}" for name in ("plain", "resnet") for seed in (0, 1)
    }
