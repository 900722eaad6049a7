"""Files of packed items: written in place by several threads, which digest what they write, and read item by item.

A pack is a .npy file with a seal beside it: the SHA-256 over those of its parts, by which one that was changed later is
told, and the stamp that it had then, by which one that was not is known without reading it. Nothing of a pack stays in
a process that writes it. One of `HELD` bytes at most is mapped into memory; of a larger one the items asked for are
read and nothing else is kept, so a pass over it takes no memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from harness.contracts import AnyArray, IntArray
from harness.errors import UserError
from harness.stamps import Stamp, noted, stamp_of, stamp_once_written

S = TypeVar("S")

HELD = 128 << 20
"""Bytes of the largest pack that is mapped, and known by its stamp only once it was left alone for a while."""

_PART = 2 << 20
"""Bytes of whole items that a thread makes, digests and writes at once; a single item may have more."""


def write_pack(
    path: Path, sources: Sequence[S], shape: tuple[int, ...], dtype: str, read: Callable[[S], AnyArray]
) -> None:
    """Write the items of `sources`, each of `shape`, as `read` makes them in several threads.

    Raises:
        UserError: as `read`; or the file cannot be kept. Nothing is left of it then.
    """
    head, size = _head(len(sources), shape, np.dtype(dtype)), math.prod(shape) * np.dtype(dtype).itemsize
    step = _step(size)
    found: list[bytes] = []

    def fill(temporary: Path) -> None:
        def part(start: int) -> bytes:
            own = sources[start : start + step]
            items = np.empty((len(own), *shape), dtype=dtype)
            for place, source in enumerate(own):
                items[place] = read(source)
            with temporary.open("r+b") as file:
                file.seek(len(head) + start * size)
                file.write(items.data)
            return hashlib.sha256(items.data).digest()

        needed = len(head) + len(sources) * size
        if shutil.disk_usage(temporary.parent).free < needed:
            raise OSError(errno.ENOSPC, f"{needed >> 20} MiB are needed")
        with temporary.open("wb") as file:
            file.write(head)
            file.truncate(needed)
        with _freed_memory_kept(), ThreadPoolExecutor(os.cpu_count()) as pool:
            found.extend(pool.map(part, range(0, len(sources), step)))

    if (reason := _written(path, fill) or _sealed(path, _joined(head, found))) is not None:
        raise UserError(
            f"cannot keep the packed items in {path.parent} ({reason}); set OWB_CACHE to a folder with room for them"
        )


def is_whole(path: Path, shape: tuple[int, ...]) -> bool:
    """Whether a pack of this shape lies there as it was written."""
    try:
        content = _mapped(str(path))
        seal = json.loads(_seal(path).read_text())
        if content.shape != shape:
            return False
        if seal["stamp"] is not None and Stamp(*seal["stamp"]) == noted(path):
            return True
        stamp = stamp_of(path)
        if _digest(path, content) != seal["digest"]:
            return False
        if stamp is not None:
            _seal_kept(path, seal["digest"], stamp)
    except (OSError, ValueError, EOFError, KeyError, TypeError):
        return False
    return True


def rows_of(path: str, rows: IntArray) -> AnyArray:
    """Return the items at `rows` of a pack."""
    content = _mapped(path)
    if content.nbytes <= HELD:
        return content[rows]
    items = np.empty((*rows.shape, *content.shape[1:]), dtype=content.dtype)
    size = content.nbytes // len(content)
    room = items.reshape(-1).view(np.uint8).data
    with Path(path).open("rb", buffering=0) as file:
        for place, row in enumerate(rows.ravel().tolist()):
            file.seek(content.offset + row * size)
            if file.readinto(room[place * size : (place + 1) * size]) != size:
                raise UserError(f"{path} is damaged: remove it, it is made again")
    return items


def _head(items: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Return what a .npy file of these items begins with."""
    head = BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (items, *shape)}
    )
    return head.getvalue()


def _step(size: int) -> int:
    """Return how many items of so many bytes are a part."""
    return max(1, _PART // max(1, size))


def _digest(path: Path, content: np.memmap[Any, Any]) -> str:
    """Return the digest of a pack as it lies there, read by several threads."""
    size = content.nbytes // max(1, len(content))
    step = _step(size)

    def part(start: int) -> bytes:
        with path.open("rb", buffering=0) as file:
            file.seek(content.offset + start * size)
            return hashlib.sha256(file.read(min(step, len(content) - start) * size)).digest()

    with path.open("rb") as file, ThreadPoolExecutor(os.cpu_count()) as pool:
        return _joined(file.read(content.offset), pool.map(part, range(0, len(content), step)))


def _joined(head: bytes, parts: Iterable[bytes]) -> str:
    return hashlib.sha256(hashlib.sha256(head).digest() + b"".join(parts)).hexdigest()


@contextlib.contextmanager
def _freed_memory_kept() -> Iterator[None]:
    """Let glibc keep what is freed meanwhile: decoded pictures are of some hundred KiB, which it otherwise gives back
    and asks for anew, page by page, for every one of them; that costs a fifth of the time.
    """
    if sys.platform != "linux":
        yield
        return
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):
        yield
        return
    trim_threshold, mmap_threshold = -1, -3  # of malloc.h
    library.mallopt(mmap_threshold, 1 << 25)
    library.mallopt(trim_threshold, 1 << 27)
    try:
        yield
    finally:
        library.mallopt(mmap_threshold, 1 << 17)
        library.mallopt(trim_threshold, 1 << 17)
        library.malloc_trim(0)


def _written(path: Path, fill: Callable[[Path], Any]) -> str | None:
    """Let `fill` write a temporary file and give it its name when it is whole; return why it could not be
    kept, if so.
    """
    temporary = path.with_suffix(f".tmp{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fill(temporary)
        temporary.replace(path)
    except OSError as error:
        return error.strerror or str(error)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return None


def _sealed(path: Path, digest: str) -> str | None:
    """Seal a pack that was just written; take it away and return why where that could not be kept."""
    try:
        stamp = stamp_once_written(path) if path.stat().st_size > HELD else None
    except OSError as error:
        return error.strerror
    if (reason := _seal_kept(path, digest, stamp)) is not None:
        path.unlink(missing_ok=True)
    return reason


def _seal_kept(path: Path, digest: str, stamp: Stamp | None) -> str | None:
    """Keep the seal of a pack; return why it could not be kept, if so."""
    content = json.dumps({"digest": digest, "stamp": stamp})
    return _written(_seal(path), lambda temporary: temporary.write_text(content))


def _seal(path: Path) -> Path:
    """Return where the seal of a pack is kept."""
    return path.with_name(f"{path.name}.json")


def _mapped(path: str) -> np.memmap[Any, Any]:
    """Return a pack as it lies there now; a pack that was made again is another file."""
    return opened(path, Path(path).stat().st_ino)


@lru_cache(maxsize=16)
def opened(path: str, number: int) -> np.memmap[Any, Any]:
    """Return the array of a file, mapped; `number` is its inode, so that a file written anew is opened anew."""
    return np.lib.format.open_memmap(path, mode="r")


__all__ = ["HELD", "is_whole", "opened", "rows_of", "write_pack"]
