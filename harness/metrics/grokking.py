"""Figures of late generalisation under wrong labels: fates of rows, times, phases, spectra of neurons,
pruning, and finding wrong labels.

T are the training rows, C those of them whose label is really wrong, K those never chosen for corruption, S
the test rows. A row that was chosen and drew its true label belongs to neither C nor K. Times are gradient
steps at which a learner was looked at, and NaN where nothing of the kind was seen within the budget (a
censored time).

Sources: Doshi et al. 2024 ("To grok or not to grok", arXiv 2310.13061) for phases, inverse participation
ratio and pruning; Prieto et al. 2025 (arXiv 2501.04697) for numerical health.

>>> first_held(np.array([5, 10, 15, 20]), np.array([1.0, 0.2, 1.0, 1.0]) >= 0.9, holding=2)
15.0
>>> bool(np.isclose(ipr(np.cos(2 * np.pi * 3 * np.arange(11) / 11)), 1))
True
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

Phase = Literal[
    "generalised",
    "coexistence",
    "partial_inversion",
    "full_inversion",
    "memorisation",
    "forgetting",
    "confusion",
]
PublishedPhase = Literal[
    "coexistence", "partial_inversion", "full_inversion", "memorisation", "forgetting_or_confusion"
]
PHASES: tuple[Phase, ...] = get_args(Phase)
PUBLISHED_PHASES: tuple[PublishedPhase, ...] = get_args(PublishedPhase)

HEALTH = (
    "zero_loss_fraction",
    "softmax_collapse",
    "largest_logit",
    "weight_norm",
    "update_along_weights",
    "zero_gradient_share",
)
"""What stands where in the field `health` of a prediction, all over the training rows:

