"""What counts in a folder of pictures: every format that Pillow decodes, and nothing that a system or an
editor put there for itself.

A file that is no such picture is left out and named in a warning; a folder of nothing but such files is
refused.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from harness.errors import UserError

_log = logging.getLogger(__name__)

_OF_SYSTEMS = frozenset(
    {
        "__macosx",
        "__pycache__",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "icon\r",
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "@eadir",
        "#recycle",
    }
)
_NO_PICTURES = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
"""Pillow tells these formats and does not decode them, or not without another program."""


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name does not count: it begins with a dot, or a system keeps its own
    things in it.
    """
    return name.startswith(".") or name.lower() in _OF_SYSTEMS


def folders_in(folder: Path) -> list[str]:
    """Return the names of the folders in a folder that count, sorted; none where there is no folder.

    Raises:
        UserError: the folder cannot be listed.
    """
    return sorted(entry.name for entry in _entries(folder) if _is_folder(entry))


def images_in(folders: Sequence[Path]) -> list[list[Path]]:
    """Return the pictures in each of `folders`, sorted by name; none where there is no folder. A broken link
    counts, and is refused later.

    Raises:
        UserError: a folder that cannot be listed, or has files and none that is read.
    """
    suffixes, found, invalid = picture_suffixes(), [], []
    for folder in folders:
        files = [
            folder / name
            for name in sorted(entry.name for entry in _entries(folder) if not _is_folder(entry))
        ]
        pictures = [path for path in files if path.suffix.lower() in suffixes]
        if files and not pictures:
            raise UserError(
                f"{folder} has no picture in a format that is read, only {_formats(files)}; convert them to PNG, say"
            )
        found.append(pictures)
        invalid += [path for path in files if path.suffix.lower() not in suffixes]
    if invalid:
        _warn_once(
            f"{len(invalid)} files among pictures are in no format that is read and are left out: "
            f"{_formats(invalid)}; the first "
            f"of them is {invalid[0]}"
        )
    return found


@cache
def picture_suffixes() -> frozenset[str]:
    """Return the suffixes of the files that are read as pictures, in small letters with the dot."""
    from PIL import Image

    Image.preinit()  # which puts the usual formats first: every file is tried as each in turn
    Image.init()
    return frozenset(
        suffix
        for suffix, name in Image.registered_extensions().items()
        if name in Image.OPEN and name not in _NO_PICTURES
    )


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not is_hidden(entry.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"cannot list {folder}: {error.strerror or error}") from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _formats(files: Sequence[Path]) -> str:
    """Return how many files there are of every suffix, such as `.heic (2), .txt (1)`."""
    return ", ".join(
        f"{suffix} ({number})"
        for suffix, number in sorted(Counter(path.suffix.lower() or "no suffix" for path in files).items())
    )


@cache
def _warn_once(sentence: str) -> None:
    """Warn; a folder is listed several times in a run."""
    _log.warning("%s", sentence)
