"""Wasserstein dependency: how far features and labels are from independent, by optimal transport.

It is W1 between the joint distribution, N items (x_i, y_i), and the product of the two marginals, (x_i, c) for every
item and every class with weight n_c / N^2, where moving costs |x - x'| / s + 1[y != y'] and s is the median distance.
It is 0 where features say nothing of labels. Solved exactly: a linear programme over few pairs of places, to which
those pairs that its dual prices make worth while are added until there is none.

Source: Ozair et al. 2019 (NeurIPS, arXiv 1903.11780), who bound it by a network.

Legend: N items, M distinct labels.

>>> apart = np.array([[0.0, 1.0], [1.0, 0.0]])  # two items, and their labels, at a distance of 1
>>> dependency(apart, apart, np.array([0.5, 0.5])), dependency(0 * apart, apart, np.array([0.5, 0.5]))
(0.5, 0.0)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array

from harness.contracts import HIDDEN, IntArray, Metric, param
from harness.probes.contract import Look, Probe
from harness.probes.items import (
    NAN,
    Floats,
    Mask,
    finite,
    items_of,
    median_of_pairs,
    not_applicable,
    permuted,
    squared_distances,
)

_NEAREST = 5
_ROUNDING = 1e-10


def dependency(features: Floats, labels: Floats, weights: Floats) -> float:
    """Return Wasserstein dependency, distances of features and of labels adding up.

    features: (N, N), distances of the items' features.  labels: (N, M), distances of the items' labels to each of M
    labels.  weights: (M,), the shares of these labels, which sum to 1.
    """
    count, kinds = labels.shape
    cost = (features[:, :, None] + labels[:, None, :]).reshape(count, count * kinds)
    return transport(cost, np.full(count, 1 / count), np.tile(weights / count, count))


def transport(cost: Floats, supply: Floats, demand: Floats) -> float:
    """Return the least cost of moving `supply` (N,) to `demand` (M,), which each sum to 1; a unit costs `cost` (N, M).

    Raises:
        ArithmeticError: the solver did not reach the optimum.
    """
    size = float(cost.max()) or 1.0  # the solver's tolerances are absolute
    cost = cost / size
    used = _first_pairs(cost, supply, demand)
    few = min(_NEAREST, len(supply)) - 1
    while True:
        value, prices = _solved(cost, supply, demand, used)
        reduced = np.where(used, np.inf, cost - prices[: len(supply), None] - prices[len(supply) :])
        if not (reduced < -_ROUNDING).any():
            return value * size
        used |= (reduced < -_ROUNDING) & (reduced <= np.partition(reduced, few, axis=0)[few])


def _first_pairs(cost: Floats, supply: Floats, demand: Floats) -> Mask:
    """Return pairs (N, M) over which all can be moved, the cheapest of every row and column among them."""
    used = np.zeros(cost.shape, dtype=bool)
    few = min(_NEAREST, *cost.shape)
    used[np.argpartition(cost, few - 1, axis=0)[:few], np.arange(cost.shape[1])] = True
    used[np.arange(len(cost))[:, None], np.argpartition(cost, few - 1, axis=1)[:, :few]] = True
    ends = np.cumsum(supply)[:-1], np.cumsum(demand)[:-1]
    cuts = np.concatenate([[0.0], np.sort(np.concatenate(ends)), [1.0]])
    middles = (cuts[1:] + cuts[:-1]) / 2
    used[np.searchsorted(ends[0], middles), np.searchsorted(ends[1], middles)] = True
    return used


def _solved(cost: Floats, supply: Floats, demand: Floats, used: Mask) -> tuple[float, Floats]:
    """Return the least cost over the pairs that are `used`, and the dual prices (N + M,)."""
    row, column = np.nonzero(used)
    each = np.arange(len(row))
    ends = np.concatenate([row, len(supply) + column])
    sums = csr_array((np.ones(2 * len(row)), (ends, np.tile(each, 2))), shape=(sum(cost.shape), len(row)))
    programme: Any = linprog  # whose stubs know no sparse arrays
    found = programme(cost[used], A_eq=sums, b_eq=np.concatenate([supply, demand]), method="highs-ds")
    if found.status != 0:
        raise ArithmeticError(f"optimal transport was not solved: {found.message}")
    return float(found.fun), found.eqlin.marginals


class WassersteinDependency(Probe):
    """Wasserstein dependency of features and labels, exactly.

    It is with true labels, with those given, with random ones, and what the former two exceed the last by.
    A turn, shift or scale of the features changes nothing, nor do the names of classes. Few items seem dependent
    where they are not: random labels, the mean over `shuffles` permutations of the true ones, show by how much, and
    the excess is the figure to read. A check at the end of stages rather than a curve: seconds at 200 items.
    """

    figures = (
        Metric(name="wasserstein", meaning="Wasserstein dependency of features and true labels"),
        Metric(name="wasserstein_given", meaning="Wasserstein dependency with the labels given"),
        Metric(name="wasserstein_random", meaning="Wasserstein dependency with permuted labels"),
        Metric(
            name="wasserstein_excess",
            meaning="Wasserstein dependency with true labels less that with permuted ones",
        ),
        Metric(name="wasserstein_excess_given", meaning="the same with the labels given"),
    )
    items: int = param(128, "items measured at most", ge=16, unit="items")
    shuffles: int = param(3, "permutations of the true labels", ge=1)

    def measure(self, look: Look, rng: np.random.Generator) -> Mapping[str, float]:
        """Return the figures of a look."""
        found = not_applicable(self.figures)
        if not finite(look):
            return found
        items = items_of(look)
        distances = np.sqrt(squared_distances(items.features))
        scale = median_of_pairs(distances)
        if not scale > 0:
            return found
        distances /= scale
        random = [_of_labels(distances, permuted(items.labels, rng)) for _ in range(self.shuffles)]
        found["wasserstein_random"] = float(np.mean(random))
        for suffix, labels in (("", items.labels), ("_given", items.given)):
            found[f"wasserstein{suffix}"] = _of_labels(distances, labels)
            found[f"wasserstein_excess{suffix}"] = found[f"wasserstein{suffix}"] - found["wasserstein_random"]
        return found


def _of_labels(distances: Floats, labels: IntArray) -> float:
    shown = np.flatnonzero(labels != HIDDEN)
    if not len(shown):
        return NAN
    names, counts = np.unique(labels[shown], return_counts=True)
    apart = (labels[shown][:, None] != names).astype(np.float64)
    return dependency(distances[np.ix_(shown, shown)], apart, counts / len(shown))
