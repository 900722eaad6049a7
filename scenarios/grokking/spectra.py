"""What the weights of a quadratic network say at the end: spectra of its neurons, and what it predicts
without some of them.

Neurons are removed by their inverse participation ratio, low ones first, high ones first, and, as a control
of equal size, in five random orders. No weight is trained again. Pruning speaks of the weights alone: where
they do not give the answers (batch norm has a part in them), its figures are NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness import seeds
from harness.contracts import AnyArray, IntArray
from harness.metrics import grokking as figures
from harness.metrics.grokking import Fates, Floats

LEVELS = np.arange(0, 101, 2) / 100
"""Shares of the neurons that are removed."""

ORDERS = ("low first", "high first", "random")
CURVES = ("memorised", "test", "clean", "train")
DRAWS = 5
_SAME = 0.99

SUMMARIES = (
    "prune_memorised_drop",
    "prune_memorised_drop_high",
    "prune_memorised_drop_random",
    "prune_best_test",
    "prune_best_test_high",
    "prune_best_test_random",
)
FIGURES = ("ipr_mean", "dead_neurons", "high_ipr_share", *SUMMARIES)


class Spectrum(NamedTuple):
    """figures by name; ratios float64 (N,), N = 0 without weights; pruning float64 (orders, curves, levels),
    or None.
    """

    figures: Mapping[str, float]
    ratios: Floats
    pruning: NDArray[np.float64] | None


class QueryItems(NamedTuple):
    """The pairs of a query, with everything known: int64 (n, 2), (n,), (n,), and bool (n,) three times."""

    pairs: IntArray
    labels: IntArray
    given: IntArray
    train: NDArray[np.bool_]
    corrupted: NDArray[np.bool_]
    wrong: NDArray[np.bool_]

    def fates(self, predicted: IntArray) -> Fates:
        """Return what `predicted` (n,) makes of the pairs."""
        return figures.fates(
            predicted, self.labels, self.given, train=self.train, corrupted=self.corrupted, wrong=self.wrong
        )


def spectrum_of(
    weights: AnyArray | None, items: QueryItems, predicted: IntArray, *, modulus: int
) -> Spectrum:
    """Return what weights (3, N, p) say; `predicted` (n,) is what the learner answered with them. Any other
    weights say nothing.
    """
    if weights is None or weights.ndim != 3 or (weights.shape[0], weights.shape[2]) != (3, modulus):
        return Spectrum(dict.fromkeys(FIGURES, figures.NAN), np.zeros(0), None)
    ratios, dead = figures.neuron_ipr(weights), figures.dead_neurons(weights)
    found = {
        "ipr_mean": float(ratios.mean()),
        "dead_neurons": float(dead.sum()),
        "high_ipr_share": float((ratios > figures.HIGH).mean()),
    }
    order = np.argsort(ratios, kind="stable").astype(np.int64)
    low = figures.pruned_predictions(weights, items.pairs, order, LEVELS)
    if (low[0] == predicted).mean() < _SAME:
        return Spectrum({**found, **dict.fromkeys(SUMMARIES, figures.NAN)}, ratios, None)
    shuffled = [
        seeds.stream("pruned", seed=draw).permutation(len(order)).astype(np.int64) for draw in range(DRAWS)
    ]
    others = [
        figures.pruned_predictions(weights, items.pairs, own, LEVELS) for own in (order[::-1], *shuffled)
    ]
    each = [_curves(predictions, items) for predictions in (low, *others)]
    pruning = np.stack([each[0], each[1], np.mean(each[2:], axis=0)])
    for name, curves in zip(("", "_high", "_random"), pruning, strict=True):
        memorised, test, *_ = curves
        found[f"prune_memorised_drop{name}"] = figures.painless_drop(memorised, test)
        found[f"prune_best_test{name}"] = float(test.max())
    return Spectrum(found, ratios, pruning)


def _curves(predictions: IntArray, items: QueryItems) -> Floats:
    """Return the shares (curves, levels) of predictions (levels, n)."""
    each = [items.fates(predicted)._asdict() for predicted in predictions]
    return np.array([[fates[name] for fates in each] for name in CURVES])
