"""Report what this machine has, and what would be slow or fail on it."""

import importlib.metadata
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax

from cnnjax.compilation import check_backend
from cnnjax.data import find, list_datasets
from cnnjax.files import cache_root
from cnnjax.machine import usable_cores
from cnnjax.ops import direct
from cnnjax.terminal import Table, table

PACKAGES = (
    "cnnjax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "tensorflow-datasets",
    "numpy",
    "matplotlib",
)
GIB = 2**30


def report() -> Table:
    """The whole report, one fact per line, warnings last."""
    check_backend()
    devices = jax.devices()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    rows = [("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")]
    rows += [(name, importlib.metadata.version(name)) for name in PACKAGES]
    rows.append(("devices", f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})"))
    rows.append(("host", f"{len(usable_cores())} cores, {memory:.0f} GiB of memory"))
    rows.append(("cache", f"{cache_root()} ({_free(cache_root()) / GIB:.0f} GiB free)"))
    rows += [
        (f"data {name}", str(find(name) or f"missing: `cnnjax data {name}` fetches it"))
        for name in list_datasets()
    ]
    rows += [("warning", warning) for warning in _warnings(devices) or ["none"]]
    return table(rows, align="l")


def _warnings(devices: list[Any]) -> list[str]:
    found = []
    if devices[0].platform == "cpu":
        if shutil.which("nvidia-smi"):
            found.append("an NVIDIA driver is here but jax runs on the CPU: pip install 'cnnjax[cuda]'")
        found.append("no accelerator: `quick` takes minutes, `paper` (64,000 steps a run) would take weeks")
        if problem := direct.load():
            found.append(f"convolutions run by XLA, 2 to 4 times slower than our own code: {problem}")
        if len(devices) > (cores := len(usable_cores())):
            found.append(f"{len(devices)} virtual devices on {cores} cores: right numbers, no speed")
    if not _writable(cache_root()):
        found.append(f"{cache_root()} cannot be written: set CNNJAX_CACHE to a folder that can")
    elif _free(cache_root()) < 2 * GIB:
        found.append(f"under 2 GiB free for {cache_root()}: data sets and compiled programs go there")
    if not _writable(Path.cwd()):
        found.append(f"{Path.cwd()} cannot be written: experiments need an --out elsewhere")
    return found


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())


def _free(folder: Path) -> int:
    return shutil.disk_usage(_existing(folder)).free


def _writable(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)):
            return True
    except OSError:
        return False
