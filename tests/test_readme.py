import json
import re
from pathlib import Path

import pytest

import cnnjax

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
NETWORKS = (ROOT / "docs/reference/networks.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TOGETHER = ("README.md", "docs/guides/train.md", "docs/guides/scale_out.md", "docs/guides/measure.md")
"""Pages whose snippets are one program, in this order."""


def test_the_first_two_blocks_are_commands_to_copy():
    blocks = re.findall(r"^```sh\n(.*?)^```$", README, re.M | re.S)
    assert len(blocks) >= 2
    assert all(block.count("\n") == 1 for block in blocks[:2])
    assert blocks[0].strip().endswith("-m experiments.degradation")
    assert blocks[1].strip().endswith("pytest")


def test_the_names_and_counts_are_true():
    rows = re.findall(r"^\| (`(?:plain|resnet)[^|]*) \| ([\d,.; ]+) \|", NETWORKS, re.M)
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
    rows = re.findall(r"^\| `([^`]*)`.* \| ([\d,]+)[^|]* \| [^|]* \|$", NETWORKS, re.M)
    assert len(rows) > 15
    for name, count in rows:
        assert cnnjax.summary(name).parameters == int(count.replace(",", "")), name


@pytest.mark.slow
def test_the_snippets_run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = {}
    for page in TOGETHER:
        snippets = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)
        assert snippets, page
        for snippet in snippets:
            exec(snippet, names)
    assert 0 < names["sharpness"] < 1e4
    assert names["found"].layers[0] == "conv1"
    assert len(repr(names["result"]).splitlines()) == 3
    assert all(result.config.seed == seed for seed, result in enumerate(names["results"]))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_files_that_a_page_names_are_there(page):
    text = page.read_text()
    named = re.findall(r"\b(?:tests|experiments|docs)/[\w/]+\.(?:py|json|md|png)", text)
    if page.name != "README.md":  # links inside docs are checked by the site's builder
        named = [path for path in named if f"]({path})" not in text and f"/{path})" not in text]
    else:
        named += re.findall(r"\]\(([\w/.]+)\)", text)
    for path in set(named):
        assert (ROOT / path).exists() or (page.parent / path).exists(), path


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
