"""The house: who may import whom. A new direction fails here and needs a reason."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEAVES = {"errors", "files", "images", "machine"}
MAY_IMPORT = {
    "errors": set(),
    "files": {"errors"},
    "images": {"errors"},
    "machine": set(),
    "config": LEAVES,
    "mesh": LEAVES,
    "compilation": LEAVES,
    "distributed": LEAVES,
    "command": {"errors"},
    "launch": LEAVES | {"command"},
    "ops": LEAVES,
    "data": LEAVES,
    "models": LEAVES | {"ops"},
    "counting": LEAVES | {"models", "ops"},
    "comparison": LEAVES | {"counting", "models"},
    "interop": LEAVES | {"models"},
    "probes": {"errors", "ops"},
    "training": LEAVES | {"config", "data", "distributed", "mesh", "models", "ops"},
    "report": LEAVES,
    "doctor": LEAVES | {"compilation", "data", "ops"},
    "__main__": LEAVES
    | {
        "command",
        "comparison",
        "compilation",
        "config",
        "counting",
        "data",
        "doctor",
        "interop",
        "launch",
        "mesh",
        "models",
        "training",
    },
    "__init__": LEAVES | {"config", "counting", "interop", "mesh", "models", "probes", "training"},
}
ONE_FILE_ONLY = {
    "tensorflow_datasets": {"data"},
    "grain": {"data"},
    "tensorboardX": {"training"},
    "matplotlib": {"report"},
    "torch": set(),
    "tensorflow": set(),
}
FILES = sorted((ROOT / "cnnjax").rglob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from names if node.module == "cnnjax" else [node.module]


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


@pytest.mark.parametrize("library", ["grain", "matplotlib", "tensorboardX"])
def test_a_library_for_one_purpose_is_imported_in_one_file(library):
    users = [path for path in FILES if library in {name.split(".")[0] for name in imported(path)}]
    assert len(users) == 1
