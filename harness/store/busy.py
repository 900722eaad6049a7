"""A data base that another program holds is waited for: one that copies or browses it, or a second run.

sqlite itself gives up after seconds. Here whatever found the data base busy is tried again until a limit, and
the log says so once. A transaction that sqlite refuses has written nothing, so nothing is written twice.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from harness.errors import UserError

PATIENCE_S = 300.0
SAID_AFTER_S = 3.0
_TRY_S = 1.0

_log = logging.getLogger(__name__)

T = TypeVar("T")


def patiently(action: Callable[[], T], database: object, patience_s: float = PATIENCE_S) -> T:
    """Return what `action` returns, which is called again while it raises that its data base is busy.
    `database` says which one.

    Raises:
        UserError: it was busy for longer than `patience_s` seconds; and what `action` raises besides.
    """
    started, is_said = time.monotonic(), False
    while True:
        try:
            return action()
        except Exception as error:
            if not is_busy(error):
                raise
            waited_s = time.monotonic() - started
            if waited_s > patience_s:
                held = f"the data base {database} was busy for {_words(patience_s)}: another program holds it"
                raise UserError(f"{held}; close that one and give the command again") from error
        if waited_s > SAID_AFTER_S and not is_said:
            _log.warning(
                "the data base %s is busy, another program holds it: waiting up to %s",
                database,
                _words(patience_s),
            )
            is_said = True
        time.sleep(_TRY_S / 10)


def opened(database: Path) -> sqlite3.Connection:
    """Return a connection to an sqlite file that is there, without a transaction; any character may be in its
    path.

    Where the file may be written, what a killed writer left half done is undone at the first look; where it
    may not, it can be read.
    """
    return sqlite3.connect(
        f"{database.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=_TRY_S
    )


def look(database: Path, *, to_write: bool) -> None:
    """Raise sqlite's own error where the data base cannot be read, or written, at this moment."""
    with closing(opened(database)) as base:
        base.execute("BEGIN IMMEDIATE" if to_write else "SELECT 1 FROM sqlite_master").fetchone()


def is_busy(error: BaseException | None) -> bool:
    """Say whether sqlite's refusal of a data base that is held is what is behind an error."""
    while error is not None:
        if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF in (
            sqlite3.SQLITE_BUSY,
            sqlite3.SQLITE_LOCKED,
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


def _words(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:g} s"


__all__ = ["PATIENCE_S", "is_busy", "look", "opened", "patiently"]
