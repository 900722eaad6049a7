"""The files of a page or report, written whole."""

from __future__ import annotations

import os
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
            temporary = folder / f".{name}.tmp{os.getpid()}"
            temporary.write_bytes(printable(content).encode() if isinstance(content, str) else content)
            temporary.replace(folder / name)
    except OSError as error:
        raise UserError(f"cannot write to {str(folder)!r}: {error.strerror or error}") from error
    return folder


def way_back(folder: Path) -> str:
    """Return the page that leads to those of a folder, seen from there: its own overview or the one above it;
    empty where there is neither.
    """
    own, above = folder / "index.html", folder.absolute().parent / "index.html"
    return "index.html" if own.is_file() else "../index.html" if above.is_file() else ""


__all__ = ["way_back", "write_page"]
