"""Labels that people gave: files of CIFAR-10N and CIFAR-100N (Wei et al. 2022, "Learning with Noisy Labels
Revisited").

Their `.pt` file is a torch archive of one dictionary: column name -> labels in the order of the training set,
among them `clean_label`. A column is an array, a list or a tensor of integers; one that holds something else
does no harm as long as nobody asks for it. The file is
read without executing anything: only arrays, tensors, containers, numbers and text are made. A plain `.npz`
with the same columns does as well. Their `.npy` files hold a pickled dictionary, which is refused. A path
that is not absolute is looked for below OWB_DATA, there also in the folders that the publisher's repository
has, and then from the current folder.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from harness.contracts import IntArray
from harness.errors import UserError, unknown
from harness.places import data_folder, written
from scenarios.datasets.by_name import HUMAN_FOLDERS
from scenarios.datasets.file_digests import digests_of

_log = logging.getLogger(__name__)


def human_labels(file: str, column: str, rows: IntArray, classes: IntArray) -> IntArray:
    """Return the labels in `column` for the items at `rows` of the data set, int64 (N,).

    Args:
        file: path.
        column: such as worse_label, aggre_label, random_label1, noisy_label.
        rows: int64 (N,) places of the items in the data set.
        classes: int64 (N,) their true classes, which `clean_label` has to agree with.

    Raises:
        UserError: the file cannot be read, has no such column, is too short, or belongs to another data set.
    """
    path = located(file)
    columns = _columns(path, *digests_of([path]))
    if column not in columns:
        there = [name for name, values in columns.items() if _labels(values) is not None]
        raise unknown(f"column of {Path(file).name}", column, there, ", ".join(there))
    labels, clean = _labels(columns[column]), _labels(columns.get("clean_label"))
    if labels is None:
        raise UserError(
            f"cannot read human labels from {file}: column {column} should hold one integer an item"
        )
    if rows.max(initial=-1) >= len(labels):
        raise UserError(
            f"{file} has labels for {len(labels)} items, the data set hands over item {rows.max()}"
        )
    if clean is None and "clean_label" in columns:
        _log.warning(
            (
                "%s has a clean_label that is not one integer an item, so whether it belongs to the data set "
                "is not checked"
            ),
            file,
        )
    if clean is not None and len(clean) != len(labels):
        raise UserError(
            f"{file} is about other data: its clean_label has {len(clean)} items, {column} has {len(labels)}"
        )
    if clean is not None and (differ := int((clean[rows] != classes).sum())):
        raise UserError(
            f"{file} is about other data: its clean_label differs from the data set for {differ} of {len(rows)} items"
        )
    return labels[rows]


def located(file: str) -> Path:
    """Return where the file is; raise `UserError` where it is not."""
    above = data_folder()
    folders = [above / folder for folder in ("", *HUMAN_FOLDERS)] if above else []
    for folder in (*folders, Path()):
        if file and (path := folder / written(file)).is_file():
            return path
    places = ", ".join([*map(str, folders), "the current folder"])
    raise UserError(
        f"no file {file!r} with human labels, looked for in {places}; CIFAR-10N and CIFAR-100N come as "
        "CIFAR-10_human.pt and "
        "CIFAR-100_human.pt"
    )


def digests_of_files(files: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of every file by its name; raise `UserError` where one is not there."""
    paths = [located(file) for file in dict.fromkeys(files)]
    return {path.name: found for path, found in zip(paths, digests_of(paths), strict=True)}


@cache
def _columns(path: Path, digest: str) -> Mapping[str, Any]:
    """Return what a file holds under every name, read again where its digest differs."""
    try:
        if path.suffix.lower() == ".npz":
            found: Any = _numpy_archive(path)
        elif path.suffix.lower() in (".pt", ".pth"):
            found = _torch_archive(path)
        else:
            raise UserError(
                f"{path} should be a .pt or .npz file; the .npy files of CIFAR-N hold pickles, which are not read"
            )
    except UserError:
        raise
    except Exception as error:  # a broken archive may fail anywhere
        raise UserError(f"cannot read human labels from {path}: {str(error).partition(chr(10))[0]}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} should hold labels by the name of their column")
    return {str(name): values for name, values in found.items()}


def _labels(column: Any) -> IntArray | None:
    """Return a column as int64 (N,); None where it is no array, list or tensor of an integer an item."""
    import torch

    try:
        values = np.asarray(column.detach() if isinstance(column, torch.Tensor) else column)
    except (
        TypeError,
        ValueError,
        RuntimeError,
        OverflowError,
    ):  # lists of unequal length, tensors of a type or layout that numpy lacks
        return None
    if values.ndim == 0 or values.size != len(values) or values.dtype.kind not in "iu":
        return None
    return values.reshape(-1).astype(np.int64)


class _Strange:
    """Stands for whatever is no array, list, tensor, number or text; nothing of it is made or called."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def _numpy_archive(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with np.load(path, allow_pickle=False) as content:
        for name in content.files:
            try:
                found[name] = content[name]
            except ValueError:  # an array of objects, which would have to be unpickled
                found[name] = _Strange()
    return found


def _torch_archive(path: Path) -> Any:
    import torch
    from numpy._core.multiarray import _reconstruct, scalar

    admitted: list[Any] = [np.ndarray, np.dtype, *{type(np.dtype(code)) for code in np.typecodes["All"]}]
    for made in (_reconstruct, scalar):
        admitted += [made, (made, f"numpy.core.multiarray.{made.__name__}")]
    with torch.serialization.safe_globals(admitted):
        if zipfile.is_zipfile(path):  # the older form cannot be asked
            admitted += [
                (_Strange, name) for name in torch.serialization.get_unsafe_globals_in_checkpoint(path)
            ]
    with torch.serialization.safe_globals(admitted):
        return torch.load(path, map_location="cpu", weights_only=True)
