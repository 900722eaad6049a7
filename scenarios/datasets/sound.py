"""What a data set loads, held against the contract (`harness.contracts.Data`) before anything is dealt from
it.

Checked are labels, class names, groups and published parts of all items; shape and dtype of the inputs; and
their values: of an array all, of a loader those of `SAMPLED` items spread evenly, the first and the last
among them, since to read all would be to fetch the whole set.
"""

from __future__ import annotations

import reprlib
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.contracts import AnyArray, Data, Dataset, Inputs
from harness.errors import UserError

SAMPLED = 64
"""Items of a loader that are looked at."""

_LAYOUTS = "images are (N, channels, height, width) and features (N, values)"
_FORMATS = "images are uint8, or float32 in [0, 1], and features are float32"


def loaded(dataset: Dataset, name: str) -> Data:
    """Return what `dataset` loads, with labels as int64.

    Args:
        dataset: whosever it is.
        name: by which the user selected it, for the message.

    Raises:
        UserError: it does not load, or what it loads is not what the contract says: the value, its row, and
        what to do.
    """
    try:
        data = dataset.load()
        found = flaw(data)
    except UserError:
        raise
    except Exception as error:  # code of others: `load`, or a loader that fetches items
        raise UserError(
            f"{name} does not load: {_sentence(error, type(dataset).load.__code__.co_filename)}"
        ) from error
    if found:
        raise UserError(f"{name}: {found}")
    return replace(
        data, labels=data.labels.astype(np.int64, copy=False), class_names=tuple(map(str, data.class_names))
    )


def flaw(data: object) -> str:
    """Return the first thing that is wrong with what a data set loaded; empty where nothing is."""
    return next(_problems(data), "")


def label_flaw(labels: AnyArray, class_names: Sequence[str]) -> str:
    """Return the first thing that is wrong with labels (N,) and the names of their classes; empty where
    nothing is.
    """
    return next(_of_labels(labels, class_names, len(labels)), "")


def _problems(data: object) -> Iterator[str]:
    """Yield what is wrong; a later check counts on the earlier ones."""
    if not isinstance(data, Data):
        yield f"load() should return openworld.Data, it returns {type(data).__name__}"
        return
    yield from _of_layout(data.inputs)
    yield from _of_labels(data.labels, data.class_names, len(data.inputs))
    yield from _of_rows("groups", data.groups, len(data.inputs), np.dtype(np.int64))
    yield from _of_rows("published_test", data.published_test, len(data.inputs), np.dtype(np.bool_))
    yield from _of_rows(
        "published_validation", data.published_validation, len(data.inputs), np.dtype(np.bool_)
    )
    yield from _of_rows("given", data.given, len(data.inputs), np.dtype(np.int64))
    if data.given is not None and (
        len(outside := np.flatnonzero((data.given < 0) | (data.given >= len(data.class_names))))
    ):
        yield (
            f"given label {data.given[outside[0]]} in row {outside[0]} is no class: labels are 0 to "
            f"{len(data.class_names) - 1}"
        )
    yield from _of_values(data.inputs)


def _of_layout(inputs: Inputs) -> Iterator[str]:
    if not all(hasattr(inputs, name) for name in ("shape", "__len__", "__getitem__")):
        yield f"inputs should be an array, or a loader with shape, len() and [rows], they are {type(inputs).__name__}"
    shape = tuple(inputs.shape)
    if not shape or not shape[0]:
        yield "it loads no items"
    if len(shape) < 2 or 0 in shape:
        yield f"inputs have shape {shape}, but {_LAYOUTS}"
    if len(inputs) != shape[0]:
        yield f"inputs have shape {shape}, but their length is {len(inputs)}"
    if len(shape) == 4 and shape[1] > 4 and (shape[3] in (3, 4) or (shape[3] == 1 and shape[1] == shape[2])):
        yield (
            f"inputs have shape {shape}, which looks like channels last, but {_LAYOUTS}: say "
            "inputs.transpose(0, 3, 1, 2)"
        )


