"""A program in a pseudo-terminal: what it writes there, and keys for it."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios


class PseudoTerminal:
    """Runs `command`; the terminal has so many columns."""

    def __init__(self, command, columns=100, cwd=None, **environment):
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        unset = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
        inherited = {name: value for name, value in os.environ.items() if name not in unset}
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command],  # Ctrl-C is a signal there; a preexec_fn would fork under jax
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=cwd,
            env={**inherited, "TERM": "xterm-256color", **environment},
        )
        os.close(theirs)
        self.text = ""

    def press(self, keys):
        os.write(self._ours, keys.encode())

    def wait_for(self, *words, seconds=120):
        """Read on until all words are there."""
        while not all(word in self.text for word in words):
            assert self._read(seconds), f"{words} did not come: {self.text!r}"
        return self.text

    def end(self, seconds=60):
        """The exit code, once the program has ended; all it wrote is in `text`."""
        while self._read(seconds):
            pass
        os.close(self._ours)
        return self.process.wait(seconds)

    def _read(self, seconds):
        """Read what comes next; whether anything came within so many seconds."""
        if not select.select([self._ours], [], [], seconds)[0]:
            self.process.kill()
            return False
        try:
            new = os.read(self._ours, 65536).decode(errors="replace")
        except OSError:  # the program has ended
            return False
        self.text += new
        return bool(new)
