"""Arrays of one's own, in one .npz file or in a folder with a .npy file for each.

    inputs       images uint8 or float32 in [0, 1] (N, channels, height, width), or features float32 (N, values)
    labels       (N,) text or whole numbers, the true classes
    given        (N,) the labels that came with the items, some of them wrong; where wanted, or instead of labels
    split        (N,) train, val or test; where wanted
    groups       (N,) alike for items that must stay on one side of a split; where wanted
    class_names  (C,) text, the names of the labels 0 to C - 1; where wanted

Nothing is unpickled. Inputs in a folder that are larger than a share of memory are copied once into the cache,
in the order of their contents, and mapped from there.
"""

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Collection, Sequence
from hashlib import sha256
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from harness.contracts import AnyArray, Card, Inputs, param
from harness.errors import UserError
from harness.places import kept_arrays
from scenarios.datasets.file_digests import digests_of
from scenarios.datasets.own.base import Content, Labelling, Own, hashes_of, own_card, place_of
from scenarios.datasets.own.marks import Column, marks_of, nearest
from scenarios.datasets.packaged import prepared
from scenarios.datasets.packed import packed_items

NAMES = ("inputs", "labels", "given", "split", "groups", "class_names")


class Arrays(Own):
    """Your arrays: inputs and labels in a .npz file, or in a folder of .npy files."""

    kind: ClassVar[Card] = own_card(
        "Arrays of your own",
        notes="inputs and labels, where wanted also given, split, groups and class_names, in one .npz file or as "
        ".npy files in a folder.",
    )
    usage: ClassVar[str] = "arrays[path=FILE.npz] or arrays[path=FOLDER]"

    path: str = param("", "a .npz file or a folder of .npy files, below OWB_DATA where that is set")
    digest: str = param("", "in place of path: of arrays that openworld.as_dataset keeps in the cache")
    memory: float = param(
        0.25, "share of this machine's memory above which inputs are mapped instead of held", ge=0, le=1
    )

    def content(self) -> Content:
        """Return the items in the order of the arrays."""
        path = self._place()
        large = self._allowed()
        arrays = _in_folder(path) if path.is_dir() else _in_archive(path, large)
        inputs = arrays.pop("inputs")
        for name, values in arrays.items():
            if name != "class_names" and values.shape != (len(inputs),):
                raise UserError(
                    f"{name} of {path} should have shape ({len(inputs)},), one value for each of the inputs, it has "
                    f"{values.shape}"
                )
        names = [_text(value) for value in arrays.pop("class_names", np.array([])).ravel().tolist()]
        columns = {name: _column(f"{name} of {path}", values) for name, values in arrays.items()}
        marks = marks_of(
            columns.get("labels"),
            columns.get("split"),
            columns.get("groups"),
            names,
            given=columns.get("given"),
            all_true=self.labels_are_true,
        )
        files = [path / f"{name}.npy" for name in NAMES] if path.is_dir() else [path]
        there = [file for file in files if file.is_file()]
        lines = [f"{file.stem} {found}" for file, found in zip(there, digests_of(there), strict=True)]
        digest = sha256("\n".join(lines if path.is_dir() else lines[0].split()[-1:]).encode()).hexdigest()

        def fetched() -> Inputs:
            if not isinstance(inputs, np.memmap):
                return inputs
            return _mapped(inputs, digest, path) if inputs.nbytes > large else np.array(inputs)

        return Content(
            marks=marks,
            shape=inputs.shape[1:],
            digest=digest,
            inputs=fetched,
            name=lambda row: f"row {row} of {path}",
            hashes=lambda: hashes_of(inputs),
        )

    def _place(self) -> Path:
        if not self.digest:
            return place_of(self.path, "path", self.usage)
        folder = kept_arrays(self.digest) if re.fullmatch(r"[0-9a-f]{16}", self.digest) else None
        if folder is None or not folder.is_dir():
            raise UserError(
                f"no arrays of digest {self.digest} are kept in the cache of this machine (OWB_CACHE): make them again "
                "by openworld.as_dataset, from the same data"
            )
        return folder

    def labelling(self) -> Labelling:
        """Return which arrays of labels there are."""
        path = self._place()
        there = {file.stem for file in path.glob("*.npy")} if path.is_dir() else {*_sizes(path)}
        return Labelling(true=self.labels_are_true and "labels" in there, given={"labels", "given"} <= there)

    def _allowed(self) -> float:
        """Return how many bytes inputs may take in memory."""
        import psutil

        return self.memory * float(psutil.virtual_memory().total)


def _in_folder(folder: Path) -> dict[str, AnyArray]:
    there = sorted(path.stem for path in folder.glob("*.npy"))
    _check_names(folder, there)
    return {
        name: _loaded(folder / f"{name}.npy", name, "r" if name == "inputs" else None)
        for name in NAMES
        if name in there
    }


def _sizes(path: Path) -> dict[str, int]:
    """Return how many bytes every array of an archive has."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                info.filename.removesuffix(".npy"): info.file_size
                for info in archive.infolist()
                if info.filename.endswith(".npy")
            }
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} is no whole .npz file ({error}); a single array is read in a folder"
        ) from None


def _in_archive(path: Path, allowed: float) -> dict[str, AnyArray]:
    sizes = _sizes(path)
    _check_names(path, sizes)
    if (needed := sum(sizes.get(name, 0) for name in NAMES)) > allowed:
        raise UserError(
            f"{path} has {needed / 2**30:.1f} GiB unpacked, more than the {allowed / 2**30:.1f} GiB of memory that it "
            "may take: save its arrays as .npy files in a folder, which are mapped, or raise memory"
        )
    return {name: _loaded(path, name, None) for name in NAMES if name in sizes}


def _check_names(path: Path, there: Collection[str]) -> None:
    for name in ("inputs", "given" if "given" in there else "labels"):
        if name not in there:
            raise nearest(f"array of {path}", name, there)


def _loaded(path: Path, name: str, mode: Literal["r"] | None) -> AnyArray:
    try:
        found = np.load(path, mmap_mode=mode, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            values: AnyArray = found[name]
            return values
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        advice = (
            "it holds Python objects, which are not read: save it as an array of numbers or of text (dtype=str)"
            if "allow_pickle" in str(error)
            else f"damaged, or no array ({error})"
        )
        raise UserError(f"cannot read {name} of {path}: {advice}") from None


def _column(title: str, values: AnyArray) -> Column:
    if values.dtype.kind not in "iubUS":
        such = f"such as {values[0]} in row 0" if len(values) else "and no row"
        raise UserError(f"{title} holds {values.dtype}, {such}: write it as text or as whole numbers")
    distinct, codes = np.unique(values, return_inverse=True)
    return Column(title, [_text(value) for value in distinct.tolist()], codes.reshape(-1).astype(np.int64))


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _mapped(inputs: AnyArray, digest: str, path: Path) -> Inputs:
    """Return inputs from a copy in the cache, where neither a row's number nor the path tells a class."""

    def item(row: int) -> AnyArray:
        values: AnyArray = inputs[row]
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise UserError(
                f"row {row} of inputs of {path} holds values that are not finite: mend it, or leave it out"
            )
        return values

    kept = prepared(
        "rows-of-arrays",
        digest=digest,
        recipe=sys.modules[__name__],
        make=lambda: {"hashes": np.array(hashes_of(inputs), dtype=np.str_)},
    )
    rows: Sequence[int] = range(len(inputs))
    return packed_items(
        rows, [str(found) for found in kept["hashes"]], "arrays", inputs.shape[1:], str(inputs.dtype), item
    )


__all__ = ["Arrays"]
