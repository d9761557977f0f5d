"""The house: who may import whom. A new direction fails here and needs a reason."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEAVES = {"errors", "files", "images", "machine", "npz", "watchdog"}
MAY_IMPORT = {
    "errors": set(),
    "files": {"errors"},
    "images": {"errors"},
    "machine": set(),
    "npz": {"errors", "files"},
    "watchdog": set(),
    "config": LEAVES,
    "mesh": LEAVES | {"ops"},  # which arrays are stacked over depth
    "compilation": LEAVES,
    "distributed": LEAVES,
    "command": {"errors"},
    "run_flags": {"config"},
    "launch": LEAVES | {"command"},
    "slurm": LEAVES,
    "ops": LEAVES,
    "data": LEAVES,
    "models": LEAVES | {"ops"},
    "counting": LEAVES  # a plan is of the step that training compiles; layers of any network, from its trace
    | {"config", "data", "mesh", "models", "network", "objects", "ops", "probes", "recipes", "training"},
    "comparison": LEAVES | {"counting", "models"},
    "interop": LEAVES | {"models"},
    "network": {"errors"},
    "objects": {"errors"},
    "losses": LEAVES | {"config", "models"},
    "layerwise": {"ops"},  # which arrays are stacked over depth
    "lookahead": set(),
    "schedules": set(),
    "second_order": {"errors", "network"},
    "optimizers": LEAVES | {"config", "layerwise", "lookahead", "schedules", "second_order"},
    "initial": LEAVES | {"interop", "network", "ops", "optimizers", "training"},
    "trial": LEAVES | {"objects", "optimizers", "training"},
    "preprocessing": LEAVES | {"config", "data", "objects", "ops", "training"},
    "recipes": LEAVES
    | {
        "config",
        "data",
        "initial",
        "losses",
        "models",
        "network",
        "objects",
        "optimizers",
        "preprocessing",
        "probes",
        "second_order",
        "training",
        "trial",
    },
    "papers": {"config", "errors"},
    "evaluation": LEAVES
    | {"config", "counting", "data", "distributed", "mesh", "network", "ops", "probes", "training"},
    "evaluating": LEAVES | {"compilation", "data", "evaluation", "runs"},
    "running": LEAVES | {"config", "evaluation", "mesh", "recipes", "sinks", "training"},
    "runs": LEAVES | {"config", "data", "evaluation", "network", "recipes", "running", "training"},
    "probes": {"errors", "network", "ops"},
    "sinks": LEAVES | {"objects"},
    "training": LEAVES | {"config", "data", "distributed", "mesh", "network", "ops", "probes", "sinks"},
    "report": LEAVES,
    "reporting": LEAVES | {"distributed", "report"},
    "diagnosis": {"counting", "errors", "network", "ops", "probes", "report"},
    "checkup": LEAVES | {"config", "data", "diagnosis", "models", "objects", "recipes", "runs", "training"},
    "showing": LEAVES | {"config", "data", "recipes", "report", "training"},
    "doctor": LEAVES | {"compilation", "data", "ops"},
    "__main__": LEAVES
    | {
        "checkup",
        "command",
        "comparison",
        "compilation",
        "config",
        "counting",
        "data",
        "doctor",
        "evaluating",
        "interop",
        "launch",
        "mesh",
        "models",
        "papers",
        "reporting",
        "run_flags",
        "running",
        "runs",
        "showing",
        "slurm",
    },
    "__init__": LEAVES
    | {
        "config",
        "counting",
        "data",
        "diagnosis",
        "interop",
        "mesh",
        "models",
        "papers",
        "probes",
        "running",
        "runs",
        "sinks",
        "training",
    },
}
ONE_FILE_ONLY = {
    "tensorflow_datasets": {"data"},
    "grain": {"data"},
    "pyarrow": {"data", "evaluation"},
    "tensorboardX": {"sinks"},
    "wandb": {"sinks"},
    "mlflow": {"sinks"},
    "trackio": {"sinks"},
    "jinja2": {"report"},
    "matplotlib": {"report"},
    "starlette": {"report"},
    "uvicorn": {"report"},
    "torch": set(),
    "tensorflow": set(),
}
FILES = sorted((ROOT / "cnnjax").rglob("*.py"))


@functools.cache
def imported(path):
    """The modules that a file imports, also inside functions."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            own = [f"{node.module}.{alias.name}" for alias in node.names]
            names += own if node.module == "cnnjax" else [node.module]
    return tuple(names)


def room(path):
    return path.relative_to(ROOT / "cnnjax").with_suffix("").parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    for name in imported(path):
        first, *rest = name.split(".")
        if first == "cnnjax" and rest:
            assert rest[0] in MAY_IMPORT[room(path)] | {room(path)}, f"{path.name} imports {name}"
        if first in ONE_FILE_ONLY:
            assert room(path) in ONE_FILE_ONLY[first], f"{path.name} imports {name}"
        assert first not in ("experiments", "tests"), f"{path.name} imports {name}"


@pytest.mark.parametrize(
    "library", ["grain", "jinja2", "mlflow", "starlette", "tensorboardX", "trackio", "uvicorn", "wandb"]
)
def test_a_library_for_one_purpose_is_imported_in_one_file(library):
    users = [path for path in FILES if library in {name.split(".")[0] for name in imported(path)}]
    assert len(users) == 1


IMPORT_ALL = """
import importlib, logging, os, pkgutil, signal, sys, threading, warnings
import absl.logging, flax.linen, grain, jax, matplotlib.pyplot, optax, orbax.checkpoint
import PIL.Image, safetensors, scipy.cluster.vq, tensorboardX, tqdm, tyro

def state():
    everyone = logging.root.manager.loggerDict.items()
    loggers = [item for item in everyone if isinstance(item[1], logging.Logger)]
    return {
        "backend": matplotlib.get_backend(),
        "style": dict(matplotlib.rcParams),
        "logging": {name: (one.level, one.propagate, one.handlers[:]) for name, one in loggers},
        "root": (logging.root.level, logging.root.handlers[:]),
        "jax": dict(jax.config.values),
        "environment": dict(os.environ),
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "warnings": list(warnings.filters),
        "hooks": (sys.excepthook, threading.excepthook, sys.displayhook, sys.path[:], sys.meta_path[:]),
    }

matplotlib.use("svg")  # as a notebook has its own
jax.devices()
import cnnjax, experiments
before = state()
for package in (cnnjax, experiments):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
after = state()
for name in ("logging", "environment", "jax", "style"):  # new loggers are none of the importer's
    after[name] = {key: after[name][key] for key in before[name]}
assert after == before, [name for name in before if before[name] != after[name]]
assert "cnnjax.report.curves" in sys.modules and "experiments.scaling" in sys.modules
"""


def test_importing_changes_nothing_for_the_importer():
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
