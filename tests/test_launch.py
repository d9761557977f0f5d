import functools
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

import cnnjax
from cnnjax.data.synthetic import synthetic
from cnnjax.distributed import check_spans_processes
from cnnjax.errors import UserError
from cnnjax.files import read_jsonl
from cnnjax.launch import Args, alone

CONFIG = cnnjax.Config(
    model="resnet8",
    model_options={"width": 2},
    dtype="float64",
    data="synthetic",
    steps=12,
    batch_size=16,
    augment="crop_flip",
    learning_rate=0.02,
    schedule="cosine",
    evaluate_every=6,
    checkpoint_every=12,
)
RUN = """
import os, signal, sys
from cnnjax.distributed import check_spans_processes
from cnnjax.errors import one_line_errors
from cnnjax.launch import joined

with joined(), one_line_errors("run"):
    import jax
    import cnnjax
    from cnnjax.compilation import use_cache
    from cnnjax.data.synthetic import synthetic
    from cnnjax.training import inputs

    use_cache()
    plain = inputs.batch_indices

    def batch_indices(seed, now, *rest):
        if now == {stop} and jax.process_index() == jax.process_count() - 1:
            os.kill(os.getpid(), {signal})
        return plain(seed, now, *rest)

    inputs.batch_indices = batch_indices
    print(f"on {{jax.device_count()}} devices")
    config = cnnjax.Config.from_json({config})
    cnnjax.train(config, {out!r}, data=synthetic(train=50, test=21, size=8))
"""


def launch(arguments, code):
    command = [sys.executable, "-m", "cnnjax.launch", *arguments, "--", sys.executable, "-c", code]
    environment = {**os.environ, "JAX_ENABLE_X64": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def lines(folder):
    return [{k: v for k, v in line.items() if k != "time"} for line in read_jsonl(folder / "metrics.jsonl")]


@pytest.mark.slow
def test_a_run_moves_from_8_devices_to_2_processes_to_1_device_and_keeps_its_numbers(tmp_path, x64):
    """Each time the last process gets a signal, and all stop at the same step."""
    data = synthetic(train=50, test=21, size=8)
    expected = cnnjax.train(CONFIG, tmp_path / "expected", data=data)
    out = tmp_path / "moved"
    run = {"config": CONFIG.to_json(), "out": str(out), "signal": "signal.SIGTERM"}

    one = launch(["--processes", "1", "--devices", "8"], RUN.format(stop=2, **run))
    assert one.returncode == 143, one.stderr
    assert "on 8 devices" in one.stdout
    assert "run: stopped at step 3 of 12" in one.stderr

    two = launch(["--processes", "2", "--devices", "4"], RUN.format(stop=5, **run))
    assert two.returncode == 143, two.stderr
    assert two.stdout.count("on 8 devices") == 1  # process 0 alone speaks
    assert "goes on from step 3 of 12" in two.stdout
    (step,) = set(re.findall(r"run: stopped at step (\d+) of 12", two.stderr))
    assert 6 <= int(step) <= 9
    assert re.search(r"launch: process [01] \(pid \d+\) went first: it ended with code 143", two.stderr)

    said = []
    moved = cnnjax.train(CONFIG, out, data=data, say=said.append)
    assert said[0] == f"{out}: goes on from step {step} of 12"
    assert len(said) == 2  # the other says that this is another machine
    assert "device" in said[1]
    assert "its last bits may differ" in said[1]
    for ours, theirs in zip(lines(out), lines(expected.out), strict=True):
        assert list(ours) == list(theirs)
        np.testing.assert_allclose(list(ours.values()), list(theirs.values()), rtol=1e-9)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-10)
    jax.tree.map(close, moved.variables, expected.variables)


def test_the_launcher_says_who_went_first_and_how():
    """Process 1 dies; process 0, which would wait for ever, is stopped."""
    code = """
import os, signal, time
if os.environ["CNNJAX_PROCESS"] == "1":
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(600)
"""
    done = launch(["--processes", "2"], code)
    assert done.returncode == 137
    assert re.search(r"launch: process 1 \(pid \d+\) went first: it was killed by SIGKILL", done.stderr)
    assert "launch: stopped process 0, which waited for it" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "--processes: how many there are"),
        ({"processes": 2, "process": 2}, "--process 2: must be from 0 to 1"),
        ({"processes": 2, "process": 1}, "--process needs --coordinator HOST:PORT"),
        ({"processes": 2, "coordinator": "auto"}, "the cluster says --processes"),
        ({"processes": 1, "devices": 0}, "--devices 0: must be at least 1"),
        ({"processes": 1, "command": ()}, "what shall be run"),
    ],
)
def test_what_cannot_be(arguments, message):
    with pytest.raises(UserError, match=message):
        Args(**{"command": ("true",), **arguments})


def test_one_of_several_hosts():
    (environment,) = Args(("true",), processes=4, process=3, coordinator="host0:8476").environments()
    expected = {"CNNJAX_COORDINATOR": "host0:8476", "CNNJAX_PROCESSES": "4", "CNNJAX_PROCESS": "3"}
    assert environment == expected
    assert Args(("true",), coordinator="auto").environments() == [{"CNNJAX_COORDINATOR": "auto"}]
    assert not {name for name in os.environ if name.startswith("CNNJAX_P")}


def test_every_process_has_devices_of_the_mesh(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match="a mesh of 1 of the 1 devices leaves process 1 without any"):
        check_spans_processes(cnnjax.make_mesh())


def test_work_of_one_process_is_not_done_by_several(monkeypatch):
    alone()
    monkeypatch.setenv("CNNJAX_COORDINATOR", "127.0.0.1:1")
    with pytest.raises(UserError, match=r"start it without cnnjax\.launch"):
        alone()


def test_a_script_that_does_not_join_the_other_processes_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("CNNJAX_PROCESSES", "2")
    with pytest.raises(UserError, match=r"inside `with joined\(\):`, by `from cnnjax\.launch"):
        cnnjax.train(cnnjax.Config(data="synthetic"), tmp_path / "run", data=synthetic(train=50, test=21))
    assert not (tmp_path / "run").exists()


def test_processes_end_with_a_launcher_that_is_killed():
    """Also one that was asked to stop and waits for another that has gone."""
    waits = "trap '' TERM; echo up; exec sleep 600"
    command = [sys.executable, "-m", "cnnjax.launch", "--processes", "1", "--", "sh", "-c", waits]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout.readline() == "up\n"
        launcher.kill()
        assert launcher.stdout.read() == ""  # its end: nobody has it open any more
