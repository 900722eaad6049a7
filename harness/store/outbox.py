"""Records on their way to a tracking server, as files: what a server has not taken yet is neither lost nor held in
memory.

A record is a folder with `entry.json` and its files; it is put together beside its place and renamed, so that it
is there whole or not at all. Every writer has a folder of records of its own, and a lock on it as long as it
lives: what lies in a folder without one was left by a process that ended.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from harness.store.entries import Addition, Figure, Start, now_ms

FOLDER = "unsent"
_ENTRY, _FILES, _MAKING = "entry.json", "files", "being-made-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One record on its way. run_id: empty where its run is not made yet. start: what the run begins with, where
    the server has not all of it.
    """

    folder: Path
    run_id: str
    start: Start | None
    addition: Addition


class Outbox:
    """The records of one writer that a server has not taken yet."""

    def __init__(self, store: Path, uri: str) -> None:
        """Take the folder of a driver's store, and the server that the records are for."""
        self.shared = store / FOLDER / sha256(uri.encode()).hexdigest()[:12]
        self._own: tuple[Path, FileLock] | None = None

    def keep(self, run_id: str, start: Start | None, addition: Addition) -> Entry:
        """Keep a record with a copy of its files."""
        if self._own is None:
            self._own = self._opened()
        folder, _ = self._own
        name = f"{now_ms():013d}-{uuid4().hex[:8]}"
        making = folder / f"{_MAKING}{name}"
        making.mkdir()
        if addition.files is not None:
            shutil.copytree(addition.files, making / _FILES)
        _write(making, run_id, start, addition)
        making.rename(folder / name)
        return read(folder / name)

    def _opened(self) -> tuple[Path, FileLock]:
        """Return a new folder and the lock on it, which is there before it."""
        self.shared.mkdir(parents=True, exist_ok=True)
        folder = self.shared / uuid4().hex[:12]
        lock = _lock_on(folder)
        lock.acquire()
        folder.mkdir()
        return folder, lock

    def mine(self) -> list[Entry]:
        """Return the records of this writer, oldest first."""
        return _entries(self._own[0]) if self._own else []

    def unlock(self) -> None:
        """Leave what was not sent to whoever opens the store next."""
        if self._own:
            _unlock(*self._own)
        self._own = None

    @contextmanager
    def left(self) -> Iterator[list[Entry]]:
        """Give the records that other writers have left, oldest first, and keep others from them meanwhile."""
        with ExitStack() as until_sent:
            found = []
            for folder in _folders(self.shared):
                lock = _lock_on(folder)
                with suppress(Timeout):
                    lock.acquire(timeout=0)
                    until_sent.callback(_unlock, folder, lock)
                    found += _entries(folder)
            yield sorted(found, key=lambda entry: entry.folder.name)

    def __len__(self) -> int:
        """Return how many records for this server wait, of all writers."""
        return sum(len(_places(folder)) for folder in _folders(self.shared))


def made(entry: Entry, run_id: str) -> Entry:
    """Write down which run is an entry's, so that no second one is made for it."""
    _write(entry.folder, run_id, entry.start, entry.addition)
    return read(entry.folder)


def done(entry: Entry) -> None:
    """Remove an entry that was sent, at once or not at all."""
    gone = entry.folder.with_name(f"{_MAKING}{entry.folder.name}")
    entry.folder.rename(gone)
    shutil.rmtree(gone)


def read(folder: Path) -> Entry:
    """Return the entry that lies in a folder."""
    content = json.loads((folder / _ENTRY).read_text(encoding="utf-8"))
    addition = content["addition"]
    figures = [Figure(*row) for row in addition.pop("figures")]
    files = folder / _FILES
    return Entry(
        folder=folder,
        run_id=content["run_id"],
        start=Start(**content["start"]) if content["start"] else None,
        addition=Addition(**addition, figures=figures, files=files if files.is_dir() else None),
    )


def _write(folder: Path, run_id: str, start: Start | None, addition: Addition) -> None:
    said: Mapping[str, Any] = {name: value for name, value in asdict(addition).items() if name != "files"}
    content = {"run_id": run_id, "start": asdict(start) if start else None, "addition": said}
    new = folder / f"{_MAKING}{_ENTRY}"
    new.write_text(json.dumps(content), encoding="utf-8")
    new.replace(folder / _ENTRY)


def _folders(shared: Path) -> list[Path]:
    return [path for path in shared.iterdir() if path.is_dir()] if shared.is_dir() else []


def _places(folder: Path) -> list[Path]:
    return sorted(path for path in _folders(folder) if not path.name.startswith(_MAKING))


def _entries(folder: Path) -> list[Entry]:
    """Return the entries of a writer, oldest first, but for those that are sent and removed meanwhile."""
    found = []
    for place in _places(folder):
        with suppress(FileNotFoundError):
            found.append(read(place))
    return found


def _lock_on(folder: Path) -> FileLock:
    return FileLock(folder.with_suffix(".lock"), thread_local=False)  # another thread gives it up


def _unlock(folder: Path, lock: FileLock) -> None:
    """Give up a folder, which is removed where no record is in it."""
    if not _places(folder):
        shutil.rmtree(folder, ignore_errors=True)
        Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()


__all__ = ["FOLDER", "Entry", "Outbox", "done", "made"]
