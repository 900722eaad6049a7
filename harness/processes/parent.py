"""The warm parent: loads the libraries once, then forks a process for every task. Started by `fork_server`, never
imported there.

What is forked sees libraries as they were after loading, before any strategy ran. The parent runs no task
itself, holds no thread and never touches CUDA, so that its children may do either. It can fork parents like
itself that have more loaded (`IMPORT`), for tasks that need a library which takes long to load and may change
others.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import select
import shutil
import signal
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

Run = Callable[[int, int], None]
"""Runs a task that is read from the first file descriptor and answers to the second."""

TASK, IMPORT = b"t", b"i"
"""What is asked for: a task, with two pipes; a parent that has modules imported, named behind the letter,
with a socket.
"""
LOADED, BEGUN, ENDED = b"l", b"b", b"e"
"""What is answered: all is loaded, with the number of threads; a task began, with its process id; it ended,
with its wait status.
"""
ANSWER = struct.Struct(">cq")
_LONGEST = 1 << 16
_PR_SET_CHILD_SUBREAPER = 36
_SWEEPS = 100
_MADV_COLLAPSE = 25
_LARGE_PAGE = 2 << 20
OFTEN = 32
"""Tasks after which large pages pay: they cost as much as they save in about forty, and memory that other
parents share.
"""


def main() -> None:
    """Load the libraries and what runs tasks (`module:function`), then fork for whoever asks, until nobody
    asks any more.
    """
    sys.dont_write_bytecode = True
    gc.disable()  # what libraries make while they load stays: looking through it takes a fifth of the time
    asking = socket.socket(fileno=int(sys.argv[1]))
    module, _, function = sys.argv[2].partition(":")
    _load_libraries()
    run: Run = getattr(importlib.import_module(module), function)
    first = os.getpid()
    line: socket.socket | None = asking
    while line is not None:
        line = _serve(line, run)
    if sys.argv[3:] == ["clear"] and os.getpid() == first:
        shutil.rmtree(Path.cwd(), ignore_errors=True)  # whoever asked was killed and could not


def threads() -> int:
    """Return how many threads this process has; 1 where that cannot be told."""
    try:
        return len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        return 1


def _load_libraries() -> None:
    """Import what is slow to load and what most tasks need; what runs tasks imports what it needs besides."""
    import faiss  # noqa: F401
    import torch
    import torch._dynamo  # the first optimiser would load it
    import torch.utils.data
    import torch.utils.serialization.config  # what a state is saved with

    from harness.plugins import PLURAL, registered

    for kind in PLURAL:
        registered(kind)
    torch.set_num_threads(1)


def _serve(asking: socket.socket, run: Run) -> socket.socket | None:
    """Answer one line of requests; return the line of a parent that was forked on the way (in it), None at
    the end (in the first).
    """
    _adopt_orphans()
    gc.collect()
    gc.freeze()  # else the first collection in every child would copy all that is loaded
    gc.enable()
    _say(asking, LOADED, threads())
    tasks = 0
    while True:
        try:
            message, files, _, _ = socket.recv_fds(asking, _LONGEST, 2)
        except ConnectionError:
            message = b""
        _reap()
        if not message:
            return None
        process = os.fork()
        if message[:1] == IMPORT:
            if process == 0:
                asking.close()
                _import(message[1:].decode().split())
                return socket.socket(fileno=files[0])
            os.close(files[0])
            continue
        inward, outward = files
        if process == 0:
            asking.close()
            try:
                run(inward, outward)
            finally:
                os._exit(0)
        os.close(inward)
        os.close(outward)
        _say(asking, BEGUN, process)
        status = _await(process, asking)
        _sweep()
        _say(asking, ENDED, status)
        tasks += 1
        if tasks == OFTEN:
            _use_large_pages()


def _use_large_pages() -> None:
    """Move what is loaded to pages of 2 MiB where the system can: a fork copies an entry per page, and its
    end drops as many.
    """
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/maps").read_text().splitlines():
            span, permissions, _, _, inode, *_ = line.split()
            if permissions != "rw-p" or inode != "0":
                continue
            low, high = (int(address, 16) for address in span.split("-"))
            low, high = -(-low // _LARGE_PAGE) * _LARGE_PAGE, high // _LARGE_PAGE * _LARGE_PAGE
            if low < high:
                madvise(low, high - low, _MADV_COLLAPSE)


def _say(asking: socket.socket, kind: bytes, value: int) -> None:
    """Answer whoever asked, if it is still there; where it is not, the next request says so."""
    with contextlib.suppress(OSError):
        asking.send(ANSWER.pack(kind, value))


def _import(modules: list[str]) -> None:
    """Import them; what does not import says so in the task, which imports it again."""
    for name in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def _await(process: int, asking: socket.socket) -> int:
    """Wait until a task ends and return its wait status; where nobody waits for it any more, which a closed
    line tells, end it.
    """
    ending = os.pidfd_open(process)
    ready, _, _ = select.select([ending, asking.fileno()], [], [])
    if ending not in ready:
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    os.close(ending)
    return status


def _adopt_orphans() -> None:
    """Become the parent of whatever a task leaves running, so that it can be found and ended."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _sweep() -> None:
    """Leave nothing running of what a task started. The first process of a namespace ends all others, another
    one its children.
    """
    for _ in range(_SWEEPS):
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        with contextlib.suppress(ProcessLookupError):
            if os.getpid() == 1:
                os.kill(-1, signal.SIGKILL)
            else:
                for process in _children():
                    os.kill(process, signal.SIGKILL)
        select.select([], [], [], 0.005)


def _children() -> list[int]:
    """Return the ids of this process's children; a parent that forked others has none of its own tasks."""
    import psutil

    return [process.pid for process in psutil.Process().children()]


def _reap() -> None:
    """Bury parents that were forked here and have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    main()
