"""Data that exist as objects in Python: kept once in the cache, and named by a selection that any scenario takes."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.contracts import AnyArray
from harness.errors import UserError, in_one_line
from harness.places import kept_arrays

Chunk = tuple[AnyArray, Sequence[Any]]
"""Some items, (n, ...), and their labels."""

_AT_ONCE = 1024
"""Items of an array that are written together."""


def as_dataset(
    train: Any,
    *,
    validation: Any = None,
    test: Any = None,
    groups: Any = None,
    class_names: Sequence[str] = (),
) -> str:
    """Keep data in the cache and return what stands for them, such as "arrays[digest=3f9c1a2b4c5d6e7f]".

    A part is a map-style data set of PyTorch, whose items are pairs of input and label, or a pair of arrays or
    tensors: inputs (N, C, H, W) uint8 or floats in [0, 1], or features (N, D); labels (N,) whole numbers or text.
    Floats are kept as float32. Equal contents are kept once, under one name. What a data set draws at random would
    be kept as it came, so one whose first item differs when it is read again is refused.

    Args:
        train: the part that is learned; alone, all of the data, of which a scenario draws its own test.
        validation, test: the published split: `test_fraction=0` of a scenario asks for this test.
        groups: (N,) over train, validation and test in this order, alike for items on one side of a split.
        class_names: the names of labels 0 to C - 1; by default the `classes` of a data set that has these.

    Raises:
        UserError: an item that does not load or does not fit the others, or a cache that cannot be written.
    """
    given = {"train": train, "val": validation, "test": test}
    parts = {name: _part(part, name) for name, part in given.items() if part is not None}
    home = kept_arrays("")
    if home is None:
        raise UserError("there is no folder to keep data in: set OWB_CACHE")
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home, prefix="being-made-") as scratch:
            made = Path(scratch, "arrays")
            made.mkdir()
            digest, labels = _keep_inputs(made / "inputs.npy", parts)
            columns = {"labels": _column("labels", labels, len(labels))}
            if len(parts) > 1:
                columns["split"] = np.repeat([*parts], [part.items for part in parts.values()])
            if groups is not None:
                columns["groups"] = _column("groups", np.asarray(groups).tolist(), len(labels))
            if names := class_names or _names_of(train, columns["labels"]):
                columns["class_names"] = np.array(names, dtype=np.str_)
            for name, column in columns.items():
                np.save(made / f"{name}.npy", column, allow_pickle=False)
                digest += _digest(f"{name}|{column.dtype.str}|{column.shape}|", [column])
            name = hashlib.sha256(digest.encode()).hexdigest()[:16]
            try:
                made.rename(home / name)
            except OSError:
                if not (home / name).is_dir():
                    raise
    except OSError as error:
        raise UserError(f"cannot keep data in {home}: {error.strerror or error}") from error
    return f"arrays[digest={name}]"


@dataclass(frozen=True, slots=True)
class _Part:
    """Items of one shape and dtype, and how to get them, in order."""

    items: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: Callable[[], Iterator[Chunk]]


def _keep_inputs(path: Path, parts: Mapping[str, _Part]) -> tuple[str, list[Any]]:
    """Write the inputs of all parts, one after another; return their digest and the labels."""
    first = parts["train"]
    shape = (sum(part.items for part in parts.values()), *first.shape)
    inputs = np.lib.format.open_memmap(path, mode="w+", dtype=first.dtype, shape=shape)
    labels: list[Any] = []

    def written() -> Iterator[AnyArray]:
        for name, part in parts.items():
            start = len(labels)
            for values, own in part.chunks():
                if (values.shape[1:], values.dtype) != (first.shape, first.dtype):
                    raise UserError(
                        f"item {len(labels) - start} of {name} is {values.dtype} {values.shape[1:]}, where the first "
                        f"of train is {first.dtype} {first.shape}: bring all to one size and format"
                    )
                inputs[len(labels) : len(labels) + len(values)] = values
                labels.extend(own)
                yield values

    digest = _digest(f"inputs|{first.dtype.str}|{shape}|", written())
    inputs.flush()
    return digest, labels


def _part(given: Any, name: str) -> _Part:
    if isinstance(given, tuple) and len(given) == 2:
        return _part_of_arrays(_array(given[0]), _array(given[1]), name)
    if not (hasattr(given, "__len__") and hasattr(given, "__getitem__")) or isinstance(given, np.ndarray):
        raise UserError(
            f"{name} should be a data set with len() and [row], or a pair (inputs, labels), it is "
            f"{type(given).__name__}"
        )
    if not len(given):
        raise UserError(f"{name} has no items")
    (values, _), (again, _) = (_item(given, 0, name) for _ in range(2))
    if not np.array_equal(values, again):
        raise UserError(
            f"item 0 of {name} differs when it is read again, and data are kept once: leave random augmentations to "
            "the scenario (augmentations=...)"
        )

    def chunks() -> Iterator[Chunk]:
        for row in range(len(given)):
            item, label = _item(given, row, name)
            yield item[None], [label]

    return _Part(len(given), values.shape, values.dtype, chunks)


def _part_of_arrays(inputs: AnyArray, labels: AnyArray, name: str) -> _Part:
    if labels.ndim != 1 or inputs.ndim < 2 or len(inputs) != len(labels) or not len(labels):
        raise UserError(
            f"inputs and labels of {name} should be (N, ...) and (N,), they are {inputs.shape} and {labels.shape}"
        )

    def chunks() -> Iterator[Chunk]:
        for start in range(0, len(labels), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            yield _of_kept_kind(inputs[rows], f"inputs of {name}"), labels[rows].tolist()

    first = _of_kept_kind(inputs[:1], f"inputs of {name}")
    return _Part(len(labels), first.shape[1:], first.dtype, chunks)


def _item(dataset: Any, row: int, name: str) -> tuple[AnyArray, Any]:
    """Return the input of an item, (C, H, W) or (D,), and its label."""
    try:
        found = dataset[row]
    except Exception as error:  # code of others
        raise UserError(f"item {row} of {name} does not load: {in_one_line(error)}") from error
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise UserError(f"item {row} of {name} should be a pair (input, label), it is {type(found).__name__}")
    values, label = found
    if hasattr(values, "getbands"):  # a picture of Pillow
        if values.mode not in ("L", "RGB"):
            raise UserError(
                f"item {row} of {name} is a picture in mode {values.mode}: convert it to RGB or L"
            )
        pixels = np.asarray(values)
        values = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    label = _array(label)
    if label.ndim:
        raise UserError(
            f"the label of item {row} of {name} has shape {label.shape}: give one number or text, of a column per "
            "class its argmax()"
        )
    return _of_kept_kind(_array(values), f"item {row} of {name}"), label.item()


def _array(values: Any) -> AnyArray:
    """Return an array of what is one, a tensor, or a list of numbers."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def _of_kept_kind(values: AnyArray, title: str) -> AnyArray:
    if values.dtype.kind == "f":
        return values.astype(np.float32, copy=False)
    if values.dtype != np.uint8:
        raise UserError(
            f"{title} is {values.dtype}: give images as uint8 or as floats in [0, 1], and features as floats"
        )
    return values


def _column(title: str, values: Sequence[Any], items: int) -> AnyArray:
    column = np.array(values)
    if column.shape != (items,):
        raise UserError(f"{title} should be one for each of {items} items, they are of shape {column.shape}")
    if column.dtype.kind not in "iubU":
        raise UserError(
            f"{title} hold {column.dtype}, such as {values[0]!r}: say each as a whole number or as text"
        )
    return column


def _names_of(dataset: Any, labels: AnyArray) -> list[str]:
    """Return the `classes` of a data set, where they name its labels."""
    names = getattr(dataset, "classes", None)
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        return []
    return [*names] if labels.dtype.kind in "iu" and set(labels.tolist()) <= {*range(len(names))} else []


def _digest(title: str, arrays: Iterator[AnyArray] | Sequence[AnyArray]) -> str:
    digest = hashlib.sha256(title.encode())
    for values in arrays:
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


__all__ = ["as_dataset"]
