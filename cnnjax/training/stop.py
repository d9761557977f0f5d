"""Ctrl-C and SIGTERM as a flag that the loop checks."""

import contextlib
import signal
import threading
import time
from collections import deque
from typing import Any

import jax

from cnnjax.distributed import largest

TWICE = 2.0  # seconds in which a signal that comes again is the same: a cluster and our launcher both send it
IN_FLIGHT = 2  # dispatches ahead of the host: keeps the device busy, and a signal is answered soon


class Stop:
    """Which signal asked the run to stop, if any; true once one did."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}  # handlers
        self._since = float("inf")  # when the first signal came

    def __bool__(self) -> bool:
        return self.number is not None

    def listen(self) -> None:
        """From now on the first SIGINT or SIGTERM only asks to stop; one some seconds later acts as usual.

        Until then, while a network is traced and compiled and nothing is there to be saved, they end the
        program as they do any other.
        """
        if self._before or threading.current_thread() is not threading.main_thread():
            return  # only the main thread may set handlers
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)

    def _handle(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        if now > self._since + TWICE:
            signal.signal(number, self._before[number])
            signal.raise_signal(number)
        elif now < self._since:
            self._since = now
            self.request(number)

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
