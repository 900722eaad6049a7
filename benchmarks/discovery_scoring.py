"""Hungarian scoring and k-means against what is usual, side by side on one thread.

Scoring: 10,000 answers over 200 classes, against a table counted item by item (as the released codes of GCD
and Happy do). k-means: 5,250 x 768, 60 clusters, against scikit-learn at equal restarts, with both
objectives.

Run: OMP_NUM_THREADS=1 python benchmarks/discovery_scoring.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from harness.clustering import kmeans
from harness.metrics.discovery import match

ITEMS, CLASSES = 10_000, 200
POINTS, DIMENSIONS, CLUSTERS = 5_250, 768, 60


def seconds_of(action: Callable[[], Any], rounds: int) -> float:
    """Return the median seconds of `action`."""
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        action()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def item_by_item(predicted: np.ndarray, classes: np.ndarray) -> float:
    """Return the matched accuracy from a table filled in a loop."""
    size = int(max(predicted.max(), classes.max())) + 1
    table = np.zeros((size, size), dtype=np.int64)
    for place in range(len(predicted)):
        table[predicted[place], classes[place]] += 1
    rows, columns = linear_sum_assignment(table.max() - table)
    return float(table[rows, columns].sum() / len(predicted))


def main() -> None:
    """Print both comparisons."""
    rng = np.random.default_rng(0)
    classes = rng.integers(CLASSES, size=ITEMS)
    for share in (0.9, 0.5):
        predicted = np.where(
            rng.random(ITEMS) < share, rng.permutation(CLASSES)[classes], rng.integers(CLASSES, size=ITEMS)
        )
        assert match(predicted, classes).accuracy() == item_by_item(predicted, classes)
        ours, loop = (
            seconds_of(lambda p=predicted: match(p, classes), 51),
            seconds_of(lambda p=predicted: item_by_item(p, classes), 5),
        )
        times = f"{1000 * ours:.2f} ms, item by item {1000 * loop:.2f} ms: {loop / ours:.1f} x"
        print(f"scoring {ITEMS:,} x {CLASSES}, {share:.0%} right: {times}")
    faiss.omp_set_num_threads(1)
    for noise in (1, 2, 3):
        centres = rng.normal(size=(CLUSTERS, DIMENSIONS))
        points = (
            centres[rng.integers(CLUSTERS, size=POINTS)] + noise * rng.normal(size=(POINTS, DIMENSIONS))
        ).astype(np.float32)
        for restarts, rounds in ((1, 5), (10, 2)):
            _compare_kmeans(points, restarts, rounds, f"noise {noise}")


def _compare_kmeans(points: np.ndarray, restarts: int, rounds: int, what: str) -> None:
    objectives: dict[str, list[float]] = {"ours": [], "theirs": []}

    def ours() -> None:
        rng = np.random.default_rng(len(objectives["ours"]))
        objectives["ours"].append(kmeans(points, CLUSTERS, rng, restarts=restarts).objective)

    def theirs() -> None:
        with threadpool_limits(1):
            fitted = KMeans(CLUSTERS, n_init=restarts, random_state=len(objectives["theirs"])).fit(points)
        objectives["theirs"].append(fitted.inertia_)

    fast, slow = seconds_of(ours, rounds), seconds_of(theirs, rounds)
    ratio = statistics.mean(objectives["ours"]) / statistics.mean(objectives["theirs"])
    print(
        f"k-means {POINTS:,} x {DIMENSIONS}, {CLUSTERS} clusters, {what}, restarts {restarts}: {fast:.2f} "
        f"s, scikit-learn {slow:.2f} s: "
        f"{slow / fast:.1f} x, objective {ratio:.4f} of theirs"
    )


if __name__ == "__main__":
    main()
