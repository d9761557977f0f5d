"""The terminal: tables, and lines of progress below what is printed; plain text where there is none.

All that is drawn is drawn by rich, which respects NO_COLOR and TERM=dumb. Commands import this where they
print, so that `cnnjax --help` does not wait for rich.
"""

import contextlib
import io
import sys
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Protocol

import rich.table
from rich.box import Box
from rich.console import (
    Console,
    ConsoleDimensions,
    ConsoleOptions,
    ConsoleRenderable,
    Group,
    RenderResult,
    RichCast,
)
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

PLAIN = Box("    \n    \n -- \n    \n -- \n -- \n    \n    \n", ascii=True)
RULED = Box("    \n    \n ── \n    \n ── \n ── \n    \n    \n")
WIDE = 10**5
"""Columns of plain text: no line is broken."""
REFRESH = 0.2
"""Seconds between two pictures of a line of progress."""

Renderable = str | ConsoleRenderable | RichCast


class Table(rich.table.Table):
    """A table of rich with one rule below the header and one above the totals; `str` is its plain text."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it, with a line of "-" where there is no terminal."""
        self.box = RULED if options.is_terminal and not options.ascii_only else PLAIN
        yield from super().__rich_console__(console, options)

    def __str__(self) -> str:
        return plain(self)


class Page(Group):
    """Texts and tables below each other; `str` is the plain text."""

    def __str__(self) -> str:
        return plain(self)


class Printable:
    """Base class of what is drawn by its `__rich__`; `str` is the plain text."""

    def __rich__(self) -> Renderable:
        """What rich draws."""
        raise NotImplementedError

    def __str__(self) -> str:
        return plain(self)


def table(
    rows: Sequence[Sequence[str]], header: Sequence[str] = (), align: str = "lr", total: bool = False
) -> Table:
    """Aligned columns.

    Args:
        rows: the cells, text without markup.
        header: the columns' titles; none if empty.
        align: "l" for text or "r" for numbers, a letter a column; the last one is for all that follow, too.
        total: whether the last row is that of the totals.
    """
    made = Table(box=PLAIN, show_header=bool(header), show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for index in range(max(map(len, [header, *rows]))):
        side = "left" if align[min(index, len(align) - 1)] == "l" else "right"
        made.add_column(Text(header[index] if header else ""), justify=side, overflow="fold")
    for number, row in enumerate(rows, start=1):
        made.add_row(*map(Text, row), end_section=total and number == len(rows) - 1)
    return made


class Parts:
    """A table that is drawn in parts below each other where there is no room, its first column in each.

    Args:
        header: the columns' titles.
        rows: the cells, text without markup; all but the first are numbers.
    """

    def __init__(self, header: Sequence[str], rows: Sequence[Sequence[str]]):
        self._columns = list(zip(header, *rows, strict=True))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it."""
        parts = [[0]]
        for index in range(1, len(self._columns)):
            wide = console.measure(
                self._table([*parts[-1], index]), options=options.update(width=WIDE)
            ).maximum
            if wide > options.max_width and len(parts[-1]) > 1:
                parts.append([0])
            parts[-1].append(index)
        for number, columns in enumerate(parts):
            yield from ([""] if number else [])
            yield self._table(columns)

    def _table(self, columns: Sequence[int]) -> Table:
        header, *rows = zip(*(self._columns[index] for index in columns), strict=True)
        return table(rows, header)


def plain(thing: Renderable) -> str:
    """The text of something without a terminal: aligned, never wrapped, without colours."""
    out = io.StringIO()
    console = Console(file=out, width=WIDE, force_terminal=False, force_jupyter=False, **_AS_IT_IS)
    console.print(thing)
    return "\n".join(line.rstrip() for line in out.getvalue().removesuffix("\n").split("\n"))


def show(thing: Renderable) -> None:
    """Print to stdout: drawn and fitted to the width in a terminal, otherwise as plain text."""
    if sys.stdout.isatty():
        Console(**_AS_IT_IS).print(thing)
    else:
        print(plain(thing))


_AS_IT_IS: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}


class Lines(Protocol):
    """Where progress is drawn, a line for each piece of work, which has a key."""

    @property
    def live(self) -> bool:
        """Whether there is a terminal; without one nothing may be drawn."""
        ...

    def draw(self, key: Hashable, name: str, part: float, text: str) -> None:
        """Draw the line, or draw it anew: the bar shows the `part`, of 1, that is done."""
        ...

    def leave(self, key: Hashable) -> None:
        """Leave the line as it stands, above those that go on."""
        ...


class _Console(Console):
    def show_cursor(self, show: bool = True) -> bool:
        """Leave it visible: a process that is killed could not bring it back."""
        return False

    @property
    def size(self) -> ConsoleDimensions:
        """With room for the "^C" that a terminal adds, which would else break the line."""
        width, height = super().size
        return ConsoleDimensions(max(1, width - 3), height)


class TerminalLines:
    """Lines of progress in this process's terminal, on stderr; what is printed goes above them."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._tasks: dict[Hashable, TaskID] = {}

    @property
    def live(self) -> bool:
        """Whether stderr is a terminal in which lines can be drawn again."""
        return sys.stderr is not None and sys.stderr.isatty() and not Console(stderr=True).is_dumb_terminal

    def draw(self, key: Hashable, name: str, part: float, text: str) -> None:
        """See `Lines`."""
        if self._progress is None:
            self._progress = _new_progress()
            self._progress.start()
        if key not in self._tasks:
            self._tasks[key] = self._progress.add_task(name, total=1, text=text)
        self._progress.update(self._tasks[key], completed=part, text=text)
        self._progress.refresh()

    def leave(self, key: Hashable) -> None:
        """See `Lines`."""
        if self._progress is None or key not in self._tasks:
            return
        number = self._tasks.pop(key)
        ended = [task for task in self._progress.tasks if task.id == number]
        self._progress.console.print(self._progress.make_tasks_table(ended))
        self._progress.remove_task(number)
        if not self._tasks:
            self._progress.stop()
            self._progress = None


def _new_progress() -> Progress:
    """One that is drawn when told to, without a thread; a narrow terminal wraps the text, the last column."""
    bar = Column(ratio=1, width=8)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(None, table_column=bar),
        TextColumn("{task.fields[text]}", markup=False, table_column=Column(overflow="fold")),
        console=_Console(stderr=True, **_AS_IT_IS),
        auto_refresh=False,
        transient=True,
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),  # a file's lines are not ours
        expand=True,
    )


LINES = TerminalLines()


@contextlib.contextmanager
def progress(name: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show how much is done, in a terminal alone; yields a function to tell how much that is."""
    drawn = time.monotonic()

    def show_done(done: int) -> None:
        nonlocal drawn
        if LINES.live and time.monotonic() - drawn > REFRESH:
            drawn = time.monotonic()
            LINES.draw(name, name, done / max(1, total), f"{done:,} of {total:,} {unit}")

    try:
        yield show_done
    finally:
        LINES.leave(name)
