"""The device that programs are compiled for, and the cache that saves a second start from compiling."""

import os
from pathlib import Path

import jax

from cnnjax.errors import UserError
from cnnjax.files import cache_root


def check_backend() -> None:
    """Raise UserError unless there is a device of the platform that JAX_PLATFORMS asks for."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # without a GPU jax has an assertion without words
        wanted, reason = os.environ.get("JAX_PLATFORMS"), str(error).partition("\n")[0]
        raise UserError(
            f"JAX_PLATFORMS={wanted}: {reason or 'no such device is here'}; unset it to take what is here"
        ) from error


def use_cache() -> Path:
    """Turn on XLA's persistent compilation cache in the user's own cache folder, and return that folder.

    Its contents are run as trusted code, so nobody else may write to it.

    Raises:
        UserError: as `check_backend`.
    """
    check_backend()
    folder = cache_root() / "xla"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    jax.config.update("jax_compilation_cache_dir", os.fspath(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    return folder
