"""k-means by faiss, k-means with pinned labelled points, and how many clusters there are.

Everything is float32 and deterministic by the generator that is handed in; the number of threads is faiss's
own (`OMP_NUM_THREADS`, which the pool sets per worker). A GPU is used where faiss was built for one and finds
it.

Squares of float32 numbers leave the format beyond 1e19 and below 1e-23. Points that are so large or small are
divided by a power of two, which rounds nothing, and results are multiplied back; where that cannot help, one
sentence names the point.

Legend: N points, D dimensions, K clusters, L labelled points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.errors import Diverged, UserError

Points = NDArray[np.float32]
Labels = NDArray[np.int64]

_EARLY_STOP = 1e-4
"""faiss ends a start when an iteration improves the objective by less than this share."""

_SKETCH = 64
"""Dimensions in which starts are seeded."""

_ORDINARY = 40
"""Points whose largest entry lies between 2^-41 and 2^40 are clustered as they are: squares and sums of
squares fit into float32.
"""

_FAINT = 60
"""Squares of numbers below 2^-60 are about to leave float32."""


class Clustering(NamedTuple):
    """centres float32 (K, D); labels int64 (N,) the nearest centre of every point; objective: sum of squared
    distances to it.
    """

    centres: Points
    labels: Labels
    objective: float


def kmeans(
    points: NDArray[Any],
    k: int,
    rng: np.random.Generator,
    *,
    restarts: int = 10,
    iterations: int = 100,
    spherical: bool = False,
) -> Clustering:
    """Return the best of several starts of k-means, each seeded by greedy k-means++ (Arthur and Vassilvitskii
    2007).

    faiss's own seeding is the plain form; on forty separate clusters it ended 12 % above scikit-learn's
    objective, greedy seeding does not.

    Args:
        points: (N, D); with `spherical` they are scaled to unit length first, whatever their length.
        k: clusters, at most N.
        rng: decides on the starts.
        restarts: starts; the one with the smallest objective counts.
        iterations: most iterations of a start.
        spherical: keep centres at unit length and assign by cosine.

    Raises:
        UserError: k outside [1, N], or no table of points.
        Diverged: a point that is not finite, or so large that another vanishes beside it.
    """
    import faiss

    data = unit(points) if spherical else _finite(points)
    if not 1 <= k <= len(data):
        raise UserError(f"{k} clusters cannot be made of {len(data)} points")
    exponent = _exponent({"point": data})
    data = _over(data, exponent)
    machine = faiss.Kmeans(
        data.shape[1],
        k,
        niter=iterations,
        spherical=spherical,
        seed=int(rng.integers(2**31)),
        gpu=_has_gpu(),
        early_stop_threshold=_EARLY_STOP,
        max_points_per_centroid=2**31 - 1,
        min_points_per_centroid=1,
    )

    sketch = _sketch(data, rng)

    def start() -> Clustering:
        seeds = _seeds(sketch, sketch[:0], k, rng)
        machine.train(data, init_centroids=data[seeds])
        centres = np.array(machine.centroids, dtype=np.float32)
        labels, distances = _nearest(data, centres)
        return Clustering(centres, labels, float(distances.sum(dtype=np.float64)))

    return _best_of(restarts, start, exponent)


def pinned_kmeans(
    points: NDArray[Any],
    labelled: NDArray[Any],
    classes: NDArray[Any],
    k: int,
    rng: np.random.Generator,
    *,
    restarts: int = 10,
    iterations: int = 100,
) -> Clustering:
    """Return semi-supervised k-means: labelled points stay in their class (Vaze et al. 2022, "Generalized
    Category Discovery").

    Centres 0 to C - 1 start as the means of the C labelled classes, the rest by k-means++ on `points`; a
    centre that loses all its points stays where it is. A start ends when the centres no longer move: by less
    than 0.01 in sum, where points are so large or small that they are scaled, of the power of two above their
    largest entry.

    Args:
        points: (N, D) without labels.
        labelled: (L, D).
        classes: int (L,) in [0, C), every class at least once.
        k: clusters, at least C.
        rng: decides on the starts.
        restarts: starts; the smallest objective over labelled and unlabelled points counts.
        iterations: most iterations of a start.

    Returns:
        The clustering of `points`; its objective includes the labelled ones.

    Raises:
        UserError: fewer clusters than classes, classes with gaps, or more new clusters than points.
        Diverged: a point that is not finite, or so large that another vanishes beside it.
    """
    data, fixed = _finite(points), _finite(labelled, "labelled point")
    exponent = _exponent({"point": data, "labelled point": fixed})
    data, fixed = _over(data, exponent), _over(fixed, exponent)
    known = np.asarray(classes, dtype=np.int64)
    counts = np.bincount(known, minlength=1)
    if not len(known) or (counts == 0).any():
        raise UserError("classes should be numbered from 0 without gaps, with a labelled point each")
    if not len(counts) <= k <= len(counts) + len(data):
        raise UserError(
            f"{k} clusters cannot be made of {len(counts)} labelled classes and {len(data)} points"
        )
    fixed_sums = _sums(fixed, known, k)
    fixed_counts = np.bincount(known, minlength=k)
    means = (fixed_sums[: len(counts)] / counts[:, None]).astype(np.float32)

    sketch = _sketch(np.concatenate([means, data]), rng)

    def start() -> Clustering:
        seeds = _seeds(sketch[len(means) :], sketch[: len(means)], k - len(means), rng)
        centres = np.concatenate([means, data[seeds]])
        for _ in range(iterations):
            labels, _ = _nearest(data, centres)
            total = fixed_counts + np.bincount(labels, minlength=k)
            sums = fixed_sums + _sums(data, labels, k)
            moved = np.where(total[:, None] > 0, sums / np.maximum(total, 1)[:, None], centres).astype(
                np.float32
            )
            shift = float(np.linalg.norm(moved - centres, axis=1).sum())
            centres = moved
            if shift**2 < _EARLY_STOP:
                break
        labels, distances = _nearest(data, centres)
        objective = float(
            distances.sum(dtype=np.float64) + np.square(fixed - centres[known]).sum(dtype=np.float64)
        )
        return Clustering(centres, labels, objective)

    return _best_of(restarts, start, exponent)


def assign(points: NDArray[Any], centres: NDArray[Any]) -> tuple[Labels, Points]:
    """Return the nearest centre of every point, int64 (N,), and the squared distance to it, float32 (N,).

    Raises:
        UserError: no tables.
        Diverged: a point or centre that is not finite, or so large that another vanishes beside it; a squared
        distance beyond float32.
    """
    data, targets = _finite(points), _finite(centres, "centre")
    exponent = _exponent({"point": data, "centre": targets})
    labels, distances = _nearest(_over(data, exponent), _over(targets, exponent))
    with np.errstate(over="ignore"):
        distances = _over(distances, -2 * exponent)
    far = np.flatnonzero(np.isinf(distances))
    if len(far):
        raise Diverged(
            f"point {far[0]} is so far from its centre that float32 does not hold the square of the distance"
        )
    return labels, distances


def unit(points: NDArray[Any]) -> Points:
    """Return `points` (N, D) scaled to unit length, float32; a point at zero stays there.

    Raises:
        UserError: no table of points.
        Diverged: a point that is not finite.
    """
    given = _table(points)
    _check(given, given, "point")
    with np.errstate(over="ignore", invalid="ignore"):
        data = np.asarray(given, dtype=np.float32)
        lengths = np.linalg.norm(data, axis=1, keepdims=True)
        found: Points = np.ascontiguousarray(data / np.where(lengths > 0, lengths, 1))
        odd = ~((lengths >= 2.0**-_FAINT) & (lengths < np.inf))[:, 0]
        if odd.any():  # squares leave float32 there: the largest entry becomes 1 first
            rows = given[odd].astype(np.float64)
            largest = np.abs(rows).max(axis=1, keepdims=True, initial=0)
            rows = rows / np.where(largest > 0, largest, 1)
            found[odd] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1)
    return found


def k_by_silhouette(
    points: NDArray[Any],
    candidates: Sequence[int],
    rng: np.random.Generator,
    *,
    restarts: int = 3,
    most: int = 2000,
) -> tuple[int, dict[int, float]]:
    """Return the number of clusters with the largest mean silhouette (Rousseeuw 1987; Happy, section 5.4),
    and every score.

    The paper leaves range, metric and sample open. Fixed here: Euclidean distance on unit features, the
    silhouette of a random sample of `most` points, ties to the smaller K.

    Raises:
        UserError: no candidate, or one outside [2, N - 1].
        Diverged: a point that is not finite.
    """
    data = unit(points)
    sample = rng.permutation(len(data))[:most]

    def score(k: int) -> float:
        from sklearn.metrics import silhouette_score

        labels = kmeans(data, k, rng, restarts=restarts).labels[sample]
        return float(silhouette_score(data[sample], labels)) if len(np.unique(labels)) > 1 else -1.0

    return best_number(candidates, 2, min(len(data), len(sample)) - 1, score)


def k_by_labelled_accuracy(
    points: NDArray[Any],
    labelled: NDArray[Any],
    classes: NDArray[Any],
    candidates: Sequence[int],
    rng: np.random.Generator,
    *,
    restarts: int = 3,
) -> tuple[int, dict[int, float]]:
    """Return the number of clusters under which k-means on all points agrees best with the labels of some
    (Vaze et al. 2022).

    Agreement is the Hungarian accuracy on the labelled points alone; ties go to the smaller K. The paper
    searches by Brent's method, which presumes one peak; all `candidates` are tried here.

    Args:
        points: (N, D) without labels.
        labelled: (L, D).
        classes: int (L,).
        candidates: numbers of clusters to try, over all classes.
        rng: decides on the starts.
        restarts: starts per candidate.

    Raises:
        UserError: no candidate, or one outside [1, N + L].
        Diverged: a point that is not finite, or so large that another vanishes beside it.
    """
    from harness.metrics.discovery import match

    fixed, data = _finite(labelled, "labelled point"), _finite(points)
    exponent = _exponent({"point": data, "labelled point": fixed})
    both = np.concatenate([_over(fixed, exponent), _over(data, exponent)])

    def score(k: int) -> float:
        clusters = kmeans(both, k, rng, restarts=restarts).labels[: len(labelled)]
        return match(clusters, classes).accuracy()

    return best_number(candidates, 1, len(both), score)


def best_number(
    candidates: Sequence[int], low: int, high: int, score: Callable[[int], float]
) -> tuple[int, dict[int, float]]:
    tried = sorted(set(candidates))
    if not tried or tried[0] < low or tried[-1] > high:
        raise UserError(f"numbers of clusters to try should lie in [{low}, {high}], got {tried or 'none'}")
    scores = {k: score(k) for k in tried}
    return max(scores, key=lambda k: (scores[k], -k)), scores


def _sketch(points: Points, rng: np.random.Generator) -> Points:
    """Return the points in at most `_SKETCH` of their main directions, (N, min(D, 64)).

    Found by two steps of subspace iteration from random directions (Halko, Martinsson and Tropp 2011,
    algorithm 4.4). Seeds need no more: what lies between clusters is in the main directions, the rest is
    mostly noise, and seeding in all dimensions was most of the time.
    """
    if points.shape[1] <= _SKETCH:
        return points
    directions = rng.normal(size=(points.shape[1], _SKETCH)).astype(np.float32)
    for _ in range(2):
        directions = np.linalg.qr(points.T @ (points @ directions))[0]
    sketch: Points = points @ directions
    return sketch


def _seeds(points: Points, centres: Points, count: int, rng: np.random.Generator) -> Labels:
    """Return the positions of `count` points to start from beside the `centres` that are there, by greedy
    k-means++.

    A candidate is drawn with probability proportional to its squared distance to the nearest centre; of 2 +
    ln K candidates the one that leaves the smallest sum of distances is taken. Without any centre the first
    candidates are drawn evenly.
    """
    trials = 2 + int(np.log(max(1, len(centres) + count)))
    squares = np.square(points).sum(axis=1)
    nearest = _nearest(points, centres)[1] if len(centres) else None
    chosen = []
    for _ in range(count):
        rows = _drawn(nearest, trials, rng) if nearest is not None else rng.integers(len(points), size=trials)
        distances = np.maximum(squares[rows, None] + squares - 2 * (points[rows] @ points.T), 0)
        if nearest is not None:
            np.minimum(distances, nearest, out=distances)
        best = int(distances.sum(axis=1, dtype=np.float64).argmin())
        nearest = distances[best]
        chosen.append(int(rows[best]))
    return np.array(chosen, dtype=np.int64)


def _drawn(weights: Points, size: int, rng: np.random.Generator) -> Labels:
    """Draw positions with probability proportional to `weights`; evenly where all are zero."""
    cumulated = np.cumsum(weights, dtype=np.float64)
    if not cumulated[-1] > 0:
        return rng.integers(len(weights), size=size)
    rows: Labels = np.searchsorted(cumulated, rng.random(size) * cumulated[-1], side="right")
    return np.minimum(rows, len(weights) - 1)


def _sums(points: Points, labels: Labels, k: int) -> NDArray[np.float64]:
    """Return the sum of the points of every cluster, float64 (k, D)."""
    order = np.argsort(labels, kind="stable")
    present, starts = np.unique(labels[order], return_index=True)
    sums = np.zeros((k, points.shape[1]))
    sums[present] = np.add.reduceat(points[order], starts, axis=0, dtype=np.float64)
    return sums


def _nearest(points: Points, centres: Points) -> tuple[Labels, Points]:
    """Return what `assign` does, of points in the ordinary range."""
    import faiss

    distances, labels = faiss.knn(points, centres, 1)
    return labels[:, 0].astype(np.int64), np.maximum(distances[:, 0], 0)


def _best_of(restarts: int, start: Callable[[], Clustering], exponent: int) -> Clustering:
    """Return the start with the smallest objective, times 2^exponent."""
    best = min((start() for _ in range(restarts)), key=lambda found: found.objective)
    return Clustering(_over(best.centres, -exponent), best.labels, math.ldexp(best.objective, 2 * exponent))


def _finite(points: NDArray[Any], name: str = "point") -> Points:
    """Return a table of points as float32; raise `UserError` for no table, `Diverged` for points that float32
    does not hold.
    """
    given = _table(points)
    with np.errstate(over="ignore"):
        data: Points = np.ascontiguousarray(given, dtype=np.float32)
    _check(data, given, name)
    if given.any() and np.abs(data).max() < np.finfo(np.float32).tiny:
        raise Diverged(
            f"no {name} has an entry above {np.abs(given).max():.3g}, which is too small for float32"
        )
    return data


def _table(points: NDArray[Any]) -> NDArray[Any]:
    data = np.asarray(points)
    if data.ndim != 2:
        raise UserError(f"points should be numbers (N, D), got shape {data.shape}")
    return data


def _check(data: NDArray[Any], given: NDArray[Any], name: str) -> None:
    """Raise `Diverged` for the first row of `data` that is not finite, with the number that `given` has
    there.
    """
    wrong = np.flatnonzero(~np.isfinite(data).all(axis=1))
    if len(wrong):
        row = wrong[0]
        raise Diverged(
            f"{name} {row} holds {given[row][~np.isfinite(data[row])][0]:.3g}, where finite numbers of "
            "float32 are needed"
        )


def _exponent(tables: Mapping[str, Points]) -> int:
    """Return by which power of two points, by what one of them is called, are to be divided; 0 in the
    ordinary range.

    Raises:
        Diverged: the squares of a point would vanish beside those of the largest.
    """
    largest = max(float(max(table.max(initial=0), -table.min(initial=0))) for table in tables.values())
    exponent = math.frexp(largest)[1]
    if abs(exponent) <= _ORDINARY:
        return 0
    rows = [f"{name} {row}" for name, table in tables.items() for row in range(len(table))]
    sizes = np.concatenate([np.abs(table).max(axis=1, initial=0) for table in tables.values()])
    faint = np.flatnonzero((sizes > 0) & (sizes < math.ldexp(largest, -_FAINT)))
    if len(faint):
        raise Diverged(
            f"{rows[sizes.argmax()]} has an entry of {largest:.3g}, beside which the squares of {rows[faint[0]]}, "
            f"{sizes[faint[0]]:.3g} and less, vanish in float32"
        )
    return exponent


def _over(points: Points, exponent: int) -> Points:
    """Return `points` divided by 2^exponent, the same array where that is 1."""
    scaled: Points = np.ldexp(points, -exponent) if exponent else points
    return scaled


def _has_gpu() -> bool:
    import faiss

    return bool(hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0)


__all__ = [
    "Clustering",
    "Points",
    "assign",
    "k_by_labelled_accuracy",
    "k_by_silhouette",
    "kmeans",
    "pinned_kmeans",
    "unit",
]
