import functools
import json
import os
import sys
import time

import pytest

from cnnjax.errors import UserError
from cnnjax.machine import usable_cores
from cnnjax.training.progress import HERE
from experiments.runner import run_all
from experiments.workers import Job, one_by_one, side_by_side


def tell(path, wait_for=()):
    path.write_text(json.dumps({"cores": usable_cores(), "command": sys.orig_argv, "process": os.getpid()}))
    wait_until_there(wait_for)


def wait_until_there(paths):
    while not all(path.exists() for path in paths):
        time.sleep(0.05)


def fail(others):
    wait_until_there(others)
    raise UserError("this job fails")


def wait_for_ever(path):
    path.touch()
    time.sleep(600)


def kill_itself():
    os.kill(os.getpid(), 9)


@pytest.mark.skipif(len(usable_cores()) < 2, reason="needs two cores")
def test_jobs_share_the_cores_and_know_the_command(tmp_path):
    paths = [tmp_path / str(job) for job in range(2)]
    side_by_side([Job(functools.partial(tell, path, paths)) for path in paths], workers=2)
    told = [json.loads(path.read_text()) for path in paths]
    first, second = (set(each["cores"]) for each in told)
    assert len(first) == len(second) == len(usable_cores()) // 2
    assert first | second <= set(usable_cores())
    assert not first & second
    assert all(each["command"] == sys.orig_argv for each in told)


def test_a_process_takes_one_job_after_the_other(tmp_path):
    paths = [tmp_path / str(job) for job in range(3)]
    jobs = [Job(functools.partial(tell, path, paths[:job])) for job, path in enumerate(paths)]
    side_by_side(jobs, workers=1)
    assert len({json.loads(path.read_text())["process"] for path in paths}) == 1


@pytest.mark.skipif(len(usable_cores()) < 2, reason="needs two cores")
def test_a_job_that_fails_stops_the_others(tmp_path, capfd):
    jobs = [
        Job(functools.partial(wait_for_ever, tmp_path / "other")),
        Job(functools.partial(fail, [tmp_path / "other"])),
    ]
    with pytest.raises(SystemExit) as stopped:
        side_by_side([*jobs, Job(functools.partial(tell, tmp_path / "never"))], workers=2)
    assert stopped.value.code == 2
    assert "this job fails" in capfd.readouterr().err
    assert not (tmp_path / "never").exists()


def test_a_killed_job_is_said():
    with pytest.raises(UserError, match="killed by signal 9"):
        side_by_side([Job(kill_itself)], workers=1)


@pytest.mark.parametrize("workers", [0, 10_000])
def test_as_many_workers_as_cores_at_most(tmp_path, workers):
    with pytest.raises(UserError, match=f"--workers {workers}: must be 1 to"):
        run_all({}, tmp_path, None, workers=workers)


def test_how_far_the_whole_is_counts_nets_and_weighs_what_they_cost(capsys):
    def report_steps():
        for _ in range(4):
            HERE.report(1)

    jobs = [Job(report_steps, nets=2, steps=4, cost=9.0), Job(lambda: None, nets=1, steps=4, cost=1.0)]
    one_by_one(jobs)
    said = [line.split(",")[0] for line in capsys.readouterr().err.splitlines()]
    by_step = ["0 of 3", "1 of 3", "1 of 3", "2 of 3"]  # 22, 45, 68 and 90 % of the cost
    assert said == [f"all: {nets} nets done" for nets in (*by_step, "3 of 3")]
