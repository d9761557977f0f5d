"""What workers show in a terminal is drawn by their parent, so that one process alone moves the cursor."""

import io
import sys
import threading
from collections.abc import Hashable
from multiprocessing.connection import Connection
from typing import Any

from cnnjax.training.progress import HERE


class Sender:
    """A worker's way to its parent's terminal; see `cnnjax.terminal.Lines`."""

    live = True

    def __init__(self, connection: Connection):
        self._connection, self._lock = connection, threading.Lock()

    def draw(self, key: Hashable, name: str, part: float, text: str) -> None:
        """Have the line drawn."""
        self.send("draw", key, name, part, text)

    def leave(self, key: Hashable) -> None:
        """Have the line left as it stands."""
        self.send("leave", key)

    def send(self, *message: Any) -> None:
        """Send what to do and its arguments, whole whatever the thread."""
        with self._lock:
            self._connection.send(message)


class _Text(io.RawIOBase):
    """A stream whose text goes to the parent."""

    def __init__(self, sender: Sender, number: int):
        self._sender, self._number = sender, number

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def write(self, data: Any) -> int:
        self._sender.send("write", bytes(data).decode(errors="replace"))
        return len(data)


def show_at(connection: Connection) -> None:
    """Show all of this process at the other end: its progress, and what it prints to the terminal."""
    HERE.lines = sender = Sender(connection)
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name).isatty():
            text = io.BufferedWriter(_Text(sender, number))
            setattr(sys, name, io.TextIOWrapper(text, "utf-8", line_buffering=True))


class Receiver:
    """The parent's end: draws what a worker sends."""

    def __init__(self, connection: Connection):
        self.connection = connection
        self._keys: set[Hashable] = set()

    def receive(self) -> bool:
        """Draw what has come; whether more can come."""
        try:
            while self.connection.poll():
                self._obey(*self.connection.recv())
        except (EOFError, OSError):
            return False
        return True

    def _obey(self, action: str, *arguments: Any) -> None:
        if action == "write":
            sys.stderr.write(*arguments)
            sys.stderr.flush()
        elif action == "draw":
            self._keys.add(arguments[0])
            HERE.lines.draw(*arguments)
        else:
            self._keys.discard(arguments[0])
            HERE.lines.leave(*arguments)

    def close(self) -> None:
        """Leave the lines of a worker that has ended, however it did."""
        self.receive()
        for key in self._keys:
            HERE.lines.leave(key)
        self._keys.clear()
        self.connection.close()
