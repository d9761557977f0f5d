"""The page as a file."""

import hashlib
import sys

import pytest

from cnnjax.__main__ import main
from cnnjax.errors import UserError
from cnnjax.report.page import WEB, Page, Study, check_writable, render, write_page
from tests.report.folders import write_run
from tests.report.pages import content_of, names_other_files

PLOTLY = "79542150855a52c567260e3137095dbe2b744e6d702a5cabe67da246942fba7a"


def test_the_library_is_the_one_that_was_published():
    """npm's plotly.js-cartesian-dist-min 4.1.1; docs/reports.md says how to take a newer one."""
    library = (WEB / "plotly-cartesian.min.js").read_bytes()
    assert b"plotly.js (cartesian - minified) v4.1.1" in library[:200]
    assert hashlib.sha256(library).hexdigest() == PLOTLY
    assert "MIT License" in (WEB / "plotly-LICENSE").read_text()


def test_the_content_is_data_whatever_is_in_it():
    odd = Page(
        "</script><script>alert(1)</script> & \u2028", [Study("a", "<b>", {}, {"t": (["x"], [["<!--"]])})]
    )
    page = render(odd)
    assert "<script>alert(1)" not in page
    assert content_of(page)["title"] == odd.title
    assert content_of(page)["studies"][0]["tables"]["t"] == [["x"], [["<!--"]]]


def test_numbers_that_are_not_finite_are_null():
    page = render(Page("a", curves={"points": [float("nan"), float("inf"), 1.5]}))
    assert content_of(page)["curves"]["points"] == [None, None, 1.5]


def test_only_our_own_pages_are_overwritten(tmp_path):
    path = tmp_path / "page.html"
    check_writable(path)
    write_page(path, Page("a"))
    check_writable(path)
    path.write_text("<!doctype html> mine")
    with pytest.raises(UserError, match="is no report of cnnjax"):
        check_writable(path)


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["cnnjax", *map(str, words)])
    main()


def test_the_command_writes_a_page_beside_the_runs(tmp_path, monkeypatch, capsys):
    folders = [write_run(tmp_path / name, seed=seed) for seed, name in enumerate("ab")]
    run(monkeypatch, "report", *folders)
    assert capsys.readouterr().out == f"{tmp_path / 'report.html'}\n"
    page = (tmp_path / "report.html").read_text()
    assert len(page.encode()) < 2e6
    assert content_of(page)["title"] == f"2 runs in {tmp_path.name}"
    assert not names_other_files(page)


def test_the_figures_beside_it(tmp_path, monkeypatch, capsys):
    write_run(tmp_path / "a")
    run(monkeypatch, "report", tmp_path, "--figures", "--out", tmp_path / "page.html")
    for name in ("page.html", "page_curves.png", "page_curves.svg", "page_curves.pdf"):
        assert (tmp_path / name).exists()
        assert str(tmp_path / name) in capsys.readouterr().out or name != "page.html"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["report"], "give a folder"),
        (["report", "none"], "there is no folder none"),
        (["report", "."], "there is no run in ."),
        (["watch", "none"], "there is no folder none"),
        (["watch", ".", "--port", "70000"], "--port 70000: must be 0 to 65535"),
        (["watch", ".", "--host", "no.such.invalid"], "there is no such address"),
    ],
)
def test_bad_input_is_one_line(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, *words)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error
    assert not list(tmp_path.iterdir())
