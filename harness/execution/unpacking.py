"""What a node does with code that it is sent. It may have nothing of this program, so this module is sent itself,
by value, and imports nothing that does not come with Python.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import time
import zipfile
from pathlib import Path

_KEPT_S = 7 * 24 * 3600.0
"""Code that was not used for so long is removed."""


def unpack_code(content: bytes, digest: str) -> tuple[str, str]:
    """Unpack an archive into a folder of this user's that its digest names, where it is not there yet; return that
    folder, and the PYTHONPATH of this node.

    Raises:
        OSError: the folder is somebody else's, or cannot be written.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    home = Path(tempfile.gettempdir()) / f"owb-code-{user}"
    home.mkdir(mode=0o700, exist_ok=True)
    if home.is_symlink() or (hasattr(os, "getuid") and home.lstat().st_uid != user):
        raise PermissionError(f"{home} belongs to somebody else")
    folder = home / digest
    if not folder.is_dir():
        part = Path(tempfile.mkdtemp(dir=home))
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            archive.extractall(part)
        try:
            part.rename(folder)
        except OSError:  # another run has unpacked it meanwhile
            shutil.rmtree(part)
    os.utime(folder)
    for other in home.iterdir():
        if other.stat().st_mtime < time.time() - _KEPT_S:
            shutil.rmtree(other, ignore_errors=True)
    return str(folder), os.environ.get("PYTHONPATH", "")


__all__ = ["unpack_code"]
