"""What another library's networks gave, as tests/reference stores it."""

import json

import numpy as np
import pytest


def stored(file):
    """A fixture: the arrays in `file` by name."""

    @pytest.fixture(scope="module")
    def reference():
        with np.load(file) as arrays:
            return dict(arrays)

    return reference


def shapes_of(name, reference):
    """The shape of each of a network's weights, by its name there."""
    return {key: tuple(shape) for key, shape in json.loads(str(reference[f"shapes/{name}"])).items()}
