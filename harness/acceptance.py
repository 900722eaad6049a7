"""Accepting what a strategy answers: checked against the query, sorted by id, in dtypes no larger than a metric needs."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any

import numpy as np

from harness.contracts import OF_LEARNER, Answer, Prediction, Query
from harness.errors import Diverged, Unsuitable

_WHOLE = ("classes", "clusters", "among_known", "among_novel")
_AXES = {"anomaly_scores": 1, "anomaly_maps": 3}
_HALF = ("anomaly_maps", "old_probability", "suspicion", "label_losses", "relation_shift")


class BadAnswer(Exception):
    """A strategy answered something that is not a prediction for its query."""


def answered(prediction: Prediction, query: Query, *, needed: Sequence[str], stage: int, step: int | None) -> Answer:
    """Check a prediction against its query and return it sorted by id, in small dtypes that lose nothing a metric needs.

    Raises:
        BadAnswer: not a `Prediction`, or the wrong number of rows or axes.
        Unsuitable: a field is missing that scoring needs.
        Diverged: a score that is not a number.
    """
    if not isinstance(prediction, Prediction):
        raise BadAnswer(f"predict returned {type(prediction).__name__}, not a Prediction")
    order = np.argsort(query.ids)
    arrays = {}
    for name, given in prediction.arrays().items():
        array = np.asarray(given)
        if len(array.shape) == 0 or (len(array) != len(query.ids) and name not in OF_LEARNER):
            raise BadAnswer(f"{name} has shape {array.shape}, but {len(query.ids)} items were asked (stage {stage})")
        if array.dtype == object or array.dtype.kind not in "iufb":
            raise BadAnswer(f"{name} has dtype {array.dtype}, not numbers")
        if array.dtype.kind == "f" and name != "health" and not np.isfinite(array).all():
            raise Diverged(f"{name} holds {int((~np.isfinite(array)).sum())} values that are not finite (stage {stage})")
        arrays[name] = array.astype(np.float32) if name in OF_LEARNER else _compact(name, array)[order]
    if missing := lacking(needed, arrays):
        raise Unsuitable(f"answers {', '.join(arrays) or 'nothing'}, and the scenario needs {', '.join(missing)}")
    return Answer(stage=stage, step=step, ids=query.ids[order], arrays=arrays)


def lacking(needed: Iterable[str], answered: Container[str]) -> list[str]:
    """Return what is needed for scoring and was not answered; of `one|other` any one will do."""
    return [name.replace("|", " or ") for name in needed if not any(field in answered for field in name.split("|"))]


def _compact(name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if name in _WHOLE:
        if array.ndim > 1 + (name == "among_novel") or not np.array_equal(array, array.astype(np.int64)):
            raise BadAnswer(f"{name} must be whole numbers, one per item; got dtype {array.dtype}, shape {array.shape}")
        return array.astype(np.int64)
    if name in _AXES and array.ndim != _AXES[name]:
        raise BadAnswer(f"{name} must have {_AXES[name]} axes, the first for the items; got shape {array.shape}")
    if name == "kept":
        return array.astype(np.bool_)
    return array.astype(np.float16 if name in _HALF else np.float32)


__all__ = ["BadAnswer", "answered", "lacking"]
