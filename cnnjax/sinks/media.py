"""What Weights & Biases and trackio, which has the same words, have in common."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.sinks.rows import RowSink


class MediaSink(RowSink):
    """Puts histograms and figures into the rows, as the library's own objects.

    Args:
        library: the module, with `Histogram` and `Image`.
        options: arguments of its `init`.
    """

    def __init__(self, library: Any, options: Mapping[str, Any]):
        self._library, self._options = library, options

    def histograms(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Add histograms to the row."""
        self.write(step, {name: self._library.Histogram(values) for name, values in arrays.items()})

    def figure(self, step: int, name: str, path: Path) -> None:
        """Add an image to the row."""
        self.write(step, {name: self._library.Image(str(path))})
