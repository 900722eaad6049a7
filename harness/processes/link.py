"""Messages between a worker and the process of its task: pickled values over two pipes, each behind its
length.

Both ends run code of the user's own; what strangers send is never read so.
"""

from __future__ import annotations

import os
import pickle
import queue
import struct
import threading
from typing import Any

_LENGTH = struct.Struct(">Q")
_PIECE = 1 << 20


class Gone(Exception):
    """The other end is closed."""


class Link:
    """One end: reads from `inward` and writes to `outward`, both file descriptors, which it owns."""

    def __init__(self, inward: int, outward: int) -> None:
        self.inward, self.outward = inward, outward

    def send(self, value: Any) -> None:
        """Send a value; what nobody reads any more is dropped."""
        content = pickle.dumps(value, protocol=5)
        rest = memoryview(_LENGTH.pack(len(content)) + content)
        try:
            while rest:
                rest = rest[os.write(self.outward, rest[:_PIECE]) :]
        except BrokenPipeError:
            return

    def receive(self) -> Any:
        """Return the next value.

        Raises:
            Gone: there is none, and none will come.
        """
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size))
        return pickle.loads(self._read(length))  # noqa: S301  (see the module)

    def close_outward(self) -> None:
        """Close the pipe that is written to."""
        os.close(self.outward)

    def close_inward(self) -> None:
        """Close the pipe that is read from."""
        os.close(self.inward)

    def _read(self, size: int) -> bytes:
        content = bytearray()
        while len(content) < size:
            piece = os.read(self.inward, min(size - len(content), _PIECE))
            if not piece:
                raise Gone
            content += piece
        return bytes(content)


class Inbox:
    """What comes over a link, read by a thread of its own, so that whoever waits for it can look after other
    things meanwhile.
    """

    def __init__(self, link: Link) -> None:
        self._values: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._link = link
        self._thread = threading.Thread(target=self._fill, daemon=True)
        self._thread.start()

    def next(self, seconds: float) -> Any:
        """Return the next value, None where none comes in time.

        Raises:
            Gone: none will come.
        """
        try:
            value = self._values.get(timeout=seconds)
        except queue.Empty:
            return None
        if value is Gone:
            self._values.put(Gone)
            raise Gone
        return value

    def close(self) -> None:
        """Wait until the other end is closed, as it is once its process and all that this started are gone."""
        self._thread.join()

    def _fill(self) -> None:
        try:
            while True:
                self._values.put(self._link.receive())
        except Exception:  # closed, or what came does not load: either way nothing more can be read
            self._values.put(Gone)


__all__ = ["Gone", "Inbox", "Link"]
