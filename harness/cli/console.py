"""The only module that prints. A terminal gets colour and a live table, a pipe plain lines, a machine JSON;
the words are the same.

Where the output cannot show a character, as in Latin-1 or ASCII, one like it is shown. Output that nobody
takes any more ends no run.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import logging
import math
import os
import re
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.results.printable import printable

if TYPE_CHECKING:
    from rich.live import Live

    from harness.execution.execute import Update

_STYLES = {"done": "green", "cached": "cyan", "running": "yellow", "queued": "dim", "skipped": "dim"}

_ALIKE = {
    **{"±": "+-", "↑": "^", "↓": "v", "→": "->", "ß": "ss", "\N{MULTIPLICATION SIGN}": "x"},
    **dict.fromkeys("\N{MINUS SIGN}\N{EN DASH}\N{EM DASH}", "-"),
    **dict.fromkeys("\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}", "'"),
}
_GAP, _NARROWEST = 2, 8  # letters between columns, and of the narrowest one that gave way
_BREAKS = re.compile(r"[\[\],+ /:|-]")
_ERRORS = "openworld-alike"

Line = str | Text
"""What is printed of a line: plain words, or words with their styles."""


def _alike(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for characters that an encoding lacks: something like them in ASCII, letters without
    their marks, or `?`.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    plain = (
        _ALIKE.get(letter) or unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
        for letter in missing
    )
    return "".join(letter or "?" for letter in plain), error.end


codecs.register_error(_ERRORS, _alike)


def take_streams() -> None:
    """Make the standard streams of this process take every text: those that are closed lead nowhere, and no
    character fails the others.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        stream = getattr(sys, name)
        if (
            stream is None
        ):  # its number must not go to the next file that is opened, which what is printed would end up in
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_ERRORS)


def take_log() -> None:
    """Show the warnings of our packages as notes."""
    for package in ("harness", "scenarios", "strategies", "leaderboards"):
        logging.getLogger(package).addHandler(_NOTES)


class _Notes(logging.Handler):
    """Shows what is logged beside a live table, not across it."""

    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage())


_NOTES = _Notes(logging.WARNING)


class _Output(Console):
    """A standard stream. Where its reader is gone, the rest is for nobody, and what runs goes on."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.file.fileno())
            os.close(nowhere)


take_streams()
out = _Output(highlight=False, emoji=False, soft_wrap=not sys.stdout.isatty())
err = _Output(stderr=True, highlight=False, emoji=False, soft_wrap=True)


@contextmanager
def only_json() -> Iterator[None]:
    """While a verb prints JSON, send to standard error whatever else is printed, by plugins too."""
    out.file = out.file  # this stream, whatever stands for standard output meanwhile
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        out.file = None  # type: ignore[assignment]  # standard output again


def say(text: str = "") -> None:
    """Print a line for people."""
    out.print(printable(text), markup=False)


def note(text: str) -> None:
    """Print a line beside the result, on standard error; a full disk below it ends no run."""
    with contextlib.suppress(OSError):
        err.print(printable(text), markup=False, style="dim")


def complain(text: str) -> None:
    """Print a user's mistake."""
    err.print(Text("error: ", style="bold red") + Text(printable(text)))


def dump(value: Any) -> None:
    """Print JSON for machines; what is not a number becomes null."""
    ready = _json_ready(value)
    text = json.dumps(ready, indent=2, ensure_ascii=False)
    if _shown(text) != text:
        text = json.dumps(
            ready, indent=2
        )  # JSON spells what the output lacks or may not show, and nothing is lost
    try:
        out.file.write(f"{text}\n")
        out.file.flush()
    except BrokenPipeError:
        out.on_broken_pipe()


