"""Reading files that may be truncated, damaged or something else, and the digests of their contents.

MD5s serve to hold files against what publishers state.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.errors import UserError
from scenarios.datasets.file_digests import digests_of

_PAGE_STARTS = (b"<!doctype html", b"<html", b"<head", b"<?xml")


def is_page(head: bytes) -> bool:
    """Whether a file that begins so is a web page, as a download behind a log-in leaves one."""
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_PAGE_STARTS)


def page_problem(path: Path, expected: str) -> str:
    """Return the sentence for a web page that was saved under the name of a file; empty where it is none."""
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except OSError as error:
        return f"cannot read {path}: {error.strerror or error}"
    return (
        f"{path} is a web page that was saved under this name, not {expected}; get the file again"
        if is_page(head)
        else ""
    )


def content_of(path: Path, expected: str) -> bytes:
    """Return the bytes of a file, unpacked where its name ends in .gz.

    Raises:
        UserError: it is missing, a web page, truncated or damaged; `expected` says what it should be.
    """
    if problem := page_problem(path, expected):
        raise UserError(problem)
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except EOFError:
        raise UserError(
            f"{path} is truncated: {expected} was expected, the compressed data end early"
        ) from None
    except (OSError, zlib.error) as error:
        raise UserError(
            f"cannot read {path}: {expected} was expected ({getattr(error, 'strerror', None) or error})"
        ) from None


def lines_of(path: Path, expected: str) -> list[str]:
    """Return the lines of a text file that hold something, stripped.

    Raises:
        UserError: as `content_of`; or it is not text.
    """
    try:
        return [
            line.strip()
            for line in content_of(path, expected).decode("utf-8-sig").splitlines()
            if line.strip()
        ]
    except UnicodeDecodeError:
        raise UserError(f"{path} is not text: {expected} was expected") from None


def mat_of(path: Path, names: Sequence[str], expected: str) -> dict[str, Any]:
    """Return variables of a MATLAB file of version 4 to 7.2, one-element dimensions removed, structures as
    records.

    Raises:
        UserError: it is missing, truncated or something else, or lacks a variable.
    """
    import scipy.io

    if problem := page_problem(path, expected):
        raise UserError(problem)
    try:
        found: dict[str, Any] = scipy.io.loadmat(str(path), variable_names=list(names), squeeze_me=True)
    except Exception as error:  # a damaged file fails anywhere in the reader
        raise UserError(
            f"cannot read {path}: truncated or damaged, {expected} was expected ({error})"
        ) from None
    if missing := [name for name in names if name not in found]:
        raise UserError(f"{path} holds no {missing[0]}: {expected} was expected")
    return found


def archive_problem(path: Path, md5: str) -> str:
    """Return what is wrong with an archive: a web page, another MD5 than `md5`, or (where that is empty) an
    end too early; else nothing.
    """
    if problem := page_problem(path, "an archive"):
        return problem
    if md5:
        (found,) = digests_of([path], "md5")
        return (
            ""
            if found == md5
            else f"{path} has MD5 {found}, {md5} is the publisher's: truncated or damaged, get it again"
        )
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                bad = archive.testzip()
            return f"{path} is damaged at {bad}, get it again" if bad else ""
        with tarfile.open(path) as archive:
            for _ in archive:
                pass
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
        return f"{path} is truncated or damaged, get it again ({error})"
    return ""


def combined(lines: Iterable[str]) -> str:
    """Return one SHA-256 over lines, whatever their order."""
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
