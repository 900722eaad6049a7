"""Cells on nodes that do not see the folder of the store: their files travel.

What a cell continues from, and the states that it shares with others, go to the node with it. What it writes comes
back stage by stage and lies in the store's folder as if it had been written there. Meanwhile the cell works in a
folder of its worker's own, which is locked as long as that one lives, so that whoever finds it open may remove it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.processes.messages import Job, Task

_PREFIX = "owb-cells-"
_LOCK = "lock"
_LOOK_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """Files of a cell on their way: bytes, or references to them. files: of its folder, by name.  states: after
    stages that it shares with others, by stage.
    """

    key: str
    files: Mapping[str, Any]
    states: Mapping[int, Any]


def packed(
    job: Job, known: dict[Path, int], *, read: Callable[[Path], Any] = Path.read_bytes
) -> Carried | None:
    """Return the files that a cell has here and that are not `known`, and note them there; None where there are none.

    Args:
        job: the cell.
        known: when files were written, in nanoseconds.
        read: returns the content of a file.
    """

    def content(paths: Mapping[Any, Path]) -> dict[Any, Any]:
        stamps = {name: path.stat().st_mtime_ns for name, path in paths.items()}
        found = {name: read(path) for name, path in paths.items() if known.get(path) != stamps[name]}
        known.update({paths[name]: stamp for name, stamp in stamps.items()})
        return found

    files, states = content(_files(job)), content(_states(job))
    return Carried(key=job.key, files=files, states=states) if files or states else None


def unpack(task: Task, carried: Carried) -> None:
    """Write the files of a cell of `task` to where they belong here, each of them whole.

    Raises:
        OSError: they cannot be written.
    """
    job = next(job for job in task.jobs if job.key == carried.key)
    for name, content in sorted(carried.files.items()):
        _write(job.keep / Path(name).name, content)
    for stage, content in carried.states.items():
        path = job.shared[stage]
        if path is not None and not path.is_file():
            _write(path, content)


class OwnFolder:
    """The folder of a worker. run: of whose."""

    def __init__(self, run: str) -> None:
        """Make it, and remove what workers that are no more have left on this node."""
        sweep()
        made = Path(tempfile.mkdtemp(prefix="owb-new-"))
        self._lock = FileLock(made / _LOCK)
        self._lock.acquire()
        self.path = made.rename(made.with_name(f"{_PREFIX}{run}-{made.name.rpartition('-')[2]}"))

    @contextlib.contextmanager
    def moved(self, task: Task, brought: Sequence[Carried]) -> Iterator[Task]:
        """Give `task` as it is here, with what it brought; clear it away at the end."""
        here = _moved(task, self.path)
        try:
            for folder in {here.keep, *(job.keep for job in here.jobs)}:
                folder.mkdir()
            for carried in brought:
                unpack(here, _fetched(carried))
            yield here
        finally:
            for each in self.path.iterdir():
                if each.is_dir():
                    shutil.rmtree(each, ignore_errors=True)


def sweep(run: str = "", *, patience_s: float = 0.0) -> None:
    """Remove the folders of workers on this node that are no more, and wait until all workers of `run` are."""
    deadline = time.monotonic() + patience_s
    temporary = Path(tempfile.gettempdir())
    while True:
        for folder in temporary.glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError, Timeout):
                if _is_mine(folder):
                    with FileLock(folder / _LOCK, timeout=0):
                        shutil.rmtree(folder)
        if time.monotonic() >= deadline or not any(temporary.glob(f"{_PREFIX}{run}-*")):
            return
        time.sleep(_LOOK_S)


def _is_mine(folder: Path) -> bool:
    found = folder.lstat()
    return not folder.is_symlink() and found.st_uid == getattr(os, "getuid", lambda: found.st_uid)()


def _moved(task: Task, folder: Path) -> Task:
    """Return `task` with all its places in `folder`."""
    keep = folder / task.keep.name
    if not isinstance(task, Job):
        return replace(task, keep=keep, jobs=tuple(_moved_job(job, folder) for job in task.jobs))
    return _moved_job(task, folder)


def _moved_job(job: Job, folder: Path) -> Job:
    shared = tuple(path and folder / path.parent.name / path.name for path in job.shared)
    return replace(job, keep=folder / job.keep.name, shared=shared)


def _fetched(carried: Carried) -> Carried:
    """Return it with its content in place of the references to it."""
    import ray

    def fetched(content: Any) -> Any:
        return content if isinstance(content, bytes) else ray.get(content)

    return replace(
        carried,
        files={name: fetched(content) for name, content in carried.files.items()},
        states={stage: fetched(content) for stage, content in carried.states.items()},
    )


def _files(job: Job) -> dict[str, Path]:
    """Return what a cell has kept, its state first: by the time that this is read, the answers that belong to it
    are there.
    """
    return {path.name: path for path in sorted(job.keep.glob("*.pt"), reverse=True)}


def _states(job: Job) -> dict[int, Path]:
    return {stage: path for stage, path in enumerate(job.shared) if path is not None and path.is_file()}


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".part{os.getpid()}")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


__all__ = ["Carried", "OwnFolder", "packed", "sweep", "unpack"]