def grid(header: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> None:
    """Print a table: as wide as the terminal at most, long names wrapped after a comma or bracket; whole lines in
    a pipe.
    """
    if title:
        out.print(Text(printable(title), style="bold"))
    print_lines(grid_lines(header, rows))


def print_lines(texts: Iterable[Line]) -> None:
    """Print lines as they are, however long."""
    for text in texts:
        out.print(_styled(text), soft_wrap=True)


def grid_lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[Line]:
    """Return the lines of the table that `grid` prints."""
    lines = [[_shown(str(cell)) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    room = out.width - _GAP * (len(widths) - 1)
    own = fitted(widths, room) if out.is_terminal else widths
    for number, line in enumerate(lines):
        parts = [wrapped(cell, width) for cell, width in zip(line, own, strict=True)]
        for place in range(max(map(len, parts))):
            text = Text()
            for cell, part, width in zip(line, parts, own, strict=True):
                style = "bold" if not number else _STYLES.get(cell, "")
                text.append((part[place] if place < len(part) else "").ljust(width), style=style)
                text.append(" " * _GAP)
            text.rstrip()
            yield text


@contextmanager
def live() -> Iterator[Callable[[Iterable[Line]], None]]:
    """Show lines in place of those that were shown before; what the terminal has no room for is cut off below.

    Yields a function that is told the lines.
    """
    from rich.console import Group
    from rich.live import Live

    with Live(console=out, auto_refresh=False) as shown:

        def show(texts: Iterable[Line]) -> None:
            shown.update(Group(*map(_styled, texts)), refresh=True)

        yield show


def fitted(widths: Sequence[int], room: int) -> list[int]:
    """Return widths of columns that fill `room` at most: the widest give way first, none below 8 letters.

    >>> fitted([4, 60, 30], 64)
    [4, 30, 30]
    """
    own = list(widths)
    while sum(own) > room and max(own) > _NARROWEST:
        own[own.index(max(own))] -= 1
    return own


def wrapped(text: str, width: int) -> list[str]:
    """Return the lines of a cell, broken behind a comma, bracket, plus or blank where there is one.

    >>> wrapped("class-incremental[dataset=digits,stages=5]", 26)
    ['class-incremental[', 'dataset=digits,stages=5]']
    """
    lines = []
    while len(text) > width:
        ends = [match.end() for match in _BREAKS.finditer(text[:width])]
        end = ends[-1] if ends else width
        lines.append(text[:end].rstrip())
        text = text[end:]
    return [*lines, text]


class RunView:
    """What a run shows while it runs: a live table on a terminal, one line per finished cell in a pipe,
    nothing with `quiet`.
    """

    def __init__(self, total: int, *, quiet: bool = False, remaining_s: float = math.nan) -> None:
        """Take the number of cells, and how long they will take by what is recorded, NaN where nothing is."""
        self.total, self.quiet = total, quiet
        self.remaining_s, self.started = remaining_s, time.monotonic()
        self.ended = 0
        self.counts: dict[str, int] = {}
        self.running: dict[str, tuple[Update, float]] = {}
        self.others: Sequence[tuple[str, int]] = ()
        self.met: set[str] = set()
        self.live: Live | None = None

    def __enter__(self) -> Self:
        if err.is_terminal and not self.quiet:
            from rich.live import Live

            self.live = Live(self._table(), console=err, refresh_per_second=4, transient=True)
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()

    def __call__(self, update: Update) -> None:
        """Take in news of a cell."""
        key = update.cell.key
        if update.status == "running":
            started = self.running[key][1] if key in self.running else time.monotonic()
            self.running[key] = (update, started)
        else:
            self.running.pop(key, None)
            self.ended += 1
            self.counts[update.status] = self.counts.get(update.status, 0) + 1
            if not self.quiet and update.status != "cached":
                with contextlib.suppress(OSError):  # a full disk below the output ends no run
                    (self.live.console if self.live else err).print(
                        Text(printable(self._line(update)), style=_STYLES.get(update.status, "red"))
                    )
        if self.live:
            self.live.update(self._table())

    def meet(self, others: Sequence[tuple[str, int]]) -> None:
        """Take in who else works on cells of this run, and on how many."""
        self.others = others
        if self.live:
            self.live.update(self._table())
        elif not self.quiet:
            for name, count in others:
                if name not in self.met:
                    note(_at_work(name, count))
        self.met |= {name for name, _ in others}

    @property
    def summary(self) -> str:
        """How many cells ended in which way."""
        return ", ".join(f"{count} {status}" for status, count in sorted(self.counts.items())) or "no cells"

    def _line(self, update: Update) -> str:
        figure = "" if update.figure is None else f"  {update.figure:.3f}"
        seconds = "" if math.isnan(update.seconds) else f"  {update.seconds:.1f} s"
        reason = f"  {update.reason}" if update.reason else ""
        return f"[{self.ended}/{self.total}] {update.status:<8}  {update.cell}{figure}{seconds}{reason}"

    def _time_left(self) -> str:
        from harness.execution.cost import duration

        left = self.remaining_s - (time.monotonic() - self.started)
        return "" if math.isnan(left) else f"about {duration(left)} left" if left > 0 else "later than before"

    def _table(self) -> Table:
        from rich.progress_bar import ProgressBar

        table = Table.grid(padding=(0, 1))
        for update, started in self.running.values():
            share = update.step / update.total if update.total else 0.0
            bar = ProgressBar(total=1, completed=share, width=20)
            table.add_row(
                Text("running", style="yellow"),
                Text(printable(str(update.cell))),
                f"stage {update.stage}",
                bar,
                f"{time.monotonic() - started:.0f} s",
            )
        for name, count in self.others:
            table.add_row(Text("elsewhere", style="dim"), Text(printable(_at_work(name, count)), style="dim"))
        table.add_row(
            Text(f"{self.ended}/{self.total}", style="bold"),
            Text(self.summary),
            "",
            ProgressBar(total=max(1, self.total), completed=self.ended, width=20),
            self._time_left(),
        )
        return table


def _at_work(name: str, count: int) -> str:
    return f"another driver works on {count} of these cells: {name}"


@contextmanager
def transfers(names: Iterable[str]) -> Iterator[Callable[[str, int, int | None], None]]:
    """Show a bar with bytes, speed and time left for every file that comes, on a terminal; nothing in a pipe.

    Yields a function that is told (name, bytes that are there, bytes in all or None).
    """
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as bars:
        bar_of = {name: bars.add_task(name, total=None, start=False) for name in names}

        def report(name: str, done: int, total: int | None) -> None:
            bars.start_task(bar_of[name])
            bars.update(bar_of[name], completed=done, total=total)

        yield report


def _styled(text: Line) -> Text:
    return Text(_shown(text)) if isinstance(text, str) else text


def _shown(text: str) -> str:
    """Return `text` as the output shows it."""
    return printable(text.encode(out.encoding, _ERRORS).decode(out.encoding))


def _json_ready(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_ready(item) for item in value]
    return value
