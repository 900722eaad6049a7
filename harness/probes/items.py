"""The items of a look as probes take them: float64, in an order of their own, by class, and how far apart they are.

Legend: N items, d features, C classes that occur.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from harness.contracts import HIDDEN, IntArray, Metric
from harness.probes.contract import Look

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

Bandwidth = Annotated[float, Field(gt=0)] | Literal["median"]

NAN = float("nan")


class Items(NamedTuple):
    """Features (N, d), true labels (N,) and those given (N,), `HIDDEN` where there is none."""

    features: Floats
    labels: IntArray
    given: IntArray


def finite(look: Look) -> bool:
    """Say whether the features are numbers, which those of a learner that has diverged are not."""
    return bool(np.isfinite(np.asarray(look.features)).all())


def items_of(look: Look) -> Items:
    """Return the items of a look that has features, nearest to their mean first.

    So what a probe draws for the i-th item does not depend on the order in which the items came, and a turn, a shift
    or another scale of the features leaves it as it was.
    """
    features = np.asarray(look.features, dtype=np.float64)
    distance = ((features - features.mean(axis=0)) ** 2).sum(axis=1)
    order = np.lexsort((look.given, look.labels, distance))
    return Items(features[order], look.labels[order], look.given[order])


def in_classes(labels: IntArray, smallest: int = 1) -> Mask:
    """Return which items (N,) have a label, of a class of at least `smallest` items."""
    _, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    found: Mask = (labels != HIDDEN) & (counts[index] >= smallest)
    return found


def permuted(labels: IntArray, rng: np.random.Generator) -> IntArray:
    """Return labels (N,) with those that there are dealt anew among the items that have one."""
    dealt = labels.copy()
    dealt[labels != HIDDEN] = rng.permutation(labels[labels != HIDDEN])
    return dealt


def squared_distances(features: ArrayLike) -> Floats:
    """Return squared Euclidean distances (N, N) of the rows of `features` (N, d), zero on the diagonal."""
    x = np.asarray(features, dtype=np.float64)
    x = x - x.mean(axis=0)
    squares = np.einsum("nd,nd->n", x, x)
    distances: Floats = x @ x.T
    distances *= -2
    distances += squares
    distances += squares[:, None]
    np.maximum(distances, 0, out=distances)
    np.fill_diagonal(distances, 0)
    return distances


def gaussian(squared: Floats, sigma: float) -> Floats:
    """Return exp(-`squared` / (2 sigma^2)) of squared distances (N, N)."""
    kernel: Floats = np.exp(squared / (-2 * sigma**2))
    return kernel


def median_of_pairs(distances: Floats) -> float:
    """Return the median over pairs of different items of `distances` (N, N), symmetric; NaN where there is no pair."""
    pairs = distances[np.tri(len(distances), k=-1, dtype=bool)]
    return float(np.median(pairs)) if len(pairs) else NAN


def not_applicable(figures: Iterable[Metric]) -> dict[str, float]:
    """Return NaN for each of `figures`."""
    return {figure.name: NAN for figure in figures}
