"""Compiled programs are kept on disk, so that a second start of a command need not compile them again."""

import os
from pathlib import Path

import jax

from cnnjax.files import cache_root


def use_cache() -> Path:
    """Turn on XLA's persistent compilation cache, in the user's own cache folder; returns that folder.

    What lies there is trusted code, so nobody else may write to it.
    """
    folder = cache_root() / "xla"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    jax.config.update("jax_compilation_cache_dir", os.fspath(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    return folder
