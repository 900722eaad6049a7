"""Files of packed items: written item by item, digested while they are written, mapped into memory to be read.

A pack is a .npy file with its SHA-256 beside it, by which one that was changed later is told. Nothing of it stays
in a process that writes it, and of what is read of it `HELD` bytes at most: a pass over a pack that is larger than
memory takes none.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import math
import mmap
import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from harness.contracts import AnyArray, IntArray
from harness.errors import UserError
from scenarios.datasets.file_digests import digests_of

S = TypeVar("S")

HELD = 128 << 20
"""Bytes of mapped packs that a process keeps in its memory."""

_AT_ONCE = 2 << 20
"""Bytes of the items that one thread makes before it hands them over."""
_READ: dict[int, int] = {}
"""Bytes that were read of every mapped pack since its pages were let go, by its address."""


def write_pack(
    path: Path, sources: Sequence[S], shape: tuple[int, ...], dtype: str, read: Callable[[S], AnyArray]
) -> None:
    """Write the items of `sources`, each of `shape`, as `read` makes them in several threads.

    Raises:
        UserError: as `read`; or the file cannot be kept. Nothing is left of it then.
    """

    def fill(temporary: Path) -> None:
        needed = len(sources) * math.prod(shape) * np.dtype(dtype).itemsize
        if shutil.disk_usage(temporary.parent).free < needed:
            raise OSError(errno.ENOSPC, f"{needed >> 20} MiB are needed")
        whole = hashlib.sha256()
        with temporary.open("wb") as file:
            for content in _contents(sources, shape, np.dtype(dtype), read):
                whole.update(content)
                file.write(content)
        digest = whole.hexdigest()
        if (reason := _written(_seal(path), lambda seal: seal.write_text(digest))) is not None:
            raise OSError(reason)

    if (reason := _written(path, fill)) is not None:
        raise UserError(
            f"cannot keep the packed items in {path.parent} ({reason}); set OWB_CACHE to a folder with room for them"
        )


def is_whole(path: Path, shape: tuple[int, ...]) -> bool:
    """Whether a pack of this shape lies there as it was written."""
    try:
        return bool(_mapped(str(path)).shape == shape) and digests_of([path]) == [_seal(path).read_text()]
    except (OSError, ValueError, EOFError, UserError):
        return False


def rows_of(path: str, rows: IntArray) -> AnyArray:
    """Return the items at `rows` of a pack."""
    content = _mapped(path)
    items: AnyArray = content[rows]
    mapped = content.base
    if isinstance(mapped, mmap.mmap) and hasattr(mapped, "madvise"):
        address = content.ctypes.data
        _READ[address] = _READ.get(address, 0) + items.nbytes
        if _READ[address] >= HELD:
            mapped.madvise(mmap.MADV_DONTNEED)  # they stay in the system's cache of files
            _READ[address] = 0
    return items


def _contents(
    sources: Sequence[S], shape: tuple[int, ...], dtype: np.dtype[Any], read: Callable[[S], AnyArray]
) -> Iterator[memoryview]:
    """Yield the bytes of a .npy file of all items, of which some are made ahead."""
    head = BytesIO()
    np.lib.format.write_array_header_1_0(
        head,
        {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": (len(sources), *shape),
        },
    )
    yield head.getbuffer()

    def made(start: int) -> AnyArray:
        own = sources[start : start + step]
        items = np.empty((len(own), *shape), dtype=dtype)
        for place, source in enumerate(own):
            items[place] = read(source)
        return items

    step = max(1, _AT_ONCE // max(1, math.prod(shape) * dtype.itemsize))
    threads = os.cpu_count() or 1
    waiting: deque[Future[AnyArray]] = deque()
    with _freed_memory_kept(), ThreadPoolExecutor(threads) as pool:
        try:
            for start in range(0, len(sources), step):
                waiting.append(pool.submit(made, start))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result().data
            for items in waiting:
                yield items.result().data
        finally:
            for items in waiting:
                items.cancel()


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


def _seal(path: Path) -> Path:
    """Return where the SHA-256 of a pack is kept."""
    return path.with_name(f"{path.name}.sha256")


def _mapped(path: str) -> AnyArray:
    """Return a pack as it lies there now; a pack that was made again is another file."""
    return opened(path, Path(path).stat().st_ino)


@lru_cache(maxsize=16)
def opened(path: str, number: int) -> AnyArray:
    """Return the array of a file, mapped; `number` is its inode, so that a file written anew is opened anew."""
    content: AnyArray = np.load(path, mmap_mode="r", allow_pickle=False)
    return content


__all__ = ["HELD", "is_whole", "opened", "rows_of", "write_pack"]
