"""What a wheel has: every package of the checkout, with the experiments inside."""

import tomllib
from pathlib import Path

import cnnjax

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_is_listed_and_the_experiments_are_inside():
    setuptools = PROJECT["tool"]["setuptools"]
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for name in ("cnnjax", "experiments")
        for path in (ROOT / name).rglob("__init__.py")
    }
    listed = {package.replace("cnnjax.experiments", "experiments") for package in setuptools["packages"]}
    assert listed == found
    assert all(package.split(".")[0] == "cnnjax" for package in setuptools["packages"])
    assert setuptools["package-dir"] == {"cnnjax.experiments": "experiments"}


def test_the_experiments_do_not_name_the_package_that_they_lie_in():
    for path in (ROOT / "experiments").rglob("*.py"):
        assert "from experiments" not in path.read_text(), path
        assert "import experiments" not in path.read_text(), path


def test_data_files_are_there():
    for package, files in PROJECT["tool"]["setuptools"]["package-data"].items():
        for name in files:
            assert (ROOT / package.replace(".", "/") / name).exists(), name


def test_the_version_is_the_projects():
    assert cnnjax.__version__ == PROJECT["project"]["version"]
    assert "__version__" in dir(cnnjax)
