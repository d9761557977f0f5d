"""Ctrl-C and SIGTERM as a flag that the loop checks."""

import contextlib
import signal
import threading
from collections import deque
from typing import Any

import jax

from cnnjax.distributed import largest

IN_FLIGHT = 2  # dispatches ahead of the host: keeps the device busy, and a signal is answered soon


class Stop:
    """Which signal asked the run to stop, if any; true once one did."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}  # handlers

    def __bool__(self) -> bool:
        return self.number is not None

    def listen(self) -> None:
        """From now on the first SIGINT or SIGTERM only asks to stop, and a second one acts as usual.

        Until then, while a network is traced and compiled and nothing is there to be saved, they end the
        program as they do any other.
        """
        if self._before or threading.current_thread() is not threading.main_thread():
            return  # only the main thread may set handlers
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)

    def _handle(self, number: int, frame: Any) -> None:
        self.request(number)
        signal.signal(number, self._before[number])

    def close(self) -> None:
        """Restore the previous handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def request(self, number: int) -> None:
        """A signal came."""
        self.number = number

    def poll(self) -> None:
        """Called before every dispatch."""


class CommonStop(Stop):
    """The same for several processes: a signal to one stops all, after the same dispatch.

    Before every dispatch the devices combine the signals of all processes; the host reads the result some
    dispatches later, when it has waited for that dispatch anyway.
    """

    def __init__(self) -> None:
        super().__init__()
        self._own = 0
        self._asked: deque[jax.Array] = deque()

    def request(self, number: int) -> None:
        """A signal came to this process."""
        self._own = number

    def poll(self) -> None:
        """Called before every dispatch, by all processes."""
        self._asked.append(largest(self._own))
        if len(self._asked) > IN_FLIGHT:
            self.number = int(self._asked.popleft()) or None


def stop_on_signals() -> contextlib.closing[Stop]:
    """Yield a Stop that receives the signals once its `listen` was called."""
    return contextlib.closing(Stop() if jax.process_count() == 1 else CommonStop())
