"""Errors of commands: wrong input gives one clear line and exit code 2, without a traceback."""

import contextlib
import os
import sys
from collections.abc import Iterator


class UserError(Exception):
    """Bad input. The message says what was wrong and what to type or do instead, in one line."""

    exit_code = 2


class Interrupted(UserError):
    """The run was asked to stop (Ctrl-C or SIGTERM) and saved its state first.

    The exit code is 128 + the signal's number, as in shells.
    """

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number


class Diverged(UserError):
    """The loss or the weights are no longer finite. The last checkpoint, taken before that, is intact."""

    exit_code = 3


def short(value: object) -> str:
    """`repr` of a value, shortened to one line that fits into a message."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:60]}... ({type(value).__name__})"


@contextlib.contextmanager
def memory_errors(advice: str = "take fewer or smaller images or a smaller network") -> Iterator[None]:
    """Raise UserError, with `advice` on what would fit, when the host or a device runs out of memory."""
    try:
        yield
    except MemoryError as error:  # numpy says how much it wanted
        raise UserError(f"out of memory{_reason(error)}: {advice}") from error
    except RuntimeError as error:  # jax.errors.JaxRuntimeError, without importing jax
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(f"out of memory{_reason(error)}: {advice}") from error


def _reason(error: Exception) -> str:
    line = str(error).strip().partition("\n")[0].removeprefix("RESOURCE_EXHAUSTED: ").rstrip(".")
    return f" ({line[:120]})" if line else ""


@contextlib.contextmanager
def one_line_errors(command: str) -> Iterator[None]:
    """Turn `UserError` and the errors of files and memory into one line on stderr and an exit code.

    Anything else is a bug of ours and keeps its traceback.
    """
    _open_closed_streams()
    try:
        with memory_errors():
            yield
    except BrokenPipeError:  # `cnnjax models | head`: the reader has gone, nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except KeyboardInterrupt:
        print(f"{command}: stopped", file=sys.stderr)
        raise SystemExit(130) from None
    except UserError as error:
        print(f"{command}: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except OSError as error:  # full disk, no permission, missing file: strerror and path say it all
        where = f": {error.filename}" if error.filename else ""
        print(f"{command}: {error.strerror or error}{where}", file=sys.stderr)
        raise SystemExit(2) from None


def _open_closed_streams() -> None:
    """Discard what is written to stdout or stderr if these are closed, as a daemon may have done.

    Otherwise the next opened file would take their number and receive what C libraries write to stderr.
    """
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_WRONLY)
            try:
                os.fstat(number)  # taken already, by a file that is not ours to close
            except OSError:
                os.dup2(null, number)
            setattr(sys, name, open(null, "w"))  # noqa: SIM115 - as long as the process
