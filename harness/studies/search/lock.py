"""One search at a time writes the trials of a question."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import UserError


class locked:  # noqa: N801  (reads as a statement at its use)
    """Context manager: the folder of a search, for one process at a time."""

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error.strerror or error}") from None
        self.lock = FileLock(folder / "run.lock")
        self.folder = folder

    def __enter__(self) -> None:
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"another search of the same question writes to {self.folder}; wait for it, or choose another --store"
            ) from None
        except OSError as error:
            raise UserError(f"cannot write to {self.folder}: {error.strerror or error}") from None

    def __exit__(self, *_: object) -> None:
        self.lock.release()
