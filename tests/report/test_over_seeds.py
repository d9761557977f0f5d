"""Families of runs over their seeds: numbers worked out by hand, and what can't be concluded."""

import csv
import dataclasses
import json
import sys

import pytest
from rich.console import Console

import cnnjax
from cnnjax.__main__ import main
from cnnjax.errors import UserError
from cnnjax.report import compared_table, over_seeds
from cnnjax.report.contents import report_of
from tests.report.folders import write_run
from tests.report.pages import content_of

BASE = {0: 0.30, 1: 0.32, 2: 0.37}
OTHER = {0: 0.20, 1: 0.24, 2: 0.26}


def ended(folder, model, seed, test_error, parameters=None, **fields):
    """A finished run with this final test error."""
    write_run(folder, model, seed, **fields)
    result = json.loads((folder / "result.json").read_text())
    result["metrics"] |= {"test_error": test_error, "train_error": test_error / 2, "train_loss": 0.5}
    (folder / "result.json").write_text(json.dumps(result))
    if parameters is not None:
        held = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**held, "parameters": parameters}))


@pytest.fixture
def runs(tmp_path):
    for seed, error in BASE.items():
        ended(tmp_path / f"plain8_{seed}", "plain8", seed, error, 1234)
    for seed, error in OTHER.items():
        ended(tmp_path / f"resnet8_{seed}", "resnet8", seed, error, 5678)
    return tmp_path


def notes(found):
    return "\n".join(compared_table.notes(found))


def test_differences_seed_by_seed(runs):
    """-0.10, -0.08 and -0.11: mean -0.29 / 3, variance (0.0285 - 0.29**2 / 3) / 2; t is 4.302653."""
    found = cnnjax.compare_runs(runs)
    base, other = found.rows
    assert base["family"] == found.baseline.label == "plain8"
    assert (base["pairs"], base["difference"], base["p_value"]) == (None, None, None)
    assert base["test_error_mean"] == pytest.approx(0.33)
    assert base["test_error_sd"] == pytest.approx(0.0013**0.5)  # 0.0009 + 0.0001 + 0.0016, over 2
    assert (other["seeds"], other["pairs"], other["parameters"]) == (3, 3, 5678)
    half = 4.302653 * ((0.0285 - 0.29**2 / 3) / 2 / 3) ** 0.5
    assert other["difference"] == pytest.approx(-0.29 / 3)
    assert [other["low"], other["high"]] == pytest.approx([-0.29 / 3 - half, -0.29 / 3 + half], rel=1e-6)
    assert other["p_value"] == 2 / 2**3
    assert "p is 0.25 (2 / 2^3) or more. 6 pairs can show p below 0.05" in notes(found)


def test_the_same_the_other_way_round(runs):
    there, back = cnnjax.compare_runs(runs).rows[1], cnnjax.compare_runs(runs, baseline="resnet8").rows[1]
    assert back["family"] == "plain8"
    assert back["difference"] == pytest.approx(-there["difference"])
    assert [back["low"], back["high"]] == pytest.approx([-there["high"], -there["low"]])
    assert back["p_value"] == there["p_value"]


def test_six_pairs_can_show_something(runs):
    for seed in (3, 4, 5):
        ended(runs / f"plain8_{seed}", "plain8", seed, 0.3)
        ended(runs / f"resnet8_{seed}", "resnet8", seed, 0.2)
    found = cnnjax.compare_runs(runs)
    assert found.rows[1]["p_value"] == 2 / 2**6
    assert "can show" not in notes(found)


def test_only_common_seeds_are_paired(runs):
    ended(runs / "plain8_7", "plain8", 7, 0.9)
    ended(runs / "far_8", "plain14", 8, 0.5)
    ended(runs / "far_9", "plain14", 9, 0.6)
    ended(runs / "near_2", "resnet14", 2, 0.27)
    ended(runs / "drawn_0", "resnet20", 0, 0.2, data_seed=5)  # other images: no pair of seed 0
    ended(runs / "drawn_1", "resnet20", 1, 0.25, data_seed=1)  # the same as without
    found = cnnjax.compare_runs(runs, baseline="plain8")
    rows = {row["family"]: row for row in found.rows}
    assert rows["plain8"]["seeds"] == 4
    assert (rows["resnet8"]["pairs"], rows["resnet8"]["difference"]) == (3, pytest.approx(-0.29 / 3))
    assert [rows["plain14"][name] for name in ("pairs", "difference", "low")] == [0, None, None]
    assert (rows["resnet20"]["pairs"], rows["resnet20"]["difference"]) == (1, pytest.approx(-0.07))
    assert (rows["resnet14"]["pairs"], rows["resnet14"]["difference"]) == (1, pytest.approx(-0.10))
    assert (rows["resnet14"]["low"], rows["resnet14"]["p_value"]) == (None, None)
    assert "Not paired, no seed in common with plain8: plain14." in notes(found)
    assert "Only one seed in common with plain8, so no interval and no test: resnet20; resnet14." in notes(
        found
    )


