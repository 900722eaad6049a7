"""Stages and queries in one file that many processes map: they are written once, and no cell copies them.

What is handed over goes through pickle with its arrays left out of band (PEP 574); these lie in the file as
they are, each on a boundary of 64 bytes, and come back read-only as views of the mapped file. Only what the
driver of a run wrote is read so; the code of strangers gets frames without pickle (`harness.sandbox.wire`).

The file has no name: it lives as long as the process that wrote it keeps it open, and is reached through that
process. Where there is no /proc it is a temporary file.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cloudpickle

from harness.cell.sealing import Episode

_BOUNDARY = 64
_LARGEST_IN_MEMORY = 1 << 30
"""Bytes beyond which a file lies on disk instead of in memory."""


class Mapped:
    """Episodes in a file. `path` is what other processes of this machine read it by, until `close`."""

    def __init__(self, episodes: Sequence[Episode]) -> None:
        """Write the episodes; what several of them share, such as a query, is written once."""
        parts = {id(part): part for episode in episodes for part in episode}
        pickled = {name: _pickled(part) for name, part in parts.items()}
        size = sum(len(head) + sum(buffer.nbytes for buffer in buffers) for head, buffers in pickled.values())
        descriptor, self.path = _opened(size)
        self._file = os.fdopen(descriptor, "r+b")
        self._is_named = not self.path.startswith("/proc/")
        places = {name: self._write(head, buffers) for name, (head, buffers) in pickled.items()}
        table = pickle.dumps([[places[id(part)] for part in episode] for episode in episodes])
        start = self._file.tell()
        self._file.write(table + start.to_bytes(8, "big"))
        self._file.flush()

    def close(self) -> None:
        """Let go of the file; who has it mapped keeps what it mapped."""
        with contextlib.suppress(ValueError):
            self._file.close()
        if self._is_named:
            Path(self.path).unlink(missing_ok=True)

    def _write(self, head: bytes, buffers: Sequence[memoryview]) -> list[tuple[int, int]]:
        places = []
        for content in (memoryview(head), *buffers):
            self._file.seek(-(-self._file.tell() // _BOUNDARY) * _BOUNDARY)
            places.append((self._file.tell(), content.nbytes))
            self._file.write(content)
        return places


def episodes(path: str) -> Iterator[Episode]:
    """Yield the episodes of a file that `Mapped` wrote, each read when it is asked for; arrays are read-only
    views.

    A query that is the same object as that of the stage before comes back as the same object.
    """
    with Path(path).open("rb") as file:
        whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    start = int.from_bytes(whole[-8:], "big")
    known: tuple[Any, Any] = (None, None)
    for stage, query in pickle.loads(whole[start:-8]):  # noqa: S301  (written by the driver of this run)
        if query != known[0]:
            known = query, _loaded(whole, query)
        yield Episode(_loaded(whole, stage), known[1])


def _pickled(part: Any) -> tuple[bytes, list[memoryview]]:
    buffers: list[pickle.PickleBuffer] = []
    head = cloudpickle.dumps(part, protocol=5, buffer_callback=buffers.append)
    return head, [buffer.raw() for buffer in buffers]


def _loaded(whole: memoryview, places: Sequence[tuple[int, int]]) -> Any:
    head, *buffers = (whole[start : start + size] for start, size in places)
    return pickle.loads(head, buffers=buffers)  # noqa: S301  (written by the driver of this run)


def _opened(size: int) -> tuple[int, str]:
    """Return a new file's descriptor and path: in memory, or on disk where it is too large for that."""
    if not Path("/proc/self/fd").is_dir() or not hasattr(os, "memfd_create"):
        return tempfile.mkstemp(prefix="owb-stages-")
    if size <= _LARGEST_IN_MEMORY:
        descriptor = os.memfd_create("owb-stages")
    else:
        descriptor, name = tempfile.mkstemp(prefix="owb-stages-")
        Path(name).unlink()
    return descriptor, f"/proc/{os.getpid()}/fd/{descriptor}"


__all__ = ["Mapped", "episodes"]
