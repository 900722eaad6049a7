"""One file from a publisher's address, continued where an earlier attempt ended, and given its name only when
it is whole.

What has come lies in `<name>.part` beside the name it will have. A connection that breaks leaves it for the
next attempt, which asks for the rest by HTTP's Range (RFC 9110, section 14); whatever shows that it is not
the right file removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import shutil
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from harness.errors import UserError
from scenarios.datasets.on_disk.contents import is_page

Report = Callable[[str, int, int | None], None]
"""Told (name of the file, bytes that are there, bytes in all or None where the server does not say)."""

PAUSES_S = (1.0, 4.0, 16.0)
"""How long to wait before each further attempt."""

_TIMEOUT_S = 30.0
_CHUNK = 1 << 20
_RANGE_PAST_END = 416


class _WithinTheWeb(HTTPRedirectHandler):
    """Follows a server to http and https addresses alone."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise UserError(f"{req.full_url} leads to {newurl!r}, which is neither http nor https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = build_opener(_WithinTheWeb)


class Unreachable(UserError):
    """An address that does not answer, or broke off again and again; what has come is kept."""


class _Broken(Exception):
    """The connection could not be made or ended early; another attempt may help."""


def size_at(address: str) -> int | None:
    """Return how many bytes are at `address`, None where its server does not say.

    Raises:
        Unreachable: it does not answer; it is not tried again.
        UserError: it answers with an error.
    """
    try:
        with _opened(address, first=0, last=0) as answer:
            return _total(answer, 0)
    except _Broken as broken:
        raise Unreachable(f"{address} cannot be reached ({broken}): try again") from None


def download(address: str, target: Path, *, md5: str, report: Report) -> str:
    """Fetch `address` as the file `target`; return its SHA-256.

    Args:
        address: http or https.
        target: in an existing folder; not there yet.
        md5: the published one, empty where none is.
        report: told how far it is.

    Raises:
        Unreachable: the address does not answer, or breaks off.
        UserError: it is a web page or has another MD5, or there is no room or no permission to write; nothing
        is kept.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        _patiently(address, partial(_continued, address, part, report))
        sha256 = _checked(address, part, md5)
        part.replace(target)
    except OSError as error:
        _removed(part)
        raise UserError(
            f"cannot keep {target}: {error.strerror or error}; nothing half-written is left"
        ) from None
    return sha256


def _patiently(address: str, attempt: Callable[[], None]) -> None:
    """Call `attempt`, after a pause again where the connection broke."""
    for pause in (*PAUSES_S, None):
        try:
            attempt()
        except _Broken as broken:
            if pause is None:
                raise Unreachable(
                    f"{address} broke off {len(PAUSES_S) + 1} times ({broken}): the same command continues"
                ) from None
            time.sleep(pause)
        else:
            return


def _continued(address: str, part: Path, report: Report) -> None:
    """Append to `part` what is missing of it."""
    have = part.stat().st_size if part.is_file() else 0
    with _opened(address, first=have) as answer:
        if answer.status == _RANGE_PAST_END:
            if _total(answer, 0) != have:
                _removed(part)
                raise _Broken("the server has fewer bytes than have come")
            return
        have = have if answer.status == http.client.PARTIAL_CONTENT and _start(answer) == have else 0
        total = _total(answer, have)
        if total is not None and shutil.disk_usage(part.parent).free < total - have:
            _removed(part)
            raise UserError(
                f"{part.parent} has no room for {part.stem}: {(total - have) >> 20} MiB more are needed"
            )
        with part.open("ab") as file:
            _claim(file, have)
            while chunk := _next(answer):
                if not have and is_page(chunk[:256]):
                    _removed(part)
                    raise UserError(
                        f"{address} answered with a web page, not with {part.stem}; nothing was kept"
                    )
                file.write(chunk)
                have += len(chunk)
                report(part.stem, have, total)
    if total is not None and have < total:
        raise _Broken(f"{have} of {total} bytes came")


def _claim(file: BinaryIO, have: int) -> None:
    """Take a part for this process alone, and leave the first `have` bytes of it.

    Raises:
        UserError: another process is fetching it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{file.name} is being written by another fetch: wait for it") from None
    if file.tell() < have:
        raise _Broken("another fetch has taken what had come")
    file.truncate(have)


def _opened(address: str, *, first: int, last: int | None = None) -> Any:
    """Return the server's answer to a request for the bytes from `first` on; raise `_Broken` where there is
    none.
    """
    asked = {"User-Agent": "openworld-bench"}
    if first or last is not None:
        asked["Range"] = f"bytes={first}-{'' if last is None else last}"
    try:
        return _OPENER.open(Request(address, headers=asked), timeout=_TIMEOUT_S)  # noqa: S310  (http or https, by `fetching.address_of`)
    except HTTPError as error:
        if error.code == _RANGE_PAST_END:
            return error
        if error.code >= http.client.INTERNAL_SERVER_ERROR or error.code == http.client.TOO_MANY_REQUESTS:
            raise _Broken(f"{error.code} {error.reason}") from None
        raise UserError(
            f"{address} answered {error.code} {error.reason}; the publisher may have moved it"
        ) from None
    except URLError as error:
        raise _Broken(_reason_text(error.reason)) from None
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(_reason_text(error)) from None


def _next(answer: Any) -> bytes:
    try:
        return bytes(answer.read(_CHUNK))
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(_reason_text(error)) from None


def _start(answer: Any) -> int:
    """Return the number of the first byte of a partial answer, -1 where it does not say."""
    unit, _, rest = (answer.headers.get("Content-Range") or "").partition(" ")
    first = rest.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdecimal() else -1


def _total(answer: Any, have: int) -> int | None:
    """Return how many bytes the whole file has, None where the server does not say."""
    whole = (answer.headers.get("Content-Range") or "").rpartition("/")[2]
    if whole.isdecimal():
        return int(whole)
    length = answer.headers.get("Content-Length") or ""
    return have + int(length) if length.isdecimal() else None


def _checked(address: str, part: Path, md5: str) -> str:
    """Return the SHA-256 of what has come; remove it and raise `UserError` where its MD5 is not the published
    one.
    """
    with part.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if md5 and found != md5:
        _removed(part)
        raise UserError(
            f"{part.stem} from {address} has MD5 {found}, {md5} is the publisher's; nothing was kept"
        )
    return sha256


def _removed(part: Path) -> None:
    with contextlib.suppress(OSError):
        part.unlink(missing_ok=True)


def _reason_text(reason: object) -> str:
    if isinstance(reason, socket.gaierror):
        return "its host has no address: is this machine online?"
    return (
        "timed out" if isinstance(reason, TimeoutError) else str(getattr(reason, "strerror", None) or reason)
    )
