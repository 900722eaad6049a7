"""Accepting what a strategy answers: checked against the query, sorted by id, in the smallest number formats
that change no value.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any

import numpy as np

from harness.contracts import OF_LEARNER, Answer, Prediction, Query
from harness.errors import Diverged, Unsuitable

_WHOLE = ("classes", "clusters", "among_known", "among_novel")
_AXES = {"anomaly_scores": 1, "anomaly_maps": 3}
_HALF = ("anomaly_maps", "old_probability", "suspicion", "label_losses", "relation_shift")
"""Fields that may be held in half precision; others take float32 at least."""


class BadAnswer(Exception):
    """A strategy answered something that is not a prediction for its query."""


def answered(
    prediction: Prediction, query: Query, *, needed: Sequence[str], stage: int, step: int | None
) -> Answer:
    """Check a prediction against its query and return it sorted by id.

    Floats are held in the smallest of float16 (maps and the like), float32 and float64 that has every value
    as it was answered: whatever their scale, their order and their ties are the strategy's.

    Raises:
        BadAnswer: not a `Prediction`, or the wrong number of rows or axes.
        Unsuitable: a field is missing that scoring needs.
        Diverged: a value that is not finite, with its item and its place in it.
    """
    if not isinstance(prediction, Prediction):
        raise BadAnswer(f"predict returned {type(prediction).__name__}, not a Prediction")
    order = np.argsort(query.ids)
    arrays = {}
    for name, given in prediction.arrays().items():
        array = np.asarray(given)
        if len(array.shape) == 0 or (len(array) != len(query.ids) and name not in OF_LEARNER):
            raise BadAnswer(
                f"{name} has shape {array.shape}, but {len(query.ids)} items were asked (stage {stage})"
            )
        if array.dtype == object or array.dtype.kind not in "iufb":
            raise BadAnswer(f"{name} has dtype {array.dtype}, not numbers")
        with np.errstate(over="ignore"):
            held = array.astype(np.float32) if name in OF_LEARNER else _compact(name, array)
        if held.dtype.kind == "f" and name != "health" and not np.isfinite(held).all():
            raise Diverged(f"{_not_finite(name, held, query)} (stage {stage})")
        arrays[name] = held if name in OF_LEARNER else held[order]
    if missing := lacking(needed, arrays):
        raise Unsuitable(
            f"answers {', '.join(arrays) or 'nothing'}, and the scenario needs {', '.join(missing)}"
        )
    return Answer(stage=stage, step=step, ids=query.ids[order], arrays=arrays)


def lacking(needed: Iterable[str], answered: Container[str]) -> list[str]:
    """Return what is needed for scoring and was not answered; of `one|other` any one will do."""
    return [
        name.replace("|", " or ")
        for name in needed
        if not any(field in answered for field in name.split("|"))
    ]


def _compact(name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if name in _WHOLE:
        if array.ndim > 1 + (name == "among_novel") or not np.array_equal(array, array.astype(np.int64)):
            raise BadAnswer(
                f"{name} must be whole numbers, one per item; got dtype {array.dtype}, shape {array.shape}"
            )
        return array.astype(np.int64)
    if name in _AXES and array.ndim != _AXES[name]:
        raise BadAnswer(
            f"{name} must have {_AXES[name]} axes, the first for the items; got shape {array.shape}"
        )
    if name == "kept":
        return array.astype(np.bool_)
    return _held(array, (np.float16, np.float32) if name in _HALF else (np.float32,))


def _held(array: np.ndarray[Any, Any], short: Sequence[type[np.floating[Any]]]) -> np.ndarray[Any, Any]:
    """Return the numbers in the first of the formats that has them all, else in double precision."""
    for kind in short:
        if all(
            np.array_equal(part.astype(kind), part) for part in (array[:1], array)
        ):  # most often the first item says no
            return array.astype(kind)
    return array.astype(np.float64)


def _not_finite(name: str, array: np.ndarray[Any, Any], query: Query) -> str:
    """Say how many values are not finite and where the first one is."""
    places = np.argwhere(~np.isfinite(array))
    row, *rest = places[0].tolist()
    said = f"{name} holds {len(places)} values that are not finite, the first"
    if name in OF_LEARNER:
        return f"{said} at {(row, *rest)}"
    return f"{said} of item {query.ids[row]}" + (f" at {tuple(rest)}" if rest else "")


__all__ = ["BadAnswer", "answered", "lacking"]
