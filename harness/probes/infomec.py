"""InfoMEC: whether latents are modular, explicit and compact about known sources of variation.

With NMI_ij = I(s_i; z_j) / H(s_i) of source i and latent j, over the latents that vary:
modularity InfoM, a latent is about one source: (mean_j max_i NMI_ij / sum_i NMI_ij - 1 / S) / (1 - 1 / S);
compactness InfoC, a source is in one latent: the same with i and j exchanged;
explicitness InfoE, a source can be read off linearly: (H_0 - H_1) / H_0, mean over sources, with H_1 the log loss of a
class-balanced logistic regression from all latents, and H_0 that from nothing.

Source: Hsu et al. 2023 (NeurIPS, arXiv 2305.18378), github.com/kylehkhsu/latent_quantization at 9a420a3,
disentangle/metrics/infomec.py. A continuous latent's information is that of Ross 2014 (PLoS ONE 9(2)) by 10 nearest
neighbours; a latent varies if its range is above a twentieth of the largest.

Legend: N items, S sources, L latents.

>>> nmi = np.array([[0.9, 0.0, 0.1], [0.0, 0.6, 0.1]])
>>> [round(float(figure), 9) for figure in (modularity(nmi), compactness(nmi))]
[0.666666667, 0.817857143]
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import psi

from harness.contracts import IntArray
from harness.probes.items import NAN, Floats, Mask


def modularity(nmi: ArrayLike) -> float:
    """Return InfoM of normalised information (S, L) of sources and latents that vary; NaN with fewer than two sources,
    or where a latent knows nothing of any.
    """
    return _concentrated(np.asarray(nmi, dtype=np.float64))


def compactness(nmi: ArrayLike) -> float:
    """Return InfoC of normalised information (S, L); NaN with fewer than two latents, or where a source is in none."""
    return _concentrated(np.asarray(nmi, dtype=np.float64).T)


def _concentrated(shares: Floats) -> float:
    """Return how much of each column's sum is in its largest row, from 0, spread evenly, to 1."""
    rows, sums = len(shares), shares.sum(axis=0)
    if rows < 2 or not len(sums) or not (sums > 0).all():
        return NAN
    return float(((shares.max(axis=0) / sums).mean() - 1 / rows) / (1 - 1 / rows))


def varying(latents: ArrayLike) -> Mask:
    """Return which of `latents` (N, L) vary: floats by more than a twentieth of the largest range, integers at all."""
    z = np.asarray(latents)
    ranges = np.ptp(z, axis=0)
    found: Mask = ranges > (0 if z.dtype.kind in "iu" else ranges.max() / 20)
    return found


def normalised_information(sources: IntArray, latents: ArrayLike, neighbours: int = 10) -> Floats:
    """Return I(s_i; z_j) / H(s_i) (S, L) of sources, int64 (N, S), and `latents` (N, L); NaN for a constant source.

    Integer latents have it from counts, others by nearest neighbours.
    """
    z = np.asarray(latents)
    count = z.dtype.kind in "iu"
    rows = []
    for source in np.asarray(sources).T:
        own = of_counts(source, source)
        known = [
            of_counts(source, latent) if count else of_neighbours(source, latent, neighbours)
            for latent in z.T
        ]
        rows.append(np.array(known) / own if own > 0 else np.full(len(known), NAN))
    return np.array(rows)


def of_counts(one: IntArray, other: IntArray) -> float:
    """Return mutual information in nats of two integers (N,), from counts."""
    _, i = np.unique(one, return_inverse=True)
    _, j = np.unique(other, return_inverse=True)
    table = np.zeros((i.max() + 1, j.max() + 1))
    np.add.at(table, (i, j), 1 / len(i))
    rows, columns = np.nonzero(table)
    product = table.sum(axis=1)[rows] * table.sum(axis=0)[columns]
    return max(0.0, float((table[rows, columns] * np.log(table[rows, columns] / product)).sum()))


def of_neighbours(source: IntArray, latent: ArrayLike, neighbours: int = 10) -> float:
    """Return mutual information in nats of integers (N,) and a continuous latent (N,), after Ross 2014; 0 if below.

    An item's radius is the distance of its `neighbours`-th neighbour of the same source value, of which it needs one
    at least; what is counted is how many items of any value lie nearer than that.
    """
    z = np.asarray(latent, dtype=np.float64)
    _, index, counts = np.unique(source, return_inverse=True, return_counts=True)
    kept = counts[index] > 1
    if not kept.any():
        return 0.0
    z, index = z[kept], index[kept]
    distances = np.abs(z[:, None] - z)
    radius, used = np.empty(len(z)), np.minimum(neighbours, counts - 1)[index]
    for value in np.unique(index):
        rows = np.flatnonzero(index == value)
        k = used[rows[0]]
        radius[rows] = np.partition(distances[np.ix_(rows, rows)], k, axis=1)[:, k]
    inside = (distances <= np.nextafter(radius, 0)[:, None]).sum(axis=1)
    found = psi(len(z)) + (psi(used) - psi(counts[index]) - psi(inside)).mean()
    return max(0.0, float(found))


class Explicitness(NamedTuple):
    """InfoE on the items that the regressions were fitted to, which is too high; on items held out; and whether all
    regressions came to their end within 100 steps.
    """

    fitted: float
    held_out: float
    converged: bool


def explicitness(sources: IntArray, latents: ArrayLike) -> Explicitness:
    """Return InfoE of sources, int64 (N, S), and `latents` (N, L); integer latents are one-hot.

    H_0 is log K for a source of K values, as classes are balanced. For the figure on items held out, regressions are
    fitted to every other item and tried on the rest, those of a value that was not fitted left out. NaN for a constant
    source.
    """
    x = _regressors(np.asarray(latents))
    whole, parts, ends = [], [], []
    fitted = np.arange(len(x)) % 2 == 0
    for source in np.asarray(sources).T:
        values = len(np.unique(source))
        if values < 2:
            return Explicitness(NAN, NAN, True)
        loss, end = _log_loss(x, source, x, source)
        whole.append(1 - loss / np.log(values))
        ends.append(end)
        tried = ~fitted & np.isin(source, source[fitted])
        seen = len(np.unique(source[fitted]))
        loss, end = _log_loss(x[fitted], source[fitted], x[tried], source[tried]) if seen > 1 else (NAN, True)
        parts.append(1 - loss / np.log(seen) if seen > 1 else NAN)
    return Explicitness(float(np.mean(whole)), float(np.mean(parts)), all(ends))


def _regressors(latents: NDArray[Any]) -> Floats:
    if latents.dtype.kind in "iu":
        return np.concatenate([(z[:, None] == np.unique(z)).astype(np.float64) for z in latents.T], axis=1)
    spread = latents.std(axis=0)
    scaled: Floats = (latents - latents.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return scaled


def _log_loss(x: Floats, y: IntArray, others: Floats, truth: IntArray) -> tuple[float, bool]:
    """Return the log loss in nats on `others` of a class-balanced regression without penalty, and whether it ended."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=np.inf, class_weight="balanced", max_iter=100).fit(x, y)
    loss = float(log_loss(truth, model.predict_proba(others), labels=model.classes_))
    return loss, bool((model.n_iter_ < 100).all())
