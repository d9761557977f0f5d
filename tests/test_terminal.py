"""Tables and progress: drawn in a terminal, plain without one."""

import re
import sys
import textwrap

import pytest

from cnnjax.__main__ import main
from cnnjax.papers import RECIPES
from cnnjax.terminal import LINES, Page, plain, progress, show, table
from tests.pseudo_terminal import PseudoTerminal

HEADER = "network", "parameters", "said"
ROWS = [("resnet20", "269,722", ":one: [bold]two[/bold]"), ("plain8", "75,290", ""), ("both", "345,012", "")]
HIDE = "\x1b[?25l"
"""Hides the cursor; a process that is killed could not show it again."""


def test_plain_text_is_aligned_and_takes_cells_as_they_are():
    assert str(table(ROWS, HEADER, "lrl", total=True)).splitlines() == [
        "network   parameters  said",
        "--------------------------------------------",
        "resnet20     269,722  :one: [bold]two[/bold]",
        "plain8        75,290",
        "--------------------------------------------",
        "both         345,012",
    ]
    assert str(table([("a", "1"), ("bc", "23")])) == "a    1\nbc  23"
    assert str(Page("[title]", "", table([("a", "1")]), "end")) == "[title]\n\na  1\nend"


@pytest.mark.parametrize("environment", [{"COLUMNS": "40"}, {"COLUMNS": "40", "FORCE_COLOR": "1"}])
def test_a_piped_table_is_whole_and_has_no_codes(monkeypatch, capsys, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["cnnjax", "recipes"])
    main()
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert [line.split("  ", 1)[0] for line in said.splitlines()] == list(RECIPES)
    assert all(said.splitlines()[i].endswith(one.paper) for i, one in enumerate(RECIPES.values()))
    show(table([("x" * 300, "y" * 300)]))
    assert capsys.readouterr().out == f"{'x' * 300}  {'y' * 300}\n"


SHOW = """
from cnnjax.terminal import show, table
show(table([("resnet20", "a reference that is longer than a narrow terminal is wide")], ("net", "from"), "l"))
"""


@pytest.mark.parametrize(
    ("environment", "codes", "width"),  # bold is no colour; rich takes 80 columns for dumb ones
    [({}, True, 40), ({"NO_COLOR": "1"}, True, 40), ({"TERM": "dumb"}, False, 80)],
)
def test_a_table_fits_the_terminal(environment, codes, width):
    terminal = PseudoTerminal([sys.executable, "-c", SHOW], columns=40, **environment)
    assert terminal.end() == 0
    assert ("\x1b" in terminal.text) == codes
    assert not re.search("\x1b\\[[\\d;]*3\\dm", terminal.text)
    text = re.sub("\x1b\\[[\\d;]*m", "", terminal.text)
    assert all(len(line.rstrip("\r")) <= width for line in text.split("\n"))
    assert " ".join(text.split()).endswith("a reference that is longer than a narrow terminal is wide")


TRAIN = """
import cnnjax, numpy as np
from cnnjax.config import Config
net = (
    lambda key, x: {{"params": {{"w": np.zeros((4, 2), np.float32)}}}},
    lambda variables, x, **options: x.reshape(len(x), -1) @ variables["params"]["w"],
)
x, y = np.zeros((64, 2, 2, 1), np.uint8), np.arange(64) % 2
config = Config(steps=10**6, batch_size=8, evaluate_every=100, checkpoint_every=10**6, schedule="constant")
from cnnjax.errors import one_line_errors
with one_line_errors("test"):
    cnnjax.train(config, {out!r}, model=net, data=(x, y, x, y), augment=lambda key, x: x, say=print)
"""


@pytest.mark.slow
def test_a_training_shows_its_parts_and_leaves_the_terminal_sane(tmp_path):
    command = [sys.executable, "-c", TRAIN.format(out=str(tmp_path / "run"))]
    terminal = PseudoTerminal(command, columns=120)
    shown = ("of 1000000 steps, ", "loss 0.693", "error 50.0%", "images/s", " left", "test error 50.0%")
    terminal.wait_for(*shown)
    terminal.press("\x03")
    assert terminal.end() == 130
    assert HIDE not in terminal.text
    assert re.search(r"[\r\n]test: stopped at step \d+ of 1000000, saved in .*\r\n$", terminal.text)


SIDE_BY_SIDE = """
import functools, sys
sys.path.insert(0, {here!r})
from experiments.workers import Job, side_by_side
from tests.test_terminal import work
if __name__ == "__main__":
    side_by_side([Job(functools.partial(work, number), steps=2) for number in range(2)], workers=1)
    print("end")
"""


def work(number):
    """A worker's job."""
    from cnnjax.training.progress import HERE, Bar

    bar = Bar(f"job {number}", 2, "step")
    bar.start("compiling")
    print(f"printed by {number}")
    HERE.report(2)
    bar.show(2)
    bar.close("all of it")


def test_workers_show_theirs_in_the_parents_terminal(tmp_path, request):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SIDE_BY_SIDE.format(here=str(request.config.rootpath))))
    terminal = PseudoTerminal([sys.executable, str(script)])
    assert terminal.end() == 0
    for number in range(2):
        assert re.search(rf"\x1b\[2Kprinted by {number}\r\n", terminal.text)
        assert re.search(rf"job {number} .*2 of 2 steps, all of it", terminal.text)
    assert re.search(r"all .* 2 of 2 nets done", terminal.text)
    assert terminal.text.endswith("end\r\n")
    assert HIDE not in terminal.text


def test_short_work_is_shown_in_a_terminal_alone(monkeypatch, capsys):
    with progress("pictures", 3, "pictures") as show_done:
        show_done(1)
    assert capsys.readouterr() == ("", "")
    seconds = iter(range(100))
    monkeypatch.setattr("cnnjax.terminal.time.monotonic", lambda: next(seconds))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with progress("pictures", 3, "pictures") as show_done:
        show_done(1)
    assert "1 of 3 pictures" in capsys.readouterr().err


def test_a_dumb_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    assert not LINES.live
    assert plain("text") == "text"
