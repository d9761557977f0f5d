"""Ctrl-C and SIGTERM as a flag that the loop looks at."""

import contextlib
import signal
import threading
from collections import deque
from collections.abc import Iterator

import jax

from cnnjax.distributed import largest

IN_FLIGHT = 2  # dispatches ahead of the host: keeps the device busy, and a signal is answered soon


class Stop:
    """Which signal asked the run to stop, if any; true once one did."""

    number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None

    def request(self, number: int) -> None:
        """A signal came."""
        self.number = number

    def look(self) -> None:
        """Called before every dispatch."""


class CommonStop(Stop):
    """The same for several processes: a signal to one stops all, after the same dispatch.

    Before every dispatch the devices bring together what each process was asked; the host reads it some
    dispatches later, when it has waited for that one anyway.
    """

    def __init__(self) -> None:
        self._own = 0
        self._asked: deque[jax.Array] = deque()

    def request(self, number: int) -> None:
        """A signal came to this process."""
        self._own = number

    def look(self) -> None:
        """Called before every dispatch, by all processes."""
        self._asked.append(largest(self._own))
        if len(self._asked) > IN_FLIGHT:
            self.number = int(self._asked.popleft()) or None


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """While inside, the first SIGINT or SIGTERM only asks to stop; a second one acts as usual."""
    stop = Stop() if jax.process_count() == 1 else CommonStop()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield stop
        return

    def request(number, frame):
        stop.request(number)
        signal.signal(number, before[number])

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
