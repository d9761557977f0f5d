"""Arrays by name in npz files that are whole or absent."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.errors import UserError
from cnnjax.files import replacing


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays, by name, as an npz file, whole or not at all."""
    with replacing(path, "wb") as file:
        np.savez(file, **{name: np.asarray(array) for name, array in arrays.items()})  # pyright: ignore


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file by name; raises UserError when it is damaged."""
    try:
        with open(path, "rb") as file, np.load(file) as arrays:
            return dict(arrays)
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile and numpy have many words for it
        raise UserError(f"{path} is damaged ({error or type(error).__name__})") from error
