"""The model of perturbed collapse: how far features would still collapse, trained freely from where they are.

Features H0 (d, N), one-hot labels Y (C, N); minimise |W H - Y|^2 / (2 N) + a / 2 |W|^2 + b / 2 |H - H0|^2 over the rows
W of a classifier and features H, that is a layer that may move the features it gets at a price. A small price b
collapses them, a large one holds them where they are.

Source: Tirer, Huang and Niles-Weed 2023 (arXiv 2210.16658), from the paper's model; the steps are ours: W and H are
solved for in turn, each in closed form, from H0 on.

Legend: N items, d features, C classes.

>>> x = np.array([[1.0], [1.0], [-1.0], [-1.0]])
>>> round(float(minimiser(x, np.array([0, 0, 1, 1]), 0.1, 1e9).features[0, 0]), 6)  # nothing moves at that price
1.0
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from harness.contracts import HIDDEN, IntArray, Metric, param
from harness.probes.contract import Look, Probe
from harness.probes.items import NAN, Floats, finite, not_applicable
from harness.probes.neural_collapse import by_class, quotient

_ROUNDING = 1e-13


class Minimiser(NamedTuple):
    """Where the model comes to rest: features (N, d), and rows of the classifier (C, d), classes rising."""

    features: Floats
    head: Floats


def minimiser(
    features: ArrayLike, labels: IntArray, head_decay: float, price: float, rounds: int = 20_000
) -> Minimiser:
    """Return the minimum that is reached from `features` (N, d) and their labels (N,), in at most `rounds` rounds of
    solving for the classifier, whose weight decay is `head_decay`, and for the features, which cost `price` to move.
    """
    start = np.asarray(features, dtype=np.float64)
    names, index = np.unique(labels, return_inverse=True)
    targets = (index[:, None] == np.arange(len(names))).astype(np.float64)
    count, size = start.shape
    same, x = np.eye(size), start
    for _ in range(rounds):
        head = np.linalg.solve(x.T @ x + count * head_decay * same, x.T @ targets).T
        moved = np.linalg.solve(
            head.T @ head / count + price * same, (targets @ head / count + price * start).T
        ).T
        change, x = np.linalg.norm(moved - x), moved
        if change <= _ROUNDING * np.linalg.norm(x):
            break
    return Minimiser(x, head)


def nearness(features: ArrayLike, before: ArrayLike) -> float:
    """Return |x - x0| / |x0|, Frobenius norms, of `features` (N, d) and the same items' `before`; NaN where x0 is 0."""
    x, start = np.asarray(features, dtype=np.float64), np.asarray(before, dtype=np.float64)
    size = np.linalg.norm(start)
    return float(np.linalg.norm(x - start) / size) if size else NAN


class Perturbation(Probe):
    """Collapse that is still to come by the model of perturbed collapse.

    With true labels and with those given: NC1 where features would come to rest, how much less that is than NC1 now,
    and how far they would move.
    Features are scaled to a mean squared length of 1 first, so a turn or a scale changes nothing. Where classes are
    apart already nothing is left to collapse, and the share is near 0. Cost: O(N d^2) a round.
    """

    figures = (
        Metric(name="nc1_ahead", better="lower", meaning="NC1 where the model comes to rest, true labels"),
        Metric(
            name="nc1_ahead_given", better="lower", meaning="NC1 where the model comes to rest, labels given"
        ),
        Metric(
            name="left", better="lower", meaning="share of NC1 that the model still takes away, true labels"
        ),
        Metric(
            name="left_given", better="lower", meaning="share of NC1 that the model takes away, labels given"
        ),
        Metric(name="moved", better="lower", meaning="relative distance that features move, true labels"),
        Metric(
            name="moved_given", better="lower", meaning="relative distance that features move, labels given"
        ),
    )
    head_decay: float = param(0.001, "weight decay of the classifier", gt=0)
    price: float = param(0.01, "price of moving features, half of it for a squared distance of 1", gt=0)
    rounds: int = param(100, "rounds at most", ge=1)

    def measure(self, look: Look, rng: np.random.Generator) -> Mapping[str, float]:
        """Return the figures of a look."""
        found = not_applicable(self.figures)
        if not finite(look):
            return found
        features = np.asarray(look.features, dtype=np.float64)
        for suffix, labels in (("", look.labels), ("_given", look.given)):
            shown = labels != HIDDEN
            size = np.linalg.norm(features[shown])
            if not size > 0:
                continue
            x, y = features[shown] * np.sqrt(shown.sum()) / size, labels[shown]
            rest = minimiser(x, y, self.head_decay, self.price, self.rounds).features
            now, ahead = quotient(by_class(x, y)), quotient(by_class(rest, y))
            found |= {
                f"nc1_ahead{suffix}": ahead,
                f"left{suffix}": 1 - ahead / now if now > 0 else NAN,
                f"moved{suffix}": nearness(rest, x),
            }
        return found