def test_unfinished_runs_are_left_out_and_told(runs):
    write_run(runs / "resnet8_3", "resnet8", 3, done=30)
    write_run(runs / "resnet14_0", "resnet14", 0, done=7)
    (runs / "resnet14_0" / "diverged.json").write_text('{"diverged_at": 7}')
    found = cnnjax.compare_runs(runs)
    assert [row["seeds"] for row in found.rows] == [3, 3]
    left = "resnet8, seed 3 (step 30 of 40); resnet14, seed 0 (diverged at step 7)"
    assert f"Left out, not finished: {left}." in notes(found)


def test_a_run_that_was_made_longer_has_not_finished(runs):
    """Its result.json is that of the shorter run until it ends again."""
    folder = runs / "resnet8_2"
    held = json.loads((folder / "config.json").read_text())
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({**result, "config": held["config"]}))
    assert cnnjax.compare_runs(runs).rows[1]["seeds"] == 3
    for run in runs.glob("*/config.json"):
        one = json.loads(run.read_text())
        one["config"]["steps"] = 80
        run.write_text(json.dumps(one))
    found = cnnjax.compare_runs(runs)
    assert found.rows[1]["seeds"] == 2
    assert "Left out, not finished: resnet8, seed 2 (step 40 of 80)" in notes(found)
    assert "Ended early, as they were told to: plain8, seed 0 (step 40 of 80)" in notes(found)


def test_another_metric(runs):
    found = cnnjax.compare_runs(runs, metric="learning_rate")
    assert found.rows[1]["learning_rate_mean"] == pytest.approx(0.1)
    assert found.rows[1]["difference"] == 0
    assert found.rows[1]["p_value"] == 1
    assert "learning rate less that of plain8, seed by seed" in notes(found)


def test_a_family_without_the_metric_is_named(runs):
    for seed in range(2):
        with open(runs / f"plain8_{seed}" / "metrics.jsonl", "a") as file:
            file.write(json.dumps({"step": 40, "flatness": 2.0 + seed}) + "\n")
    found = cnnjax.compare_runs(runs, metric="flatness")
    assert found.rows[0]["flatness_mean"] == 2.5
    assert "Without flatness: resnet8." in notes(found)
    with pytest.raises(UserError, match="the baseline resnet8 has no flatness"):
        cnnjax.compare_runs(runs, metric="flatness", baseline="resnet8")


def test_names_are_of_the_fields_that_differ(runs):
    ended(runs / "wide", "resnet8", 0, 0.1, model_options={"width": 32})
    found = cnnjax.compare_runs(runs)
    assert [row["family"] for row in found.rows] == ["plain8", "resnet8", "resnet8, width 32"]
    assert [row["model_options.width"] for row in found.rows] == [None, None, 32]


def test_long_names_leave_out_what_speaks_for_itself(runs):
    wide = {"kernel_init": "he_fan_out", "activation": "leaky_relu", "width": 32}
    ended(runs / "wide", "resnet8", 0, 0.1, model_options=wide, augment="none")
    ended(runs / "slow", "resnet8", 0, 0.1, model_options=wide, augment="none", learning_rate=0.01)
    labels = [row["family"] for row in cnnjax.compare_runs(runs).rows]
    assert "resnet8, none, learning_rate 0.01, he_fan_out, leaky_relu, width 32" in labels
    assert "resnet8, crop_flip, learning_rate 0.1" in labels


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compare"], "give folders of runs"),
        (["compare", "none"], "there is no folder none"),
        (["compare", "empty"], "there is no run"),
        (["compare", "plain8_0", "plain8_1"], "all runs are of one family, plain8"),
        (["compare", "plain8_0", "begun"], "only plain8 has a finished run (begun: step 3 of 40)"),
        (["compare", "begun", "begun2"], "no run has finished (begun: step 3 of 40; begun2: step 4 of 40)"),
        (["compare", "again", "."], "have the same configuration and seed: give one of them only"),
        (["compare", "plain8_0", "resnet8_0", "--metric", "acc"], "there are learning_rate, train_error, tr"),
        (["compare", "plain8_0", "resnet8_0", "--metric", "acc"], "no run has the metric acc"),
        (
            ["compare", "plain8_0", "resnet8_0", "--baseline", "vgg"],
            "no family vgg with a finished run; there are plain8; resnet8",
        ),
        (["compare", "plain8_0", "resnet8_0", "--out", "a.html"], "pages are written by --report"),
        (["compare", "plain8_0", "resnet8_0", "--report", "begun/config.json"], "is no report of cnnjax"),
        (["compare", "plain8_0", "--format", "html"], "--format"),
    ],
)
def test_bad_input_is_one_line(words, said, runs, monkeypatch, capsys):
    (runs / "empty").mkdir()
    write_run(runs / "begun", "resnet8", done=3)
    write_run(runs / "begun2", "resnet14", done=4)
    if "again" in words:
        ended(runs / "again", "plain8", 0, 0.3)
    monkeypatch.chdir(runs)
    before = sorted(runs.rglob("*"))
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, *words)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error
    assert sorted(runs.rglob("*")) == before


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["cnnjax", *map(str, words)])
    main()


