"""The files of a page or report, written whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.errors import UserError
from harness.results.printable import printable


def write_page(files: Mapping[str, str | bytes], folder: Path) -> Path:
    """Write files by name, each whole, of text what may be shown; return the folder.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            temporary = folder / f".{name}.tmp"
            temporary.write_bytes(printable(content).encode() if isinstance(content, str) else content)
            temporary.replace(folder / name)
    except OSError as error:
        raise UserError(f"cannot write to {str(folder)!r}: {error.strerror or error}") from error
    return folder


__all__ = ["write_page"]
