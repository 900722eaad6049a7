"""By what a file is known to be as it was when it was last read.

Size and time of change (mtime) do not tell: unpacking, restoring and `os.utime` set the time as they like.
The time at which the system last noted a change (ctime) nobody sets, and every write, replacement and
`os.utime` moves it. Two changes within a tick of the clock share it, though, so a file is known by its stamp
only once it has been left alone for longer than the coarsest tick, as git's index has it. Who has written a file
himself need not wait that long where ticks are seen to be fine.

What no system notes is not seen either: a failing disk, a file system without a time of its own such as FAT.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

_TICK_NS = 2_000_000_000
_FINE_NS = 10_000_000
"""The longest tick of systems whose times are written in nanoseconds."""


class Stamp(NamedTuple):
    """What the system notes of a file's content. changed_ns: mtime, noted_ns: ctime, both in ns."""

    size: int
    changed_ns: int
    noted_ns: int
    number: int


def stamp_of(path: Path) -> Stamp | None:
    """Return the stamp of a file that is about to be read; None where another content could have the same.

    That is within two seconds of its last change, and always on Windows, where ctime is the time of creation.

    Raises:
        OSError: there is no such file, or it cannot be asked.
    """
    now = time.time_ns()
    stamp = noted(path)
    return None if stamp is None or now - stamp.noted_ns <= _TICK_NS else stamp


def stamp_once_written(path: Path) -> Stamp | None:
    """Return the stamp of a file that this process has just written, once every later change will show in it.

    None where ticks may be coarse, since the time is a multiple of 10 ms; always on Windows.

    Raises:
        OSError: as `stamp_of`.
    """
    stamp = noted(path)
    if stamp is None or stamp.noted_ns % _FINE_NS == 0:
        return None
    time.sleep(2 * _FINE_NS / 1e9)
    return stamp


def noted(path: Path) -> Stamp | None:
    """Return the stamp of a file as it is; None on Windows.

    Raises:
        OSError: as `stamp_of`.
    """
    if os.name == "nt":
        return None
    seen = path.stat()
    return Stamp(seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino)


__all__ = ["Stamp", "noted", "stamp_of", "stamp_once_written"]
