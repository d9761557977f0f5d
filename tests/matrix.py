"""Run the test suite under other instruction sets, numbers of cores, Pythons and versions of JAX.

    python tests/matrix.py                     # all that can be had here, one after the other
    python tests/matrix.py SSE4_2 cores=1      # some
    python tests/matrix.py --list

Everything after `--` goes to pytest: `python tests/matrix.py AVX2 -- tests/probes -x`. A table is printed at
the end; what this machine cannot run is named and skipped. Exit code 1 if a test failed.

Other Pythons are those on the PATH, or what `uv python find` knows; each gets a virtual environment of its
own in a temporary folder, with the package and the extra `test` installed from the registry.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
FLAGS = {"SSE4_2": "sse4_2", "AVX": "avx", "AVX2": "avx2", "AVX512": "avx512f"}  # XLA's name to the kernel's
PYTHONS = ("3.11", "3.12", "3.13")
OLDEST = re.search(r'"jax>=([\d.]+)', (ROOT / "pyproject.toml").read_text())


class Skipped(Exception):
    """This machine cannot do it; the message says why."""


def instructions(name: str, arguments: Sequence[str], folder: Path) -> int:
    """No newer instructions than these in what XLA compiles."""
    cpu = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not cpu.exists() or FLAGS[name] not in cpu.read_text().split():
        raise Skipped(f"this processor has no {name}")
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_max_isa={name}".strip()
    return pytest(sys.executable, arguments, XLA_FLAGS=flags)


def cores(number: str, arguments: Sequence[str], folder: Path) -> int:
    """On so many cores, with a worker for each."""
    here = sorted(os.sched_getaffinity(0))
    if len(here) < int(number):
        raise Skipped(f"{len(here)} cores are here")
    if not shutil.which("taskset"):
        raise Skipped("no taskset (of util-linux) is here")
    only = ["taskset", "-c", ",".join(map(str, here[: int(number)]))]
    return pytest(sys.executable, ["-n", number, *arguments], before=only)


def in_order(order: str, arguments: Sequence[str], folder: Path) -> int:
    """In one process, or in random order by pytest-randomly, which says its seed."""
    if order == "random" and subprocess.run([sys.executable, "-c", "import pytest_randomly"]).returncode:
        raise Skipped("pip install pytest-randomly")
    return pytest(sys.executable, ["-n", "0"] if order == "one-process" else arguments)


def python(version: str, arguments: Sequence[str], folder: Path) -> int:
    """With another Python, and the newest jax that the package allows it."""
    return pytest(environment(version, folder), arguments)


def oldest_jax(_: str, arguments: Sequence[str], folder: Path) -> int:
    """With the oldest jax that pyproject.toml allows."""
    assert OLDEST
    return pytest(environment("3.11", folder, f"jax=={OLDEST[1]}.0"), arguments)


KINDS = {
    "instructions": (instructions, {name: name for name in FLAGS}),
    "cores": (cores, {f"cores={number}": number for number in ("1", "2", "4")}),
    "order": (in_order, {order: order for order in ("one-process", "random")}),
    "python": (python, {f"python{version}": version for version in PYTHONS}),
    "jax": (oldest_jax, {"oldest-jax": ""}),
}


def pytest(
    executable: str | Path, arguments: Sequence[str], before: Sequence[str] = (), **variables: str
) -> int:
    """Run it; its exit code."""
    command = [*before, str(executable), "-m", "pytest", *arguments]
    print("+", *(f"{name}={value!r}" for name, value in variables.items()), *command, flush=True)
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}).returncode


def environment(version: str, folder: Path, *constraints: str) -> Path:
    """The interpreter of a new virtual environment with the package in it."""
    interpreter = shutil.which(f"python{version}")
    if interpreter is None and shutil.which("uv"):
        found = subprocess.run(["uv", "python", "find", version], capture_output=True, text=True)
        interpreter = found.stdout.strip() or None
    if interpreter is None or subprocess.run([interpreter, "--version"], capture_output=True).returncode:
        raise Skipped(f"no python{version} is here (uv python install {version})")
    subprocess.run([interpreter, "-m", "venv", folder], check=True)
    executable = folder / "bin" / "python"
    install = [executable, "-m", "pip", "install", "-q", "-e", f"{ROOT}[test]", *constraints]
    subprocess.run(install, check=True)
    return executable


def rows(names: Sequence[str], arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each name and what became of it."""
    for run, values in KINDS.values():
        for name, value in values.items():
            if names and name not in names:
                continue
            start = time.monotonic()
            try:
                with tempfile.TemporaryDirectory() as folder:
                    code = run(value, arguments, Path(folder))
                yield name, f"{'passed' if code == 0 else 'FAILED'}, {time.monotonic() - start:.0f} s"
            except Skipped as reason:
                yield name, f"skipped: {reason}"


def main(words: Sequence[str]) -> int:
    """The table on stdout; 1 if something failed, 2 if a name is unknown."""
    split = list(words).index("--") if "--" in words else len(words)
    names, arguments = words[:split], words[split + 1 :]
    known = [name for _, values in KINDS.values() for name in values]
    if "--list" in names:
        print(*known)
        return 0
    if unknown := [name for name in names if name not in known]:
        print(f"matrix: unknown {unknown[0]!r}, must be of {', '.join(known)}", file=sys.stderr)
        return 2
    found = list(rows(names, arguments))
    print()
    for name, result in found:
        print(f"{name:12} {result}")
    return int(any("FAILED" in result for _, result in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