zero_loss_fraction: share of rows whose loss is exactly 0.
softmax_collapse: share of rows where the label given has the largest logit AND sum exp(z - max z) == 1 in the
precision of the loss.
largest_logit: max |z|.  weight_norm: Euclidean norm of all weights.
update_along_weights: cosine of the last update with minus the weights.  zero_gradient_share: share of
gradient entries exactly 0.
"""

HIGH = 0.5
"""An inverse participation ratio above which a neuron counts as periodic; nothing lies near it where memory
and rule coexist.
"""

NAN = float("nan")
_ROUNDING = 1e-9
_CHUNK = 512
"""Rows whose logits stay in the cache while neurons are added."""


class Fates(NamedTuple):
    """Shares of rows: T predicted as given, K predicted right, C predicted as given, C predicted right, S
    predicted right.
    """

    train: float
    clean: float
    memorised: float
    recovered: float
    test: float


def fates(predicted: Ints, labels: Ints, given: Ints, *, train: Mask, corrupted: Mask, wrong: Mask) -> Fates:
    """Return the shares; NaN where there is no such row. All arguments are (N,); rows outside `train` are the
    test.
    """
    right, as_given = predicted == labels, predicted == given
    return Fates(
        train=_share(as_given[train]),
        clean=_share(right[train & ~corrupted]),
        memorised=_share(as_given[wrong]),
        recovered=_share(right[wrong]),
        test=_share(right[~train]),
    )


# --- times --------------------------------------------------------------------------------------------------


def first_held(steps: ArrayLike, reached: ArrayLike, *, holding: int = 3) -> float:
    """Return the first of `steps` (n,) at which `reached` (n,) is true, and at the next ones too, `holding`
    looks together; else NaN.

    A threshold crossed at the last look counts only where it held: looks that were not taken hold nothing.
    """
    held = np.asarray(reached, dtype=bool)
    if len(held) < holding:
        return NAN
    together = np.lib.stride_tricks.sliding_window_view(held, holding).all(axis=1)
    return float(np.asarray(steps)[int(np.argmax(together))]) if together.any() else NAN


def time_of_inversion(steps: ArrayLike, memorised: ArrayLike) -> float:
    """Return the first step after wrong labels were memorised (0.9) at which they are no more (0.05, three
    looks); else NaN.
    """
    shares = np.asarray(memorised, dtype=np.float64)
    return first_held(steps, (np.maximum.accumulate(shares) >= 0.9) & (shares <= 0.05))


def mean_over_steps(steps: ArrayLike, shares: ArrayLike) -> float:
    """Return the mean over steps 0 to the last one; a look stands for the steps since the look before it. NaN
    without looks.
    """
    at, values = np.asarray(steps, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    return float(values @ np.diff(at, prepend=0.0) / at[-1]) if len(at) else NAN


def has_forgotten(test: ArrayLike) -> bool:
    """Return whether test accuracy (n,) was 0.9 at some look and is less at the last one."""
    shares = np.asarray(test, dtype=np.float64)
    return bool(len(shares) and shares.max() >= 0.9 and shares[-1] < 0.9)


# --- phases -------------------------------------------------------------------------------------------------


def phase(last: Fates, *, forgotten: bool) -> Phase:
    """Return the phase that the last look shows; where no label is wrong, `memorised` is NaN and nothing can
    be inverted.
    """
    nothing_wrong = bool(np.isnan(last.memorised))
    if last.test >= 0.9:
        if nothing_wrong:
            return "generalised"
        if last.memorised >= 0.9:
            return "coexistence"
        return "partial_inversion" if last.memorised > 0.05 else "full_inversion"
    if forgotten:
        return "forgetting"
    return "memorisation" if last.clean >= 0.9 and (nothing_wrong or last.memorised >= 0.9) else "confusion"


def published_phase(train: float, test: float, corruption: float) -> PublishedPhase:
    """Return the phase by table 2 of Doshi et al., from shares of T and S predicted as given and the share of
    labels corrupted.

    It cannot see an inversion up to a corruption of 0.10 (a network that ignores every wrong label still fits
    0.9), and has no partial one up to 0.15, so it is reported beside `phase` and not instead of it.
    """
    if test < 0.9:
        return "memorisation" if train >= 0.9 else "forgetting_or_confusion"
    if train >= 0.9:
        return "coexistence"
    return "partial_inversion" if train >= 1.05 - corruption - _ROUNDING else "full_inversion"


# --- spectra of neurons -------------------------------------------------------------------------------------


def ipr(rows: ArrayLike) -> Floats:
    """Return the inverse participation ratio of the last axis, sum |X|^4 / (sum |X|^2)^2, X its one-sided
    real Fourier transform.

    1 is a single frequency; 1 / (p // 2 + 1) is the least. A row of zeros has 0 (the released code divides 0
    by 0).
    """
    power = np.square(
        np.abs(np.fft.rfft(np.asarray(rows, dtype=np.float64), axis=-1))
    )  # decayed weights are as small as 1e-40
    total = np.square(power.sum(axis=-1))
    found: Floats = np.divide(np.square(power).sum(axis=-1), total, out=np.zeros_like(total), where=total > 0)
    return found


def neuron_ipr(weights: ArrayLike) -> Floats:
    """Return the ratio of every neuron: the mean over its row of U, its row of V and its column of W.

    Args:
        weights: (..., 3, N, p), rows of U, rows of V, columns of W.

    Returns:
        float64 (..., N).
    """
    return np.asarray(ipr(weights).mean(axis=-2))


def dead_neurons(weights: ArrayLike) -> Mask:
    """Return which neurons have a row of nothing but zeros, (..., N), from weights (..., 3, N, p)."""
    return np.asarray((np.asarray(weights) == 0).all(axis=-1).any(axis=-2))


# --- pruning ------------------------------------------------------------------------------------------------


def pruned_predictions(weights: ArrayLike, pairs: Ints, order: Ints, levels: Floats) -> Ints:
    """Return what the network f = W (U e_x + V e_y)^2 predicts after its first neurons in `order` are gone, a
    row for every level.

    Args:
        weights: (3, N, p).
        pairs: int64 (n, 2), operands.
        order: int64 (N,), the neurons in order of removal.
        levels: (L,) ascending shares of the neurons that are removed, rounded to whole neurons.

    Returns:
        int64 (L, n); ties go to the lower class, so that a network without neurons answers class 0.
    """
    u, v, w = np.asarray(weights, dtype=np.float64)[:, order]  # so that no other machine sees another argmax
    gone = np.round(np.asarray(levels) * len(order)).astype(int)
    found = np.zeros((len(gone), len(pairs)), dtype=np.int64)
    for first in range(0, len(pairs), _CHUNK):
        own = slice(first, first + _CHUNK)
        hidden = np.square(u.T[pairs[own, 0]] + v.T[pairs[own, 1]])
        logits = np.zeros((len(hidden), w.shape[1]))
        end = len(order)
        for level in reversed(
            range(len(gone))
        ):  # upwards from nothing, so that every neuron is multiplied once
            start = int(gone[level])
            if start < end:
                logits += hidden[:, start:end] @ w[start:end]
                end = start
            found[level, own] = logits.argmax(axis=1)
    return found


def painless_drop(memorised: ArrayLike, test: ArrayLike) -> float:
    """Return by how much `memorised` (L,) falls at most while `test` (L,) stays within a point of its value
    at the first level.
    """
    shares, tests = np.asarray(memorised, dtype=np.float64), np.asarray(test, dtype=np.float64)
    return float(shares[0] - shares[tests >= tests[0] - 0.01].min())


# --- finding wrong labels -----------------------------------------------------------------------------------


def smallest(losses: NDArray[Any], size: int) -> Mask:
    """Return which `size` of the losses (n,) are the smallest, ties in order of the rows."""
    kept = np.zeros(len(losses), dtype=np.bool_)
    kept[np.argsort(losses, kind="stable")[:size]] = True
    return kept


def _share(hits: Mask) -> float:
    return float(hits.mean()) if len(hits) else NAN
