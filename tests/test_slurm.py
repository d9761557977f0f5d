"""What Slurm is told, and what a task takes of what it sees; `tests/cluster` tries it on a real Slurm."""

import json
import os
import subprocess
import sys

import pytest

from cnnjax.errors import UserError
from cnnjax.launch import own_devices
from cnnjax.slurm import Slurm

COMMAND = ("python", "-m", "experiments.degradation", "--preset", "smoke")


def directives(job):
    return {line.split(" ", 1)[1] for line in job.script().splitlines() if line.startswith("#SBATCH ")}


def test_the_script_says_what_was_asked_for():
    job = Slurm(COMMAND, nodes=2, tasks=4, partition="low", time="4:00:00", options=("gpus-per-task=4",))
    assert directives(job) >= {
        "--job-name=degradation",
        "--nodes=2",
        "--ntasks=4",
        "--partition=low",
        "--time=4:00:00",
        "--gpus-per-task=4",
        "--requeue",
        "--open-mode=append",
        "--signal=TERM@120",
        "--output=degradation-%j.log",
    }
    assert (
        "--coordinator auto --patience 1800 -- python -m experiments.degradation --preset smoke"
        in job.script()
    )
    assert subprocess.run(["bash", "-n"], input=job.script(), text=True).returncode == 0


def test_one_task_waits_for_no_other():
    assert "cnnjax.launch --processes 1 --patience 1800 --" in Slurm(COMMAND).script()


def test_an_array_has_a_job_for_each_part():
    job = Slurm(COMMAND, parts=4)
    assert directives(job) >= {"--array=0-3", "--output=degradation-%A_%a.log"}
    assert 'smoke --part "$SLURM_ARRAY_TASK_ID/4"\n' in job.script()


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (COMMAND, "degradation"),
        (("cnnjax", "train", "--out", "runs/one"), "train"),
        (("python", "jobs/my.py"), "my"),
        (("./my.sh",), "my.sh"),
    ],
)
def test_a_job_has_the_name_of_what_it_runs(command, name):
    assert Slurm(command).job_name == name


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"nodes": 0}, "--nodes 0"),
        ({"nodes": 4, "tasks": 2}, "--tasks 2: must be at least one for each"),
        ({"parts": 0}, "--parts 0"),
        ({"time": "soon"}, "--time soon: must be as Slurm writes it"),
        ({"time": "3"}, "--time 3: is less than twice --grace 120"),
        ({"options": ("--gpus=4",)}, "--options --gpus=4: must be as sbatch has it"),
        ({"name": "a b"}, "--name a b"),
    ],
)
def test_bad_input(options, said):
    with pytest.raises(UserError, match=said):
        Slurm(COMMAND, **options)


@pytest.mark.parametrize("time", ["4", "4:00", "0:04:00", "1-0", "1-0:30", "2-12:00:00"])
def test_times_as_slurm_writes_them(time):
    Slurm(COMMAND, time=time)


def test_a_script_is_not_overwritten(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Slurm(COMMAND).run()
    Slurm(COMMAND).run()  # the same
    assert capsys.readouterr().out.count("send it with `sbatch degradation.sbatch`") == 2
    with pytest.raises(UserError, match="holds another job"):
        Slurm(COMMAND, nodes=2).run()
    refusing = tmp_path / "sbatch"
    refusing.write_text("#!/bin/sh\necho 'invalid partition specified: nope' >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(UserError, match="sbatch refused the job: invalid partition specified: nope"):
        Slurm(COMMAND, partition="nope", name="refused", submit=True).run()
    assert not (tmp_path / "refused.sbatch").exists()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="there is no sbatch here"):
        Slurm(COMMAND, submit=True).run()


TASK = {
    "SLURM_JOB_ID": "1",
    "SLURM_STEP_NODELIST": "127.0.0.1",
    "SLURM_NTASKS": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_NUM_NODES": "1",
    "CUDA_VISIBLE_DEVICES": "0,1,2,3",
}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, [0, 1, 2, 3]),
        ({"SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "2"}, [0, 1, 2, 3]),  # bound to this task
        ({"SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_GPUS_ON_NODE": "8"}, [0, 1, 2, 3]),
        ({"SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_GPUS_ON_NODE": "4"}, [2, 3]),
        ({"SLURM_LOCALID": "3", "SLURM_STEP_TASKS_PER_NODE": "4(x2)", "SLURM_GPUS_ON_NODE": "4"}, [3]),
        (
            {"SLURM_NODEID": "2", "SLURM_STEP_TASKS_PER_NODE": "4(x2),1", "SLURM_GPUS_ON_NODE": "4"},
            [0, 1, 2, 3],
        ),
        ({"CUDA_VISIBLE_DEVICES": "", "ROCR_VISIBLE_DEVICES": "0,1"}, [0, 1]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),  # whatever there is
        ({"CUDA_VISIBLE_DEVICES": "", "SLURM_STEP_TASKS_PER_NODE": "2"}, None),
    ],
)
def test_a_task_has_the_devices_that_it_sees(variables, expected):
    assert own_devices({**TASK, **variables}) == expected


def test_outside_slurm_jax_decides():
    assert own_devices({"CUDA_VISIBLE_DEVICES": "0,1,2,3"}) is None


def test_jax_takes_the_devices_that_a_task_sees():
    """By JAX's own detection of Slurm, in two tasks of one host with 4 devices each."""
    code = (
        "import json, jax\n"
        "from cnnjax.launch import joined\n"
        "with joined():\n"
        "    from jax._src.xla_bridge import CUDA_VISIBLE_DEVICES\n"
        "    seen = CUDA_VISIBLE_DEVICES.value\n"
        "    import sys; print(json.dumps([jax.process_count(), seen]), file=sys.stderr)\n"
    )
    tasks = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={
                **os.environ,
                **TASK,
                "SLURM_JOB_ID": str(os.getpid()),  # decides the port
                "SLURM_NTASKS": "2",
                "SLURM_STEP_TASKS_PER_NODE": "2",
                "SLURM_GPUS_ON_NODE": "8",
                "SLURM_PROCID": str(number),
                "SLURM_LOCALID": str(number),
                "CNNJAX_COORDINATOR": "auto",
                "JAX_PLATFORMS": "cpu",
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for task in tasks:
        _, said = task.communicate(timeout=120)
        assert json.loads(said.splitlines()[-1]) == [2, "0,1,2,3"], said
