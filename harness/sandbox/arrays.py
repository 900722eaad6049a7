"""Archives of arrays from a stranger: checked by their headers, before one byte is unpacked or memory is
asked for.

An archive says how large its members become, and `zipfile` unpacks no more than it says; an array says its
shape and type in a header that is read alone. What would be too large, would hold objects or does not fit its
bytes is never loaded.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

MOST_MEMBERS = 5000
LARGEST_UNPACKED = 128 << 20
_MEMBER = re.compile(r"[A-Za-z0-9_.~@-]+\.npy")
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def npz_problems(file: Path | IO[bytes], *, largest: int = LARGEST_UNPACKED) -> Iterator[str]:
    """Say what is wrong with an archive of arrays; it may be loaded where nothing is."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if len(members) > MOST_MEMBERS:
                yield f"{len(members)} arrays, more than {MOST_MEMBERS}"
                return
            if len({member.filename for member in members}) < len(members):
                yield "two arrays have the same name"
            unpacked = sum(member.file_size for member in members)
            if unpacked > largest:
                yield f"would unpack to {unpacked >> 20} MiB, more than {largest >> 20} (a zip bomb?)"
                return
            for member in members:
                yield from _member_problems(archive, member)
    except Exception as error:  # readers of headers raise whatever a stranger's bytes lead them to
        yield f"is not an archive of arrays ({type(error).__name__})"


def _member_problems(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[str]:
    if not _MEMBER.fullmatch(member.filename) or ".." in member.filename:
        yield f"array name {member.filename!r} leads out of the archive or is no name"
        return
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
        yield f"array {member.filename!r} is packed or encrypted in a way that numpy does not use"
        return
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            yield f"array {member.filename!r} has the unknown format version {version}"
            return
        shape, _, dtype = _HEADERS[version](file)
        begins = file.tell()
    yield from (
        f"array {member.filename!r} {problem}"
        for problem in _array_problems(shape, dtype, member.file_size - begins)
    )


def _array_problems(shape: tuple[int, ...], dtype: np.dtype[Any], held: int) -> Iterator[str]:
    if dtype.hasobject:
        yield "holds Python objects, which would have to be unpickled"
    elif dtype.kind not in "biuf" or dtype.itemsize > 8:
        yield f"has dtype {dtype}, which is not a plain number"
    elif any(size < 0 for size in shape) or prod(shape) * dtype.itemsize != held:
        yield f"says shape {shape} of {dtype}, which is not what its {held} bytes hold (oversized?)"


__all__ = ["LARGEST_UNPACKED", "npz_problems"]
