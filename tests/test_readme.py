import json
import re
from pathlib import Path

import pytest

import cnnjax

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_first_two_blocks_are_commands_to_copy():
    blocks = re.findall(r"^```sh\n(.*?)^```$", README, re.M | re.S)
    assert len(blocks) >= 2
    assert all(block.count("\n") == 1 for block in blocks[:2])
    assert blocks[0].strip().endswith("-m experiments.degradation")
    assert blocks[1].strip().endswith("pytest")


def test_the_names_and_counts_are_true():
    rows = re.findall(r"^\| (`(?:plain|resnet)[^|]*) \| ([\d,.; ]+) \|", README, re.M)
    assert len(rows) == 6
    for names, counts in rows:
        names, counts = re.findall(r"`(.*?)`", names), re.findall(r"\d[\d,]*", counts)
        pairs = {names[0]: counts[0], names[-1]: counts[-1]}
        if len(names) == len(counts):
            pairs = dict(zip(names, counts, strict=True))
        for name, count in pairs.items():
            if not re.search("1202|1001", name):  # their traces are counted elsewhere, and take long
                assert cnnjax.summary(name).parameters == int(count.replace(",", "")), name


def test_every_row_of_networks_begins_with_a_true_count():
    rows = re.findall(r"^\| `([^`]*)`.* \| ([\d,]+)[^|]* \| [^|]* \|$", README.split("| networks |")[1], re.M)
    assert len(rows) > 15
    for name, count in rows:
        assert cnnjax.summary(name).parameters == int(count.replace(",", "")), name


@pytest.mark.slow
def test_the_snippets_run(monkeypatch, tmp_path):
    """In order, as one program, but for the one that needs a file of weights."""
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"^```python\n(.*?)^```$", README, re.M | re.S)
    assert len(snippets) > 3
    names = {}
    for snippet in snippets:
        if ".pth" not in snippet:
            exec(snippet, names)
    assert 0 < names["sharpness"] < 1e4
    assert names["found"].layers[0] == "conv1"
    assert len(repr(names["result"]).splitlines()) == 3
    assert all(result.config.seed == seed for seed, result in enumerate(names["results"]))


def test_the_files_it_names_are_there():
    for path in re.findall(r"(?:tests|experiments)/[\w/.]+\.\w+", README):
        assert (Path(__file__).parent.parent / path).exists(), path


def test_the_table_is_the_recorded_result():
    folder = Path(__file__).parent.parent / "experiments/results/degradation_quick"
    results = json.loads((folder / "summary.json").read_text())["results"]
    for row in results:
        errors = [
            f"{100 * row[name]['mean']:.1f} ± {100 * row[name]['std']:.1f}"
            for name in ("train_error", "test_error")
        ]
        line = next(line for line in README.splitlines() if line.startswith(f"| `{row['model']}` |"))
        assert re.findall(r"[\d.]+ ± [\d.]+", line) == errors
