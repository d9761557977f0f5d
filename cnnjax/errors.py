"""What a command says when its input is wrong: one clear line, exit code 2, no traceback."""

import contextlib
import os
import sys
from collections.abc import Iterator


class UserError(Exception):
    """Bad input. The message says what was wrong and what to type or do instead, in one line."""

    exit_code = 2


class Interrupted(UserError):
    """The run was asked to stop (Ctrl-C or SIGTERM) and saved its state first.

    The exit code is 128 + the signal's number, as shells have it.
    """

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number


class Diverged(UserError):
    """The loss is no longer finite. The last checkpoint, taken before that, is intact."""

    exit_code = 3


@contextlib.contextmanager
def one_line_errors(command: str) -> Iterator[None]:
    """Turn `UserError` and the file system's errors into one line on stderr and an exit code.

    Anything else is a bug of ours and keeps its traceback.
    """
    try:
        yield
    except BrokenPipeError:  # `cnnjax models | head`: the reader has gone, nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except UserError as error:
        print(f"{command}: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except OSError as error:  # full disk, no permission, missing file: strerror and path say it all
        where = f": {error.filename}" if error.filename else ""
        print(f"{command}: {error.strerror or error}{where}", file=sys.stderr)
        raise SystemExit(2) from None