def _of_labels(labels: Any, class_names: Any, items: int) -> Iterator[str]:
    if not isinstance(class_names, (tuple, list)) or not class_names:
        yield f"class_names should be a tuple of text, one for every class, it is {reprlib.repr(class_names)}"
    if invalid := [
        number for number, name in enumerate(class_names) if not isinstance(name, str) or not name.strip()
    ]:
        yield f"class_names should be text, but class {invalid[0]} is called {reprlib.repr(class_names[invalid[0]])}"
    if len(set(class_names)) < len(class_names):
        first = {name: number for number, name in reversed([*enumerate(class_names)])}
        again = next(number for number, name in enumerate(class_names) if first[name] != number)
        yield (
            f"classes {first[class_names[again]]} and {again} are both called {class_names[again]!r} in "
            "class_names: name each by itself"
        )
    if not isinstance(labels, np.ndarray):
        yield f"labels should be an integer array, they are {type(labels).__name__}: say np.array(labels)"
    if len(labels.shape) != 1:
        yield (
            f"labels have shape {labels.shape}, but they are (N,), one number an item"
            + (": from a column per class, take labels.argmax(axis=1)" if len(labels.shape) == 2 else "")
        )
    if len(labels) != items:
        yield (
            f"{items} items have {len(labels)} labels: row {min(items, len(labels))} is the first "
            "without its counterpart"
        )
    if not items:
        yield "it loads no items"
    if labels.dtype.kind not in "iu":
        yield from _of_no_integers(labels)
    classes = len(class_names)
    if labels.min() < 0 or labels.max() >= classes:
        outside = np.flatnonzero((labels < 0) | (labels >= classes))
        from_one = labels.min() == 1 and labels.max() == classes
        advice = "take 1 from each" if from_one else "leave such items out, or name their classes"
        yield (
            f"label {labels[outside[0]]} in row {outside[0]} is no class: labels are 0 to {classes - 1} "
            f"for {classes} class_names "
            f"({len(outside)} of {items} items are outside); {advice}"
        )
    if len(empty := np.flatnonzero(np.bincount(labels.astype(np.int64, copy=False), minlength=classes) == 0)):
        yield (
            f"class {empty[0]} ({class_names[empty[0]]!r}) has no item ({len(empty)} of {classes} classes "
            "have none): leave it out of "
            f"class_names, and number the others 0 to {classes - len(empty) - 1}"
        )


def _of_no_integers(labels: AnyArray) -> Iterator[str]:
    broken = (
        labels != np.floor(labels)
        if labels.dtype.kind == "f"
        else np.full(len(labels), labels.dtype.kind != "b")
    )
    row = int(broken.argmax())
    advice = (
        "give the number of each class, its place in class_names"
        if broken[row]
        else "say labels.astype(np.int64)"
    )
    value = reprlib.repr(labels[row : row + 1].tolist()[0])
    yield f"labels should be integers, they are {labels.dtype}, such as {value} in row {row}: {advice}"


def _of_rows(name: str, values: Any, items: int, dtype: np.dtype[Any]) -> Iterator[str]:
    if values is None:
        return
    if (
        not isinstance(values, np.ndarray)
        or values.dtype.kind.replace("u", "i") != dtype.kind
        or values.shape != (items,)
    ):
        found = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
        yield f"{name} should be {dtype} ({items},), one value an item, it is {found}"


def _of_values(inputs: Inputs) -> Iterator[str]:
    whole = isinstance(inputs, np.ndarray)
    rows = (
        np.arange(len(inputs))
        if whole
        else np.unique(np.linspace(0, len(inputs) - 1, SAMPLED).astype(np.int64))
    )
    values = inputs if isinstance(inputs, np.ndarray) else inputs[rows]
    if not isinstance(values, np.ndarray):
        yield f"inputs[rows] should be a numpy array, it is {type(values).__name__}"
        return
    if values.shape != (len(rows), *inputs.shape[1:]):
        yield f"inputs[rows] has shape {values.shape} for {len(rows)} rows of inputs of shape {tuple(inputs.shape)}"
    are_images = values.ndim == 4
    if values.dtype.kind == "f":
        low, high = values.min(), values.max()  # either is not a number where any value is
        if not (np.isfinite(low) and np.isfinite(high)):
            row, value = _first(~np.isfinite(values), values)
            yield f"inputs should be finite, but there is {value} in row {rows[row]}: mend the item, or leave it out"
        if are_images and (low < 0 or high > 1):
            row, value = _first((values < 0) | (values > 1), values)
            advice = (
                "divide them by 255, or give them as uint8"
                if low >= 0 and high <= 255
                else "scale them to [0, 1]"
            )
            yield (
                f"float images should lie in [0, 1], but there is {value:g} in row {rows[row]} (all lie in "
                f"[{low:g}, {high:g}]): "
                f"{advice}"
            )
    if values.dtype == np.uint8 and not are_images:
        yield (
            f"inputs are uint8 of shape {tuple(inputs.shape)}, but {_LAYOUTS}, and features are float32: "
            "give images their channels, as "
            "in inputs[:, None], or say inputs.astype(np.float32)"
        )
    if values.dtype not in (np.uint8, np.float32):
        of_pixels = "inputs.astype(np.uint8) of pixels, else " if values.dtype.kind in "iu" else ""
        yield f"inputs are {values.dtype}, but {_FORMATS}: say {of_pixels}inputs.astype(np.float32)"


def _first(is_wrong: AnyArray, values: AnyArray) -> tuple[int, float]:
    """Return row and value of the first place that is wrong."""
    place = int(is_wrong.argmax())
    return place // (values.size // len(values)), float(values.ravel()[place])


def _sentence(error: Exception, file: str) -> str:
    """Return an exception in one line, with the last place in `file` that led to it, or else where it was
    raised.
    """
    frames = traceback.extract_tb(error.__traceback__)
    frame = [frames[-1], *(frame for frame in frames if frame.filename == file)][-1]
    said = " ".join(str(error).split())
    return f"{type(error).__name__}{f': {said}' if said else ''} ({Path(frame.filename).name}, line {frame.lineno})"


__all__ = ["SAMPLED", "flaw", "label_flaw", "loaded"]
