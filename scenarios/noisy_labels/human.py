"""Labels that people gave: files of CIFAR-10N and CIFAR-100N (Wei et al. 2022, "Learning with Noisy Labels Revisited").

Their `.pt` file is a torch archive of one dictionary: column name -> int64 array in the order of the training set, among them
`clean_label`. It is read without executing anything: only numpy arrays, dictionaries and text are admitted. A plain `.npz` with the same
columns does as well. Their `.npy` files hold a pickled dictionary, which is refused. A path that is not absolute is looked for below
OWB_DATA, there also in the folders that the publisher's repository has, and then from the current folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from harness.contracts import IntArray
from harness.errors import UserError, unknown
from harness.places import data_folder, written
from scenarios.datasets.file_digests import digests_of
from scenarios.on_disk import HUMAN_FOLDERS


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
        raise unknown(f"column of {Path(file).name}", column, columns, ", ".join(columns))
    labels = columns[column]
    if rows.max(initial=-1) >= len(labels):
        raise UserError(f"{file} has labels for {len(labels)} items, the data set hands over item {rows.max()}")
    if "clean_label" in columns and (differ := int((columns["clean_label"][rows] != classes).sum())):
        raise UserError(f"{file} is about other data: its clean_label differs from the data set for {differ} of {len(rows)} items")
    return labels[rows].astype(np.int64)


def located(file: str) -> Path:
    """Return where the file is; raise `UserError` where it is not."""
    above = data_folder()
    folders = [above / folder for folder in ("", *HUMAN_FOLDERS)] if above else []
    for folder in (*folders, Path()):
        if file and (path := folder / written(file)).is_file():
            return path
    places = ", ".join([*map(str, folders), "the current folder"])
    raise UserError(f"no file {file!r} with human labels, looked for in {places}; CIFAR-10N and CIFAR-100N come as CIFAR-10_human.pt and "
                    "CIFAR-100_human.pt")  # fmt: skip


def digests_of_files(files: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of every file by its name; raise `UserError` where one is not there."""
    paths = [located(file) for file in dict.fromkeys(files)]
    return {path.name: found for path, found in zip(paths, digests_of(paths), strict=True)}


@cache
def _columns(path: Path, digest: str) -> Mapping[str, IntArray]:
    """Return the columns of a file, read again where its digest differs."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as content:
                found: Any = dict(content.items())
        elif path.suffix == ".pt":
            found = _torch_archive(path)
        else:
            raise UserError(f"{path} should be a .pt or .npz file; the .npy files of CIFAR-N hold pickles, which are not read")
    except UserError:
        raise
    except Exception as error:  # a broken archive may fail anywhere
        raise UserError(f"cannot read human labels from {path}: {str(error).partition(chr(10))[0]}") from None
    if not isinstance(found, dict) or not all(isinstance(value, np.ndarray) and value.ndim == 1 for value in found.values()):
        raise UserError(f"{path} should hold one array of labels per column")
    return {str(name): value.astype(np.int64) for name, value in found.items() if value.dtype.kind in "iu"}


def _torch_archive(path: Path) -> Any:
    import torch
    from numpy._core.multiarray import _reconstruct

    admitted: list[Any] = [
        _reconstruct,
        (_reconstruct, "numpy.core.multiarray._reconstruct"),
        np.ndarray,
        np.dtype,
        type(np.dtype(np.int64)),
    ]
    with torch.serialization.safe_globals(admitted):
        found = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(found, dict):
        return {name: value.numpy() if isinstance(value, torch.Tensor) else value for name, value in found.items()}
    return found
