import importlib.metadata
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

import cnnjax.training
from cnnjax.__main__ import main
from cnnjax.config import CheckpointPolicy


def run(monkeypatch, capsys, *words):
    """What the command prints, in this process."""
    monkeypatch.setattr(sys, "argv", ["cnnjax", *words])
    main()
    return capsys.readouterr().out


@pytest.mark.parametrize("module", ["cnnjax.__main__", "experiments.degradation", "cnnjax.data"])
def test_parsing_imports_neither_jax_nor_tfds(module):
    heavy = "{'jax', 'flax', 'matplotlib', 'tensorflow_datasets', 'orbax'} & set(sys.modules)"
    code = f"import sys, {module}; sys.exit(str({heavy}) if {heavy} else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help(monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, capsys, "--help")
    assert end.value.code == 0
    assert "usage: cnnjax" in capsys.readouterr().out


def test_version(monkeypatch, capsys):
    assert run(monkeypatch, capsys, "--version") == f"cnnjax {importlib.metadata.version('cnnjax')}\n"


CLOSED = """
import os, sys
from cnnjax.errors import UserError, one_line_errors
with one_line_errors("cnnjax"):
    print("to stdout")
    print("to stderr", file=sys.stderr)
    os.write(2, b"as a C library does")
    with open({file!r}, "w") as file:
        assert file.fileno() > 2
        file.write("mine alone")
    raise UserError("bad input")
"""


def test_closed_streams_are_written_nowhere(tmp_path):
    file = tmp_path / "file"
    command = f"exec {sys.executable} -c '{CLOSED.format(file=str(file)).replace(chr(39), chr(34))}' >&- 2>&-"
    assert subprocess.run(["sh", "-c", command]).returncode == 2
    assert file.read_text() == "mine alone"


def test_train_hands_its_options_on(monkeypatch, capsys, tmp_path):
    given = {}

    def train(config, out, **options):
        given.update(options, fields=config.model_options, out=out)
        return SimpleNamespace(metrics={"test_error": 0.25})

    words = [
        "--data",
        "synthetic",
        "--options",
        "width=4",
        "shortcut=B",
        "--mesh",
        "data=1",
        "--shard",
        "fsdp",
    ]
    words += ["--resume", "4000", "--keep.best", "1", "--log", "tensorboard", "wandb"]
    monkeypatch.setattr("cnnjax.running.train", train)
    monkeypatch.setattr(sys, "argv", ["cnnjax", "train", "--out", str(tmp_path), *words])
    main()
    assert capsys.readouterr().out == "test_error 0.2500\n"
    assert given.pop("data").name == "synthetic"
    assert given == {
        "fields": {"width": 4, "shortcut": "B"},
        "out": tmp_path,
        "mesh": cnnjax.make_mesh(data=1),
        "shard": "fsdp",
        "sinks": ("tensorboard", "wandb"),
        "keep": CheckpointPolicy(best=1),
        "resume": 4000,
    }


def test_models_lists_names(monkeypatch, capsys):
    said = run(monkeypatch, capsys, "models", "plain5*")
    assert said.startswith("plain56  He et al. 2015, plain net")


def test_a_platform_that_is_not_here_is_one_line(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "nosuch")
    command = [sys.executable, "-m", "cnnjax", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("cnnjax: JAX_PLATFORMS=nosuch: ")
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_doctor_reports_versions_data_sets_and_warnings(monkeypatch, capsys):
    text = re.sub(" +", " ", run(monkeypatch, capsys, "doctor"))
    for word in (
        "jax 0.",
        "cores",
        "cache /",
        "data fashion_mini ",
        "data cifar10 missing",
        "warning no accelerator",
    ):
        assert word in text
