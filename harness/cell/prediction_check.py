"""The check of predictions: what a strategy answers, held against the query, sorted by id, in the smallest
number formats that change no value.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from harness.contracts import Prediction, Query, Rule, StoredPrediction
from harness.errors import Diverged, Unsuitable

_ROUNDING = 1e-3
"""By how much a probability may lie outside of [0, 1]: sums of a softmax in half precision do."""


class InvalidPrediction(Exception):
    """A strategy answered something that is not a prediction for its query."""


def validate_prediction(
    prediction: Prediction,
    query: Query,
    *,
    rules: Mapping[str, Rule],
    needed: Sequence[str],
    stage: int,
    step: int | None,
) -> StoredPrediction:
    """Check a prediction against its query and the `rules` of its fields, and return it sorted by id.

    A field without a rule is one of another scenario, and left out.

    Floats are held in the smallest of float16 (maps and the like), float32 and float64 that has every value
    as it was answered: whatever their scale, their order and their ties are the strategy's.

    Raises:
        InvalidPrediction: not a `Prediction`, the wrong number of rows or axes, or values that a rule does not allow.
        Unsuitable: a field is missing that scoring needs.
        Diverged: a value that is not finite, with its item and its place in it.
    """
    if not isinstance(prediction, Prediction):
        raise InvalidPrediction(f"predict returned {type(prediction).__name__}, not a Prediction")
    order = np.argsort(query.ids)
    arrays = {}
    for name, values in prediction.arrays().items():
        if name not in rules:
            continue
        rule, array = rules[name], np.asarray(values)
        if len(array.shape) == 0 or (len(array) != len(query.ids) and not rule.of_learner):
            raise InvalidPrediction(
                f"{name} has shape {array.shape}, but {len(query.ids)} items were asked (stage {stage})"
            )
        if array.dtype == object or array.dtype.kind not in "iufb":
            raise InvalidPrediction(f"{name} has dtype {array.dtype}, not numbers")
        with np.errstate(over="ignore"):
            stored = array.astype(np.float32) if rule.of_learner else _compact(name, rule, array)
        if stored.dtype.kind == "f" and rule.finite and not np.isfinite(stored).all():
            raise Diverged(f"{_not_finite(name, rule, stored, query)} (stage {stage})")
        if rule.kind == "probability" and ((stored < -_ROUNDING) | (stored > 1 + _ROUNDING)).any():
            raise InvalidPrediction(
                f"{name} must be probabilities, from 0 to 1; got {stored.min():g} to {stored.max():g} (stage "
                f"{stage})"
            )
        arrays[name] = stored if rule.of_learner else stored[order]
    if missing := lacking(needed, arrays):
        raise Unsuitable(
            f"answers {', '.join(arrays) or 'nothing'}, and the scenario needs {', '.join(missing)}"
        )
    return StoredPrediction(stage=stage, step=step, ids=query.ids[order], arrays=arrays)


def lacking(needed: Iterable[str], answered: Container[str]) -> list[str]:
    """Return what is needed for scoring and was not answered; of `one|other` any one will do."""
    return [
        name.replace("|", " or ")
        for name in needed
        if not any(field in answered for field in name.split("|"))
    ]


def _compact(name: str, rule: Rule, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if rule.axes and array.ndim not in rule.axes:
        wanted = " or ".join(map(str, rule.axes))
        raise InvalidPrediction(
            f"{name} must have {wanted} {'axis' if rule.axes == (1,) else 'axes'}, the first for the items; got "
            f"shape {array.shape}"
        )
    if rule.kind == "index":
        if not np.array_equal(array, array.astype(np.int64)):
            raise InvalidPrediction(
                f"{name} must be whole numbers, one per item; got dtype {array.dtype}, shape {array.shape}"
            )
        return array.astype(np.int64)
    if rule.kind == "flag":
        return array.astype(np.bool_)
    return _in_smallest(array, (np.float16, np.float32) if rule.half else (np.float32,))


def _in_smallest(
    array: np.ndarray[Any, Any], short: Sequence[type[np.floating[Any]]]
) -> np.ndarray[Any, Any]:
    """Return the numbers in the first of the formats that has them all, else in double precision."""
    for kind in short:
        if all(
            np.array_equal(part.astype(kind), part) for part in (array[:1], array)
        ):  # most often the first item says no
            return array.astype(kind)
    return array.astype(np.float64)


def _not_finite(name: str, rule: Rule, array: np.ndarray[Any, Any], query: Query) -> str:
    """Say how many values are not finite and where the first one is."""
    places = np.argwhere(~np.isfinite(array))
    row, *rest = places[0].tolist()
    said = f"{name} holds {len(places)} values that are not finite, the first"
    if rule.of_learner:
        return f"{said} at {(row, *rest)}"
    return f"{said} of item {query.ids[row]}" + (f" at {tuple(rest)}" if rest else "")


__all__ = ["InvalidPrediction", "lacking", "validate_prediction"]
