"""Read arrays from Keras's files: `.weights.h5`, `.keras` and the older `.h5`, without Keras.

Keras names a file's arrays in several ways, so each gets its layer's name and its number in the layer here,
such as `conv1_bn/2`: 0 is a kernel or gamma, 1 a bias or beta, 2 and 3 are moving mean and variance.
"""

from typing import Any, BinaryIO

import numpy as np

from cnnjax.errors import UserError

MAGIC = b"\x89HDF"
IN_ARCHIVE = "model.weights.h5"
"""The name of the file in a `.keras` archive."""


def read_keras(file: BinaryIO) -> dict[str, np.ndarray]:
    """Read all layers' arrays, by layer and number.

    Raises:
        UserError: h5py is not installed, or the file does not name its layers.
    """
    try:
        import h5py
    except ImportError:
        raise UserError('it is a file of Keras: pip install "cnnjax[keras]" to read it') from None
    with h5py.File(file, "r") as content:
        root: Any = content.get("model_weights", content)  # a whole model, or its weights alone
        older = {name: layer for name, layer in root.items() if "weight_names" in layer.attrs}
        arrays = (
            [(name, [layer[key] for key in layer.attrs["weight_names"]]) for name, layer in older.items()]
            if older
            else _layers(content)
        )
        found = {f"{name}/{i}": np.asarray(one) for name, each in arrays for i, one in enumerate(each)}
    if not found:
        raise UserError("its layers have no names: save it again with a newer Keras, or as .h5")
    return found


def _layers(content: Any) -> list[tuple[str, list[Any]]]:
    """Name and arrays of each layer that says its name, as Keras 3 does in its current format."""
    found = []

    def visit(path: str, group: Any) -> None:
        parts = path.split("/")
        if parts[-1] == "vars" and parts[0] != "optimizer" and "name" in group.attrs:
            found.append((group.attrs["name"], [group[str(number)] for number in range(len(group))]))

    content.visititems(visit)
    return found
