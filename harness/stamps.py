"""By what a file is known to be as it was when it was last read.

Size and time of change (mtime) do not tell: unpacking, restoring and `os.utime` set the time as they like.
The time at which the system last noted a change (ctime) nobody sets, and every write, replacement and
`os.utime` moves it. Two changes within a tick of the clock share it, though, so a file is known by its stamp
only once it has been left alone for longer than the coarsest tick, as git's index has it.

What no system notes is not seen either: a failing disk, a file system without a time of its own such as FAT.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

_TICK_NS = 2_000_000_000


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
    seen = path.stat()
    if os.name == "nt" or now - seen.st_ctime_ns <= _TICK_NS:
        return None
    return Stamp(seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino)


__all__ = ["Stamp", "stamp_of"]
