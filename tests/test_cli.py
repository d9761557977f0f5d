import runpy
import subprocess
import sys
from types import SimpleNamespace

import pytest

import cnnjax.training
from cnnjax.__main__ import main
from cnnjax.config import Keep


def run(*words):
    """As a user does, in a process of its own."""
    return subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, timeout=120)


@pytest.fixture
def here(monkeypatch, capsys):
    """The same in this process, which has imported everything: exit code, stdout and stderr."""

    def call(module, *words):
        monkeypatch.setattr(sys, "argv", [module, *words])
        runs = "cnnjax.__main__" if module == "cnnjax" else module
        monkeypatch.delitem(sys.modules, runs, raising=False)  # runpy warns of what was imported before
        with pytest.raises(SystemExit) as exit:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        return exit.value.code, *capsys.readouterr()

    return call


@pytest.mark.parametrize("module", ["cnnjax.__main__", "experiments.degradation", "cnnjax.data"])
def test_parsing_imports_neither_jax_nor_tfds(module):
    heavy = "{'jax', 'flax', 'matplotlib', 'tensorflow_datasets', 'orbax'} & set(sys.modules)"
    code = f"import sys, {module}; sys.exit(str({heavy}) if {heavy} else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [["cnnjax", "--help"], ["experiments.degradation", "--help"]])
def test_help(words):
    done = run(*words)
    assert done.returncode == 0
    assert "usage" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cnnjax", "modles"], "models"),
        (["experiments.degradation", "--depht", "20"], "--depths"),
        (["experiments.degradation", "--preset", "qick"], "quick"),
    ],
)
def test_wrong_flags_exit_with_2_and_a_suggestion(here, words, message):
    code, out, error = here(*words)
    assert code == 2
    assert message in out + error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cnnjax", "models", "resnte56"], "did you mean resnet56"),
        (["cnnjax", "models", "plain21"], "plain20 and plain26"),
        (["cnnjax", "data", "cifar11"], "cifar10"),
        (["cnnjax", "data", "./pictures", "--data-dir", "."], "leave out --data-dir"),
        (["cnnjax", "train", "--out", "runs/none", "--data", "./no_folder"], "no folder no_folder"),
        (["cnnjax", "train", "--out", "runs/none", "--options", "width"], "FIELD=VALUE"),
        (
            ["cnnjax", "train", "--out", "runs/none", "--mesh", "data=64"],
            "a mesh of seed=1, data=64, model=1 needs 64 devices: 1 found",
        ),
        (["cnnjax", "train", "--out", "runs/none", "--mesh", "gpu=4"], "unknown axis 'gpu'"),
        (["cnnjax", "summary", "resnet20", "--input", "0"], "at least one pixel"),
        (["experiments.degradation", "--depths", "21"], "6n + 2"),
        (["experiments.degradation", "--depths"], "there must be one"),
        (["experiments.degradation", "--seeds", "0"], "at least 1"),
        (["experiments.degradation", "--data", "fashon_mini"], "fashion_mini"),
        (["experiments.degradation", "--data", "cifar10", "--data-dir", "no/such/folder"], "no/such/folder"),
        (["experiments.degradation", "--preset", "smoke", "--out", "/dev/null/runs"], "/dev/null"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(here, words, message):
    code, _, error = here(*words)
    assert code == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1, error


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
    words += ["--resume", "4000", "--keep.best", "1", "--tensorboard"]
    monkeypatch.setattr(cnnjax.training, "train", train)
    monkeypatch.setattr(sys, "argv", ["cnnjax", "train", "--out", str(tmp_path), *words])
    main()
    assert capsys.readouterr().out == "test_error 0.2500\n"
    assert given.pop("data").name == "synthetic"
    assert given == {
        "fields": {"width": 4, "shortcut": "B"},
        "out": tmp_path,
        "mesh": cnnjax.make_mesh(data=1),
        "shard": "fsdp",
        "tensorboard": True,
        "keep": Keep(best=1),
        "resume": 4000,
    }


def test_models_lists_names():
    done = run("cnnjax", "models", "plain5*")
    assert done.stdout.startswith("plain56  He et al. 2015, plain net")


def test_a_platform_that_is_not_here_is_one_line(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "nosuch")
    done = run("cnnjax", "doctor")
    assert done.returncode == 2
    assert done.stderr.startswith("cnnjax: JAX_PLATFORMS=nosuch: ")
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_doctor_reports_versions_data_sets_and_warnings(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["cnnjax", "doctor"])
    main()
    text = capsys.readouterr().out
    for word in (
        "jax 0.",
        "cores",
        "cache:",
        "data fashion_mini:",
        "data cifar10: missing",
        "warning: no accelerator",
    ):
        assert word in text
