"""How far a run's confidence is from its accuracy."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.runs import open_run

from ..runner import cached_npz


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The expected calibration error of one run on the test images, kept in `file`."""

    run: Path
    file: Path

    def arrays(self, data: Any) -> dict[str, np.ndarray]:
        """`calibration_error`, a number."""
        return cached_npz(self.file, lambda: self._measure(data))

    def _measure(self, data: Any) -> dict[str, np.ndarray]:
        scores = open_run(self.run, data=data).predictions().scores
        return {"calibration_error": np.array(scores["calibration_error"])}
