"""Part-dependent label noise: what an item looks like decides what it is taken for (Xia et al. 2020,
algorithm 2 and released tools.py).

1. An item's own rate q is normal around the rate, cut off to [0, 1].
2. Every true class y has a projection W[y], S x K, standard normal.
3. a = x W[y] / temperature; the true class is left out; P = q * softmax(a), and 1 - q for the true class.

As published x are the raw pixels, so the logits are huge and the softmax is all but one-hot: with 8-bit
images the likeliest wrong class has all the chance, and since images share a large mean, nearly all items of
a class go to one or two others. That is a pair flip in disguise. Standardised features and a temperature
equal to the logits' own scale (`temperature=0`) leave the choice to the item.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import truncnorm

from harness.contracts import IntArray
from harness.errors import UserError

Features = Literal["raw", "unit", "standardise"]
Matrix = NDArray[np.float64]


def part_dependent(
    inputs: NDArray[Any],
    labels: IntArray,
    n_classes: int,
    rng: np.random.Generator,
    *,
    rate: float,
    std: float,
    features: Features,
    temperature: float,
) -> Matrix:
    """Return P(label = j) for every item, float64 (N, K), rows summing to one.

    Args:
        inputs: (N, S) raw items, uint8 or float.
        labels: int64 (N,) true classes.
        n_classes: K, at least two.
        rng: draws rates and projections.
        rate, std: mean and standard deviation of the items' own rates.
        features: what the projection sees.
        temperature: the logits are divided by it; 0 for their root mean square.
    """
    if n_classes < 2:
        raise UserError("instance-dependent noise needs at least two classes")
    rates = _rates(len(labels), rate, std, rng)
    standardised = prepared(inputs, features)
    logits = np.empty((len(labels), n_classes))
    for label in range(n_classes):
        projection = rng.normal(
            size=(standardised.shape[1], n_classes)
        )  # one at a time: K of them would be K^2 S numbers
        own = labels == label
        logits[own] = standardised[own] @ projection
    logits /= temperature or max(float(np.sqrt(np.mean(np.square(logits)))), 1e-12)
    rows = np.arange(len(labels))
    logits[rows, labels] = -np.inf
    chances = rates[:, None] * softmax(logits, axis=1)
    chances[rows, labels] = 1 - rates
    return np.asarray(chances)


def prepared(inputs: NDArray[Any], features: Features) -> Matrix:
    """Return items as float64 (N, S): as they are, with the whole set scaled to [0, 1], or every feature with
    mean 0 and variance 1.
    """
    flat = inputs.reshape(len(inputs), -1).astype(np.float64)
    if features == "unit":
        low, high = flat.min(), flat.max()
        return np.asarray((flat - low) / max(high - low, 1e-12))
    if features == "standardise":
        return np.asarray((flat - flat.mean(axis=0)) / np.maximum(flat.std(axis=0), 1e-8))
    return flat


def entropy(chances: Matrix, labels: IntArray) -> float:
    """Return how open the choice among the wrong classes is, in [0, 1]: mean entropy of P without the true
    class over log(K - 1).
    """
    rows = np.arange(len(labels))
    wrong = chances.copy()
    wrong[rows, labels] = 0
    totals = wrong.sum(axis=1, keepdims=True)
    shares = np.divide(wrong, totals, out=np.zeros_like(wrong), where=totals > 0)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    each = -(shares * logs).sum(axis=1)[totals[:, 0] > 0]
    return float(each.mean() / np.log(chances.shape[1] - 1)) if len(each) and chances.shape[1] > 2 else 0.0


def _rates(size: int, rate: float, std: float, rng: np.random.Generator) -> NDArray[np.float64]:
    if std == 0:
        return np.full(size, rate)
    return np.asarray(
        truncnorm.rvs(-rate / std, (1 - rate) / std, loc=rate, scale=std, size=size, random_state=rng)
    )
