"""Every command and snippet of the README and the documentation is run, or parsed where it cannot be run.

A comment before a block says what is special: `<!-- test: --steps 20 -->` are flags for its commands that
train, `<!-- test: parse: why -->` has it parsed alone, and `<!-- test: skip: why -->` is for what is not
ours. Commands of experiments are parsed unless such flags are given: tests/experiments run each by its smoke
preset.
"""

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tyro
from PIL import Image

from tests.test_readme import TOGETHER

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
GALLERY = ROOT / "docs/experiments/index.md"
NET = "\n".join(
    [
        "from flax import linen as nn",
        "class Net(nn.Module):",
        "    width: int = 8",
        "    @nn.compact",
        "    def __call__(self, x):",
        "        x = nn.relu(nn.Dense(self.width)(x.reshape(len(x), -1)))",
        "        return nn.Dense(10)(x)",
    ]
)


class Block(NamedTuple):
    """A fenced block of a page, and the comment before it."""

    mark: str
    language: str
    text: str


class Parsed(Exception):
    """The command line is right, and nothing more is wanted of it."""


def blocks(page):
    found = re.findall(
        r"(?:^<!-- test: (.*?) -->\n)?^```(sh|python)\n(.*?)^```$", page.read_text(), re.M | re.S
    )
    return [Block(*parts) for parts in found]


def commands(block):
    """Its lines as words, without comments; a line that ends with a backslash goes on."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


PAGES = {
    str(page.relative_to(ROOT)): page
    for page in [README, *sorted((ROOT / "docs").rglob("*.md"))]
    if blocks(page)
}
ALL = [
    pytest.param(words, id=f"{name}: {shlex.join(words)}")
    for name, page in PAGES.items()
    for block in blocks(page)
    if block.language == "sh" and not block.mark.startswith("skip")
    for words in commands(block)
    if words[0] in ("cnnjax", "python")
]


def check(words, monkeypatch):
    """Parse a command of ours by its own parser, and what it runs in turn."""
    if words[:2] == ["python", "-m"]:
        module, words = words[2], words[3:]
    else:
        module, words = "cnnjax", words[1:]
    monkeypatch.setattr(sys, "argv", [module, *words])
    with pytest.raises(Parsed):
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    if "--" in words:
        check(words[words.index("--") + 1 :], monkeypatch)


@pytest.mark.parametrize("words", ALL)
@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_a_command_is_parsed(words, monkeypatch):
    cli = tyro.cli

    def parse(*args, **options):
        cli(*args, **options)
        raise Parsed

    monkeypatch.setattr(tyro, "cli", parse)
    check(words, monkeypatch)


def flags(block, words):
    """What a command of the block gets besides, or None if it is not to be run."""
    if block.mark.startswith(("parse", "skip")):
        return None
    trains = words[:2] == ["cnnjax", "train"] or words[0] == "python"
    if words[0] == "python" and not block.mark:
        return None
    return shlex.split(block.mark) if trains else []


def prepare(folder):
    """What commands name: a network, a picture."""
    (folder / "path").mkdir()
    (folder / "path/net.py").write_text(NET)
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(folder / "picture.jpg")


def run_command(words, folder):
    line = shlex.join(words).replace("'runs/net?'", "runs/net?")  # the shell's to expand
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{line}\n{done.stdout[-500:]}{done.stderr[-1500:]}"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PAGES if name not in TOGETHER])
def test_a_page_runs(name, tmp_path, monkeypatch):
    """Its commands and snippets in their order, in one folder, as one program."""
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    names = {}
    if PAGES[name].parent == GALLERY.parent and PAGES[name] != GALLERY:
        exec(blocks(GALLERY)[0].text, names)
    for block in blocks(PAGES[name]):
        if block.language == "sh":
            for words in commands(block):
                more = flags(block, words)
                if more is not None and words[0] in ("cnnjax", "python"):
                    run_command([*words, *more], tmp_path)
        elif found := re.match(r"# (\w+\.py)\n", block.text):
            (tmp_path / found[1]).write_text(block.text)
        elif block.mark.startswith("parse"):
            compile(block.text, name, "exec")
        else:
            exec(block.text, names)


@pytest.mark.slow
@pytest.mark.parametrize("name", TOGETHER)
def test_the_commands_of_a_page_run(name, tmp_path):
    prepare(tmp_path)
    for block in blocks(PAGES[name]):
        for words in commands(block) if block.language == "sh" else []:
            more = flags(block, words)
            if words[0] == "cnnjax" and more is not None:
                run_command([*words, *more], tmp_path)


def test_the_gallery_has_every_experiment_and_every_result():
    text = GALLERY.read_text()
    pages = "".join(page.read_text() for page in GALLERY.parent.glob("*.md"))
    pages += (ROOT / "docs/guides/recipes.md").read_text()
    for path in (ROOT / "experiments").iterdir():
        name = path.stem
        asks = (path / "__main__.py").exists() or name in ("degradation", "scaling")
        assert not asks or f"`python -m experiments.{name}`" in text, name
    for folder in (ROOT / "experiments/results").iterdir():
        assert f"experiments/results/{folder.name}/" in pages, folder.name
    for section in text.split("\n## ")[1:-1]:
        assert re.search(r"\[more\]\((\w+\.md)\)", section), section[:20]
        assert all(word in section for word in ("**Question.**", "**Seen.**", "**Published.**")), section[:20]
