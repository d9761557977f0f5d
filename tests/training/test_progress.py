"""What is shown: plain lines without a terminal, a bar in one."""

import sys

import pytest

from cnnjax.config import Config
from cnnjax.training import progress
from cnnjax.training.progress import Bar, Progress, duration, each


@pytest.fixture
def clock(monkeypatch):
    """A second passes with each look at it."""
    seconds = iter(range(10_000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(seconds))


def test_a_log_gets_plain_lines_every_tenth_with_the_time_left(clock, capsys):
    shown = Progress("resnet20", [Config(model="resnet20", steps=200, batch_size=10)], 0)
    lines = []
    for step in range(1, 201):
        lines.append({"step": step, "train_loss": 2.0, "train_error": 0.5})
        if step == 100:
            lines.append({"step": step, "test_error": 0.25})
        shown.show(step, [lines])
    shown.close()
    out, err = capsys.readouterr()
    said = err.splitlines()
    assert not out
    assert "\r" not in err
    assert said[0] == "resnet20 seed 0: 0 of 200 steps, compiling"
    assert [line.split(",")[0] for line in said[1:]] == [
        f"resnet20 seed 0: {step} of 200 steps" for step in range(20, 201, 20)
    ]
    assert "loss 2.000, error 50.0%, " in said[1]
    assert said[1].endswith(" left")
    assert "test error" not in said[4]
    assert all("test error 25.0%" in line for line in said[5:])
    assert "left" not in said[-1]


def test_the_time_left_counts_from_the_first_step_on(clock, capsys):
    bar = Bar("work", 100, "step")
    for done in range(1, 100):
        bar.show(done)
    second = capsys.readouterr().err.splitlines()[1]
    assert second == "work: 20 of 100 steps, 80 s left"  # a second each, once the first was done


def test_a_run_that_goes_on_says_where(capsys):
    Progress("resnet20", [Config(steps=10, boundaries=())] * 2, 4).close()
    assert capsys.readouterr().err == "resnet20 seed 0, 0: 4 of 10 steps, compiling\n"


def test_nothing_is_shown_where_stderr_is_closed(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert list(each([1, 2], "work", "net")) == [1, 2]


def test_a_terminal_has_a_bar(clock, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    bar = Bar("work", 4, "step")
    bar.start("compiling")
    for done in range(1, 5):
        bar.show(done, lambda: "loss 1")
    bar.close("loss 2")
    shown = capsys.readouterr().err
    assert "0 of 4 steps, compiling" in shown
    assert "2 of 4 steps, loss 1, 2 s left" in shown
    *_, left, _ = shown.splitlines()
    assert "work" in left
    assert "4 of 4 steps, loss 2" in left


def test_durations_have_words():
    assert [duration(seconds) for seconds in (4, 100, 7260)] == ["4 s", "2 min", "2 h 1 min"]