def test_text(runs, monkeypatch, capsys):
    run(monkeypatch, "compare", runs)
    header, rule, plain, residual, *more = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["family", "seeds", "parameters"]
    assert "  33.00 ± 3.61  " in plain
    assert residual.split()[:3] == ["resnet8", "3", "5,678"]
    assert residual.endswith("-9.67  -13.46 to -5.87      3  0.25")
    assert set(rule) == {"-"}
    assert more[0] == ""
    assert str(cnnjax.compare_runs(runs)).splitlines() == [header, rule, plain, residual, *more]


def test_csv_has_all_numbers_in_full(runs, monkeypatch, capsys):
    run(monkeypatch, "compare", runs, "--out", runs / "tables" / "all.csv")
    assert capsys.readouterr().out == f"{runs / 'tables' / 'all.csv'}\n"
    with open(runs / "tables" / "all.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    for line, row in zip(lines, cnnjax.compare_runs(runs).rows, strict=True):
        assert line.keys() == row.keys()
        for name, value in row.items():
            assert (float(line[name]) if isinstance(value, float) else line[name]) == (
                value if isinstance(value, float) else "" if value is None else str(value)
            )
    assert [path.name for path in (runs / "tables").iterdir()] == ["all.csv"]


def test_markdown(runs, monkeypatch, capsys):
    run(monkeypatch, "compare", runs, "--format", "markdown")
    header, rule, _, residual, empty, *more = capsys.readouterr().out.splitlines()
    assert rule == "|:---|" + "---:|" * (header.count("|") - 2)
    assert residual.startswith("| resnet8 | 3 | 5,678 | ")
    assert residual.endswith(" | -9.67 | -13.46 to -5.87 | 3 | 0.25 |")
    assert empty == ""
    assert all(line.startswith("- ") for line in more)


def test_latex(runs, monkeypatch, capsys):
    ended(runs / "rate", "resnet8", 0, 0.1, learning_rate=1.0)
    run(monkeypatch, "compare", runs, "--out", runs / "table.tex")
    lines = (runs / "table.tex").read_text().splitlines()
    table = lines[lines.index(next(line for line in lines if not line.startswith("%"))) :]
    assert table[0] == r"\begin{tabular}{l" + "r" * (table[2].count("&")) + "}"
    assert [table[index] for index in (1, 3, -2, -1)] == [
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    rows = [line.removesuffix(r" \\").split(" & ") for line in (table[2], *table[4:-2])]
    assert len({len(row) for row in rows}) == 1
    assert rows[0][-3:] == [r"95 \% interval", "pairs", "p"]
    (slow,) = (row for row in rows if row[0] == r"resnet8, learning\_rate 0.1")
    assert slow[-4:] == ["$-$9.67", "$-$13.46 to $-$5.87", "3", "0.25"]
    assert r"26.00 $\pm$" not in str(rows)
    assert r"23.33 $\pm$ 3.06" in slow


def test_a_terminal_has_a_table_in_parts_where_it_is_narrow(runs):
    found = cnnjax.compare_runs(runs)
    for width, parts in ((80, 2), (140, 1)):
        console = Console(width=width, record=True, highlight=False, markup=False)
        console.print(found)
        said = console.export_text()
        assert said.count("resnet8  ") == parts
        assert "-13.46 to -5.87" in said
        assert max(map(len, said.splitlines())) <= width


def test_the_page_of_several_families_has_the_comparison(runs, monkeypatch, capsys):
    run(monkeypatch, "compare", runs, "--format", "csv", "--baseline", "resnet8", "--report", runs / "a.html")
    said = capsys.readouterr()
    assert said.out.startswith("family,")  # alone in stdout
    assert said.err == f"{runs / 'a.html'}\n"
    shown = content_of((runs / "a.html").read_text())["compared"]
    assert shown["rows"][0][0] == "resnet8"
    assert shown["difference"] == "test error less that of resnet8, in points"
    ((label, mean, half),) = shown["intervals"]
    assert (label, mean, half) == ("plain8", pytest.approx(29 / 3), pytest.approx(3.79459, rel=1e-5))
    own = report_of([runs])
    assert own.compared["rows"][0][0] == "plain8"
    assert report_of([runs / "plain8_0", runs / "plain8_1"]).compared == {}


def test_the_page_says_why_there_is_no_comparison(runs):
    ended(runs / "again", "plain8", 0, 0.3)
    shown = report_of([runs]).compared
    assert shown["rows"] == []
    assert "have the same configuration and seed" in shown["notes"][0]


def test_a_comparison_is_plain_data(runs):
    found = over_seeds.compare_runs(*sorted(runs.iterdir()))
    assert dataclasses.replace(found, metric="train_error").rows[1]["difference"] == pytest.approx(-0.29 / 6)
