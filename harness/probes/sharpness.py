"""Sharpness of predictions: rank and likelihood apart. A learner can rank classes better while it grows too sure.

With p the softmax of the logits of an item and y its label: top-1 accuracy says whether y has the largest p; the
negative log-likelihood -log p_y, entropy -sum p log p and the calibration error say whether p means what it says. In
nats: where predictions are calibrated, entropy and negative log-likelihood agree on average.

Sources: Carlsson et al. 2024 (arXiv 2412.04318) for sharp predictions that rank well and fit badly; Guo et al. 2017
(arXiv 1706.04599) for the calibration error.

Legend: N items, C rows of the classifier.

>>> p = np.array([[0.9, 0.1], [0.3, 0.7]])
>>> round(calibration_error(p, np.array([0, 0])), 9)  # sure by 0.9 and right, by 0.7 and wrong
0.4
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_softmax, xlogy

from harness.contracts import IntArray, Metric, param
from harness.probes.contract import Look, Probe
from harness.probes.items import Floats, not_applicable


def probabilities(logits: ArrayLike) -> Floats:
    """Return the softmax (N, C) of `logits` (N, C), float64."""
    p: Floats = np.exp(log_softmax(np.asarray(logits, dtype=np.float64), axis=1))
    return p


def mean_entropy(p: Floats) -> float:
    """Return the mean entropy in nats of probabilities (N, C)."""
    return float(-xlogy(p, p).sum(axis=1).mean())


def negative_log_likelihood(logits: ArrayLike, labels: IntArray) -> float:
    """Return the mean of -log p_y in nats of `logits` (N, C) and labels (N,), each below C."""
    of_labels = log_softmax(np.asarray(logits, dtype=np.float64), axis=1)[np.arange(len(labels)), labels]
    return float(-of_labels.mean())


def calibration_error(p: Floats, labels: IntArray, bins: int = 10) -> float:
    """Return the expected calibration error of probabilities (N, C) and labels (N,).

    Items go by their largest probability into `bins` parts of (0, 1] of one width, closed above; the distance of a
    part's accuracy from its mean probability is averaged over items.
    """
    confidence, right = p.max(axis=1), (p.argmax(axis=1) == labels).astype(np.float64)
    part = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gap = np.bincount(part, weights=right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(labels))


class Sharpness(Probe):
    """How sure predictions are, and whether they are right.

    Likelihood, calibration and top-1 accuracy are of items whose true label is known and has a row in the classifier.
    Nothing depends on the features, nor on the order of items or classes, nor on a constant added to the logits of an
    item.
    """

    needs = ("logits",)
    figures = (
        Metric(name="entropy", better="lower", meaning="mean entropy of predictions, nats"),
        Metric(name="near_certain", meaning="share of items with a probability above the bound"),
        Metric(name="nll", better="lower", meaning="negative log-likelihood of true labels, nats"),
        Metric(name="ece", better="lower", meaning="expected calibration error"),
        Metric(name="top1", meaning="accuracy of the most probable class"),
    )
    above: float = param(0.99, "probability above which a prediction is near certain", gt=0, lt=1)
    bins: int = param(10, "parts of the calibration error", ge=1)

    def measure(self, look: Look, rng: np.random.Generator) -> Mapping[str, float]:
        """Return the figures of a look."""
        found = not_applicable(self.figures)
        logits = np.asarray(look.logits, dtype=np.float64)
        if not (np.isfinite(logits).all() and logits.size):
            return found
        p = probabilities(logits)
        found["entropy"] = mean_entropy(p)
        found["near_certain"] = float((p.max(axis=1) > self.above).mean())
        shown = (look.labels >= 0) & (look.labels < p.shape[1])
        if shown.any():
            labels = look.labels[shown]
            found["nll"] = negative_log_likelihood(logits[shown], labels)
            found["ece"] = calibration_error(p[shown], labels, self.bins)
            found["top1"] = float((p[shown].argmax(axis=1) == labels).mean())
        return found
