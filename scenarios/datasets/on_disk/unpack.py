"""Archives of strangers, unpacked into a folder of their own: plain files and folders, nowhere else.

Refused are names and links that lead out (absolute, or with `..`), devices, and what is neither a file nor a
folder. The standard library's `data` filter stands behind that for tar; older releases of it can be led out
by chains of links through `..`, which is why such links never reach it.
"""

from __future__ import annotations

import gzip
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from harness.errors import UserError


def unpack(archive: Path, into: Path) -> None:
    """Unpack a .zip, or a .tar packed in any way, into an existing empty folder.

    Raises:
        UserError: a damaged archive, or one with a member that leads out or is no plain file; some may be
        unpacked by then.
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
        gzip.BadGzipFile,
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise UserError(f"{archive} is truncated or damaged ({error})") from None


def _untar(archive: Path, into: Path) -> None:
    with tarfile.open(archive) as opened:
        for member in opened:
            is_link = member.issym() or member.islnk()
            if not (is_link or member.isfile() or member.isdir()):
                raise UserError(f"{archive} is not safe: {member.name!r} is a device or a pipe")
            if leads_out(member.name) or (is_link and leads_out(member.linkname)):
                raise UserError(f"{archive} is not safe: {member.name!r} leads out of its folder")
            opened.extract(member, into, filter="data")
        while opened.fileobj and opened.fileobj.read(
            1 << 20
        ):  # a packed stream checks its sum at its very end, behind the last member
            pass


def _unzip(archive: Path, into: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            if leads_out(member.filename):
                raise UserError(f"{archive} is not safe: {member.filename!r} leads out of its folder")
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UserError(f"{archive} is not safe: {member.filename!r} is a link or a device")
            if member.flag_bits & 1:
                raise UserError(f"{archive} is locked with a password")
            opened.extract(member, into)


def leads_out(name: str) -> bool:
    """Whether a name in an archive is absolute or goes up; backslashes and drives count as they would on
    Windows.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return ".." in parts or name.startswith(("/", "\\")) or name[1:2] == ":"
