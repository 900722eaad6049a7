"""One run at a time writes to a store."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import UserError


class locked:  # noqa: N801  (reads as a statement at its use)
    """Context manager: one run at a time writes to a store."""

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write to the store {folder}: {error.strerror or error}") from None
        self.lock = FileLock(folder / "run.lock")
        self.folder = folder

    def __enter__(self) -> None:
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"another run is writing to {self.folder}; wait for it, or choose another --store"
            ) from None
        except OSError as error:
            raise UserError(f"cannot write to the store {self.folder}: {error.strerror or error}") from None

    def __exit__(self, *_: object) -> None:
        self.lock.release()
