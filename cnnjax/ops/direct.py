"""`direct_conv.cc`: our own code for CPUs, compiled for this machine when it is first used."""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.errors import UserError
from cnnjax.files import cache_root

SOURCE = Path(__file__).with_name("direct_conv.cc")
INCLUDED = tuple(SOURCE.with_name(name) for name in ("product.h", "sums.h", "winograd.h"))
FLAGS = ("-std=c++17", "-O3", "-march=native", "-shared", "-fPIC", "-w")
CONVOLUTIONS = ("cnnjax_convolve", "cnnjax_kernel_gradient")
SUMS = tuple(f"cnnjax_{name}" for name in ("moments", "products", "positives", "norm"))
"""What a compiled program calls."""


def usable(dtype: Any) -> bool:
    """Whether our own code can replace XLA's on this machine's CPU.

    It takes float32, and runs where there is one CPU device: XLA cannot divide a foreign call over several.
    """
    return jax.device_count("cpu") == 1 and dtype == jnp.float32 and load() is None


def convolve(images: jax.Array, kernel: jax.Array, shape: tuple[int, ...], **window: Any) -> jax.Array:
    """[batch, height, width, c_in] by [k, k, c_in / groups, c_out] to `shape`; `window` as in the source."""
    return _call(CONVOLUTIONS[0], (images, kernel), jax.ShapeDtypeStruct(shape, jnp.float32), **window)


def kernel_gradient(
    images: jax.Array, upstream: jax.Array, shape: tuple[int, ...], **window: Any
) -> jax.Array:
    """Gradient with respect to `convolve`'s kernel, of this `shape`, given that of its result."""
    return _call(CONVOLUTIONS[1], (images, upstream), jax.ShapeDtypeStruct(shape, jnp.float32), **window)


def sums(name: str, *operands: jax.Array, shape: tuple[int, ...], leading: int, results: int) -> Any:
    """So many sums of this `shape` [group..., channel]; `name` is one of those in `sums.h`.

    The first operand is [group..., row..., channel], with so many `leading` axes of groups.
    """
    if any(x.dtype != jnp.float32 for x in operands):  # the compiled code would end the process
        raise TypeError(f"{name} of {[str(x.dtype) for x in operands]}: must all be float32")
    result = jax.ShapeDtypeStruct(shape, jnp.float32)
    return _call(f"cnnjax_{name}", operands, [result] * results, leading=leading)


def _call(target: str, operands: Sequence[jax.Array], results: Any, **attributes: Any) -> Any:
    if missing := load():
        raise UserError(f"convolution='direct': {missing}; 'auto' takes what is available")
    attributes = {
        name: np.int64(value) if isinstance(value, int) else np.asarray(value, np.int64)
        for name, value in attributes.items()
    }
    return jax.ffi.ffi_call(target, results, vmap_method="sequential")(*operands, **attributes)


@functools.cache
def load() -> str | None:
    """Compile the source, unless that was done before, and register it; returns the obstacle, if any."""
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))), None)
    if compiler is None:
        return "there is no C++ compiler (g++ or clang++)"
    try:
        library = ctypes.CDLL(os.fspath(_compiled(compiler)))
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        return f"{compiler} cannot compile it: {said.strip().splitlines()[0]}"
    for target in CONVOLUTIONS + SUMS:
        jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(getattr(library, target)), platform="cpu")
    return None


def _compiled(compiler: str) -> Path:
    said = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    sources = [each.read_bytes() for each in (SOURCE, *INCLUDED)]
    made_from = (sources, said, FLAGS, version("jaxlib"), _processor())
    folder = cache_root() / "compiled"
    path = folder / f"direct_conv-{hashlib.sha256(repr(made_from).encode()).hexdigest()[:16]}.so"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # this code is run: nobody else may write it
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            made = Path(temporary) / path.name
            include = ["-isystem", jax.ffi.include_dir()]
            subprocess.run(
                [compiler, *FLAGS, *include, SOURCE, "-o", made], capture_output=True, text=True, check=True
            )
            made.replace(path)
    return path


def _processor() -> str:
    """What decides which instructions exist: several machines may share a cache folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
