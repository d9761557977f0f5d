"""The sinks of one run; none of them can end it."""

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.sinks.sink import Sink


class Sinks:
    """The sinks of the run in `folder`, which goes on from `step`; one that raises is left out, and told."""

    def __init__(
        self,
        sinks: Sequence[Sink],
        folder: Path,
        config: Mapping[str, Any],
        step: int,
        say: Callable[[str], None],
    ):
        self._sinks = [copy.copy(sink) for sink in sinks]
        self._folder, self._config, self._step, self._say = folder, config, step, say

    def start(self) -> None:
        """Start them."""
        self._each(lambda sink: sink.start(self._folder, self._config, self._step))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hand a line on."""
        self._each(lambda sink: sink.write(step, metrics))

    def histograms(self, step: int, arrays: Mapping[str, Any]) -> None:
        """Hand on the finite values of those arrays that hold numbers."""
        if not self._sinks:
            return
        numbers = {name: np.asarray(array) for name, array in arrays.items()}
        numbers = {
            name: array[np.isfinite(array)]
            for name, array in numbers.items()
            if np.issubdtype(array.dtype, np.number)
        }
        if found := {name: array for name, array in numbers.items() if array.size}:
            self._each(lambda sink: sink.histograms(step, found))

    def figure(self, step: int, name: str, path: Path) -> None:
        """Hand a figure on."""
        self._each(lambda sink: sink.figure(step, name, path))

    def flush(self) -> None:
        """Flush them."""
        self._each(lambda sink: sink.flush())

    def close(self) -> None:
        """Close them."""
        self._each(lambda sink: sink.close())

    def _each(self, act: Callable[[Sink], None]) -> None:
        for sink in tuple(self._sinks):
            try:
                act(sink)
            except Exception as error:  # a library or the network may fail in any way
                self._sinks = [other for other in self._sinks if other is not sink]
                reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
                self._say(f"{self._folder}: {sink.name} failed ({reason}): the run goes on without it")
