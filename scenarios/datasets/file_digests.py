"""Digests of files, kept by where these lie and by their stamps, so that large ones are read once.

A file that has just changed is read each time (`harness.stamps`); on Windows, where stamps tell nothing,
every file is.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np

from harness.errors import UserError
from harness.stamps import stamp_of
from scenarios.datasets.packaged import prepared

Algorithm = Literal["sha256", "md5"]
"""SHA-256 is ours; MD5 is what many publishers state."""

_TASKS = 256
"""Parts that many files are dealt to threads in: handing over a task takes as long as reading a small picture."""


def digests_of(paths: Sequence[Path], algorithm: Algorithm = "sha256", *, anew: bool = False) -> list[str]:
    """Return the digest of every file, in hexadecimal digits.

    Args:
        paths: of the files.
        algorithm: which digest.
        anew: read all of them, for who asks whether the disk still holds what it did.

    Raises:
        UserError: a file that cannot be read.
    """
    try:
        stamps = [stamp_of(path) for path in paths]
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from None

    def read() -> list[str]:
        step = max(1, len(paths) // _TASKS)

        def several(start: int) -> list[str]:
            return [digest_of(path, algorithm) for path in paths[start : start + step]]

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return [*chain.from_iterable(pool.map(several, range(0, len(paths), step)))]

    if None in stamps:
        return read()
    folders = {folder: str(folder.resolve()) for folder in {path.parent for path in paths}}
    places = [(folders[path.parent], path.name) for path in paths]
    key = hashlib.sha256(json.dumps([*zip(places, stamps, strict=True)]).encode())
    kept = prepared(
        f"{algorithm}-of-files",
        digest=key.hexdigest(),
        recipe=sys.modules[__name__],
        make=lambda: {"digests": np.array(read(), dtype=np.str_)},
        anew=anew,
    )
    return [str(found) for found in kept["digests"]]


def digest_of(path: Path, algorithm: Algorithm) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(
                file, lambda: hashlib.new(algorithm, usedforsecurity=False)
            ).hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None


__all__ = ["Algorithm", "digests_of"]
