"""Digests of files, read again only where sizes or times of change differ from those of the last reading."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np

from harness.errors import UserError
from scenarios.datasets.packaged import prepared

Algorithm = Literal["sha256", "md5"]
"""SHA-256 is ours; MD5 is what many publishers state."""


def digests_of(paths: Sequence[Path], algorithm: Algorithm = "sha256") -> list[str]:
    """Return the digest of every file, in hexadecimal digits.

    Raises:
        UserError: a file that cannot be read.
    """
    try:
        seen = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from None
    key = hashlib.sha256(json.dumps(seen).encode()).hexdigest()

    def read() -> dict[str, np.ndarray[tuple[int], np.dtype[np.str_]]]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return {"digests": np.array(list(pool.map(lambda path: _digest(path, algorithm), paths)))}

    kept = prepared(f"{algorithm}-of-files", digest=key, recipe=sys.modules[__name__], make=read)
    return [str(found) for found in kept["digests"]]


def _digest(path: Path, algorithm: Algorithm) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None


__all__ = ["Algorithm", "digests_of"]
