"""Archives of strangers, unpacked into a folder of their own: plain files and folders, nowhere else.

Refused are names and links that lead out (absolute, or with `..`), devices, and what is neither a file nor a
folder. The standard library's `data` filter stands behind that for tar; older releases of it can be led out
by chains of links through `..`, which is why such links never reach it. What unpacks to many times its size
is refused before it does.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any

from harness.errors import UserError

MOST_TIMES = 20
"""How many times its own size an archive may unpack to; pictures and tables of numbers stay below a fifth of it."""
ALWAYS = 64 << 20
"""Bytes that any archive may unpack to."""
LARGEST = 1 << 40
MOST_MEMBERS = 5_000_000
_PACKINGS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
"""How a packed stream begins, and what opens it."""


def unpack(archive: Path, into: Path) -> None:
    """Unpack a .zip, or a .tar packed in any way, into an existing empty folder.

    Raises:
        UserError: a damaged archive, one with a member that leads out or is no plain file, or one that
        unpacks to too much; some may be unpacked by then.
        OSError: there is no room, or no permission to write.
    """
    try:
        if archive.suffix == ".zip":
            _unzip(archive, into)
        else:
            _untar(archive, into)
    except (
        EOFError,
        NotImplementedError,
        lzma.LZMAError,
        gzip.BadGzipFile,
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise UserError(f"{archive} is truncated or damaged ({error})") from None


def _untar(archive: Path, into: Path) -> None:
    with _stream(archive) as packed:
        stream = _Bounded(packed, archive, _most(archive))
        with tarfile.open(fileobj=stream, mode="r:") as opened:  # type: ignore[call-overload]  # it reads, seeks and tells
            for number, member in enumerate(opened):
                is_link = member.issym() or member.islnk()
                if number == MOST_MEMBERS:
                    raise UserError(f"{archive} is not safe: it has more than {MOST_MEMBERS} members")
                if not (is_link or member.isfile() or member.isdir()):
                    raise UserError(f"{archive} is not safe: {member.name!r} is a device or a pipe")
                if leads_out(member.name) or (is_link and leads_out(member.linkname)):
                    raise UserError(f"{archive} is not safe: {member.name!r} leads out of its folder")
                stream.announce(member)
                opened.extract(member, into, filter="data")
        while stream.read(1 << 20):  # it checks its sum at its very end, behind the last member
            pass


def _unzip(archive: Path, into: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
        most = _most(archive)
        if sum(member.file_size for member in members) > most or len(members) > MOST_MEMBERS:
            raise _too_much(archive, most)
        for member in members:
            if leads_out(member.filename):
                raise UserError(f"{archive} is not safe: {member.filename!r} leads out of its folder")
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UserError(f"{archive} is not safe: {member.filename!r} is a link or a device")
            if member.flag_bits & 1:
                raise UserError(f"{archive} is locked with a password")
            opened.extract(member, into)


def _most(archive: Path) -> int:
    """Return how many bytes an archive may unpack to."""
    return min(max(MOST_TIMES * archive.stat().st_size, ALWAYS), LARGEST)


def _too_much(archive: Path, most: int) -> UserError:
    return UserError(f"{archive} is not safe: it unpacks to more than {most >> 20} MiB (an archive bomb?)")


def _stream(archive: Path) -> IO[bytes]:
    """Open a .tar packed in any way as the stream that is in it."""
    with archive.open("rb") as file:
        begins = file.read(8)
    opener = next((opener for magic, opener in _PACKINGS.items() if begins.startswith(magic)), None)
    stream: IO[bytes] = opener(archive) if opener else archive.open("rb")
    return stream


class _Bounded:
    """A stream that is read to a bound and no further, whatever its headers say."""

    def __init__(self, stream: IO[bytes], archive: Path, most: int) -> None:
        self.stream, self.archive, self.most = stream, archive, most
        self.seek, self.tell = stream.seek, stream.tell
        self.holes = 0

    def announce(self, member: tarfile.TarInfo) -> None:
        """Refuse a member that would lead beyond the bound, before it is unpacked."""
        self.holes += member.size if member.issparse() else 0
        self._hold(member.size)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, as a stream does."""
        left = max(0, self.most - self.stream.tell()) + 1
        found = self.stream.read(left if size < 0 else min(size, left))
        self._hold()
        return found

    def _hold(self, ahead: int = 0) -> None:
        if self.stream.tell() + max(self.holes, ahead) > self.most:
            raise _too_much(self.archive, self.most)


def leads_out(name: str) -> bool:
    """Whether a name in an archive is absolute or goes up; backslashes and drives count as they would on
    Windows.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return ".." in parts or name.startswith(("/", "\\")) or name[1:2] == ":"
