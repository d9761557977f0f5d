"""TensorBoard's event files, in the run's folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnjax.sinks.sink import Sink


class TensorBoard(Sink):
    """Writes event files to `FOLDER/tensorboard`: scalars, histograms of what probes measured, figures.

    Where a run goes on, TensorBoard is told to forget the steps that come again.
    """

    def start(self, folder: Path, config: Mapping[str, Any], step: int) -> None:
        """Open a new event file."""
        from tensorboardX import SummaryWriter

        # A file is named by the second; one of the same second would be overwritten.
        self._writer = SummaryWriter(
            str(folder / "tensorboard"), purge_step=step + 1, filename_suffix=f".{step:09d}"
        )

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add scalars."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def histograms(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Add histograms."""
        for name, values in arrays.items():
            self._writer.add_histogram(name, values, step)

    def figure(self, step: int, name: str, path: Path) -> None:
        """Add an image."""
        with Image.open(path) as picture:
            self._writer.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")

    def flush(self) -> None:
        """Bring all events to disk."""
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
