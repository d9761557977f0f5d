"""What takes a run's numbers besides its own record, metrics.jsonl."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.errors import UserError


class Sink:
    """Takes what a run writes down. Override what you need.

    It is called on the host, in process 0 only, with numbers that are there already. If a method raises, one
    line says so, and the run goes on without the sink. Runs that are trained together each have a copy
    (`copy.copy`), made before `start`. Sinks are no part of what a run is: it may go on with others.
    """

    @property
    def name(self) -> str:
        """What messages call it."""
        return type(self).__name__

    def start(self, folder: Path, config: Mapping[str, Any], step: int) -> None:
        """The run in `folder` is about to write its first line, or the first one after `step`.

        Lines after `step` may have been written before a kill; they come again, with the same values.
        `config` is that of config.json.
        """

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """A line of metrics.jsonl: `step` steps were taken. A step may have two: training, and a test."""

    def histograms(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """What probes measured in the step that made them `step`, as finite values [value] by name.

        `layers/rms` is the root mean square of each layer, so its histogram is over depth. Called before
        `write` of that step, when a probe was due.
        """

    def figure(self, step: int, name: str, path: Path) -> None:
        """A PNG file with a figure."""

    def flush(self) -> None:
        """Bring all to where it belongs: a checkpoint is about to be written."""

    def close(self) -> None:
        """The run ends or stops here."""


def missing(library: str) -> UserError:
    """The error to raise where a sink's library, which is an extra of the same name, can't be imported."""
    return UserError(f'{library} is not installed: pip install "cnnjax[{library}]"')
