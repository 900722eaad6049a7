"""Clustering against scikit-learn, plain second implementations, and what must hold whatever the data."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score

from harness import clustering
from harness.clustering import assign, k_by_labelled_accuracy, k_by_silhouette, kmeans, pinned_kmeans, unit
from harness.errors import Diverged, UserError


def _blobs(
    n: int, k: int, d: int = 16, *, spread: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = 6 * rng.normal(size=(k, d)) / np.sqrt(d)
    labels = np.arange(n) % k
    return (centres[labels] + spread * rng.normal(size=(n, d)) / np.sqrt(d)).astype(np.float32), labels


@pytest.mark.parametrize(
    ("n", "k", "d", "spread"), [(600, 6, 16, 1.0), (800, 40, 8, 2.0), (300, 20, 64, 6.0), (600, 30, 300, 3.0)]
)
def test_the_objective_is_within_one_per_cent_of_scikit_learns(n: int, k: int, d: int, spread: float) -> None:
    """At equal restarts, in the mean over ten runs: where many clusters are far apart, a single run of either
    is a matter of luck.
    """
    points, _ = _blobs(n, k, d, spread=spread)
    ours = [kmeans(points, k, np.random.default_rng(seed), restarts=10).objective for seed in range(10)]
    theirs = [KMeans(k, n_init=10, random_state=seed).fit(points).inertia_ for seed in range(10)]
    assert np.mean(ours) <= 1.01 * np.mean(theirs)


def test_labels_and_objective_are_those_of_the_centres() -> None:
    points, _ = _blobs(200, 5)
    found = kmeans(points, 5, np.random.default_rng(1))
    distances = np.square(points[:, None] - found.centres[None]).sum(axis=2)
    np.testing.assert_array_equal(found.labels, distances.argmin(axis=1))
    assert found.objective == pytest.approx(distances.min(axis=1).sum(), rel=1e-4)


def test_equal_streams_give_equal_bytes_and_others_do_not() -> None:
    points, _ = _blobs(300, 12, spread=8.0)
    first, again, other = (kmeans(points, 12, np.random.default_rng(seed), restarts=1) for seed in (3, 3, 4))
    assert first.centres.tobytes() == again.centres.tobytes()
    assert first.centres.tobytes() != other.centres.tobytes()


def test_no_point_is_left_out_of_training() -> None:
    """faiss samples 256 points a cluster by default; the mean of one cluster tells whether all were used."""
    points = np.random.default_rng(0).normal(size=(5000, 3)).astype(np.float32)
    np.testing.assert_allclose(
        kmeans(points, 1, np.random.default_rng(0)).centres[0], points.mean(axis=0), atol=1e-5
    )


def test_spherical_centres_have_unit_length_and_find_directions() -> None:
    points, labels = _blobs(300, 3)
    found = kmeans(
        points * np.random.default_rng(0).uniform(0.5, 20, size=(300, 1)),
        3,
        np.random.default_rng(0),
        spherical=True,
    )
    np.testing.assert_allclose(np.linalg.norm(found.centres, axis=1), 1, atol=1e-5)
    assert adjusted_rand_score(labels, found.labels) > 0.95


def test_as_many_clusters_as_points_leaves_no_distance() -> None:
    points, _ = _blobs(12, 3)
    assert kmeans(points, 12, np.random.default_rng(0)).objective == pytest.approx(0, abs=1e-4)


def test_assign_is_the_nearest_centre() -> None:
    points, _ = _blobs(50, 4)
    labels, distances = assign(points, points[:7])
    plain = np.square(points[:, None] - points[None, :7]).sum(axis=2)
    np.testing.assert_array_equal(labels, plain.argmin(axis=1))
    np.testing.assert_allclose(distances, plain.min(axis=1), atol=1e-4)


def test_unit_keeps_zero() -> None:
    np.testing.assert_allclose(unit(np.array([[3.0, 4.0], [0.0, 0.0]])), [[0.6, 0.8], [0.0, 0.0]])


# --- pinned -------------------------------------------------------------------------------------------------


def _plain_pinned(
    points: np.ndarray, labelled: np.ndarray, classes: np.ndarray, centres: np.ndarray, iterations: int
) -> np.ndarray:
    """Lloyd's iterations from given centres, written out point by point."""
    for _ in range(iterations):
        members: list[list[np.ndarray]] = [[] for _ in centres]
        for point, label in zip(labelled, classes, strict=True):
            members[label].append(point)
        for point in points:
            members[int(np.square(centres - point).sum(axis=1).argmin())].append(point)
        centres = np.stack(
            [np.mean(own, axis=0) if own else centre for own, centre in zip(members, centres, strict=True)]
        )
    return centres


def test_without_new_clusters_it_is_lloyd_from_the_class_means() -> None:
    """With k equal to the number of classes nothing is drawn, so the result is that of the plain loop, to
    rounding.
    """
    points, labels = _blobs(120, 4, spread=4.0)
    labelled, classes = points[:24], labels[:24]
    means = np.stack([labelled[classes == label].mean(axis=0) for label in range(4)])
    found = pinned_kmeans(
        points[24:], labelled, classes, 4, np.random.default_rng(0), restarts=1, iterations=200
    )
    np.testing.assert_allclose(
        found.centres, _plain_pinned(points[24:], labelled, classes, means, 200), atol=1e-2
    )


def test_labelled_points_pull_their_centre_and_new_clusters_are_found() -> None:
    points, labels = _blobs(600, 6)
    known = labels < 3
    labelled, classes = points[known][:60], labels[known][:60]
    rest, truth = (
        np.concatenate([points[known][60:], points[~known]]),
        np.concatenate([labels[known][60:], labels[~known]]),
    )
    found = pinned_kmeans(rest, labelled, classes, 6, np.random.default_rng(0))
    np.testing.assert_array_equal(
        found.labels[truth < 3], truth[truth < 3]
    )  # known classes keep their numbers
    assert adjusted_rand_score(truth, found.labels) == 1.0


def test_more_starts_are_never_worse() -> None:
    points, labels = _blobs(300, 10, spread=6.0)
    labelled, classes = points[labels < 2], labels[labels < 2]
    one, many = (
        pinned_kmeans(points, labelled, classes, 10, np.random.default_rng(5), restarts=n).objective
        for n in (1, 8)
    )
    assert many <= one


def test_a_pinned_objective_counts_the_labelled_points() -> None:
    """One class at 0 with points at -1 and 1, one free point at 0: centre 0, objective 2."""
    found = pinned_kmeans(
        np.zeros((1, 1)), np.array([[-1.0], [1.0]]), np.array([0, 0]), 1, np.random.default_rng(0)
    )
    assert found.objective == pytest.approx(2.0)


def test_an_emptied_cluster_stays_finite() -> None:
    """All free points coincide, so a second new cluster has nothing to hold."""
    found = pinned_kmeans(np.ones((5, 2)), np.zeros((2, 2)), np.array([0, 0]), 3, np.random.default_rng(0))
    assert np.isfinite(found.centres).all()
    assert found.objective == pytest.approx(0.0)


# --- how many -----------------------------------------------------------------------------------------------


def test_silhouette_finds_the_number_of_separated_blobs() -> None:
    points, _ = _blobs(400, 7)
    best, scores = k_by_silhouette(points, range(4, 11), np.random.default_rng(0))
    assert best == 7
    assert scores[7] == pytest.approx(
        silhouette_score(unit(points), kmeans(unit(points), 7, np.random.default_rng(9)).labels), abs=1e-3
    )


def test_labelled_accuracy_finds_it_from_some_labels() -> None:
    points, labels = _blobs(400, 7)
    some = labels < 4
    best, scores = k_by_labelled_accuracy(
        points[~some], points[some], labels[some], [2, 3, 7, 20, 40], np.random.default_rng(0)
    )
    assert best == 7
    assert scores[7] == 1.0


def test_a_tie_goes_to_the_smaller_number(monkeypatch: pytest.MonkeyPatch) -> None:
    assert clustering.best_number([9, 5, 7], 2, 10, lambda k: 1.0 if k > 5 else 0.0)[0] == 7


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda rng: kmeans(np.zeros((3, 2)), 4, rng), "4 clusters cannot be made of 3 points"),
        (lambda rng: kmeans(np.zeros((3, 2)), 0, rng), "0 clusters cannot be made of 3 points"),
        (lambda rng: kmeans(np.zeros(3), 2, rng), r"got shape \(3,\)"),
        (
            lambda rng: pinned_kmeans(np.zeros((3, 2)), np.zeros((2, 2)), np.array([0, 2]), 4, rng),
            "without gaps",
        ),
        (
            lambda rng: pinned_kmeans(np.zeros((3, 2)), np.zeros((2, 2)), np.array([0, 1]), 1, rng),
            "2 labelled classes and 3 points",
        ),
        (lambda rng: k_by_silhouette(np.zeros((3, 2)), [1, 2], rng), r"should lie in \[2, 2\], got \[1, 2\]"),
        (lambda rng: k_by_silhouette(np.zeros((3, 2)), [], rng), "got none"),
    ],
)
def test_what_cannot_be_clustered_is_refused(call, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        call(np.random.default_rng(0))


# --- numbers whose squares leave float32 --------------------------------------------------------------------

_SCALES = [-100, -60, -30, 30, 80, 120]
"""Powers of two: from about 1e-30 to 1e36; the middle ones are in the ordinary range."""


def _start(points: np.ndarray) -> np.ndarray:
    """Return points whose largest entry is in [1/2, 1), so that the scale of a clustering's tolerance is one."""
    return np.ldexp(points, -np.frexp(np.abs(points).max())[1])


@pytest.mark.parametrize("power", _SCALES)
@pytest.mark.parametrize("d", [5, 80])
def test_k_means_does_not_depend_on_the_scale(power: int, d: int) -> None:
    """Multiplying by a power of two rounds nothing, so bytes are equal; d = 80 is above the dimensions in
    which starts are seeded.
    """
    points = _start(_blobs(90, 4, d, spread=3.0)[0])
    plain, scaled = (
        kmeans(each, 4, np.random.default_rng(2), restarts=2) for each in (points, np.ldexp(points, power))
    )
    np.testing.assert_array_equal(scaled.labels, plain.labels)
    assert scaled.centres.tobytes() == np.ldexp(plain.centres, power).tobytes()
    assert scaled.objective == plain.objective * 4.0**power


@pytest.mark.parametrize("power", [-100, -60, 80, 120])
def test_pinned_k_means_does_not_depend_on_the_scale_beyond_the_ordinary_range(power: int) -> None:
    points, labels = _blobs(120, 5, spread=3.0)
    points = _start(points)

    def call(scale: int) -> clustering.Clustering:
        rest, labelled = np.ldexp(points[20:], scale), np.ldexp(points[:20], scale)
        return pinned_kmeans(rest, labelled, labels[:20], 7, np.random.default_rng(1), restarts=2)

    plain, scaled = call(0), call(power)
    np.testing.assert_array_equal(scaled.labels, plain.labels)
    assert scaled.centres.tobytes() == np.ldexp(plain.centres, power).tobytes()
    assert scaled.objective == plain.objective * 4.0**power


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_directions_do_not_depend_on_the_length_of_any_point(dtype: type) -> None:
    """Each row has a length of its own, from 1e-36 to 1e36 (float64 from 1e-290 to 1e290); those of ordinary
    length keep their bytes.
    """
    points, labels = _blobs(60, 3)
    exact = points / np.linalg.norm(points.astype(np.float64), axis=1, keepdims=True)
    powers = np.random.default_rng(0).integers(-120, 120, 60) * (8 if dtype is np.float64 else 1)
    long = np.ldexp(points.astype(dtype), powers[:, None].astype(np.int32))
    np.testing.assert_allclose(unit(long), exact, atol=2e-7)
    assert unit(points).tobytes() == (points / np.linalg.norm(points, axis=1, keepdims=True)).tobytes()
    found = kmeans(long, 3, np.random.default_rng(0), spherical=True)
    assert adjusted_rand_score(labels, found.labels) == 1.0
    assert k_by_silhouette(long, [2, 3, 4], np.random.default_rng(0))[0] == 3


def test_huge_and_tiny_points_are_assigned_and_counted() -> None:
    points, labels = _blobs(120, 3)
    points = _start(points)
    for power in (-60, 60):
        found, distances = assign(np.ldexp(points, power), np.ldexp(points[:7], power))
        np.testing.assert_array_equal(found, assign(points, points[:7])[0])
        np.testing.assert_array_equal(distances, np.ldexp(assign(points, points[:7])[1], 2 * power))
    huge = np.ldexp(points, 100)
    assert (
        k_by_labelled_accuracy(huge[40:], huge[:40], labels[:40], [2, 3, 5], np.random.default_rng(0))[0] == 3
    )


_ONE = np.ones((4, 2), dtype=np.float32)
_AMONG = np.concatenate([_ONE, np.float32([[3, -1e25]])])


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda rng: kmeans(np.full((3, 2), np.nan), 2, rng),
            "point 0 holds nan, where finite numbers of float32 are needed",
        ),
        (lambda rng: kmeans(np.array([[0, 1], [2, -np.inf]]), 2, rng), "point 1 holds -inf"),
        (lambda rng: kmeans(np.array([[0, 1], [2, np.inf]]), 2, rng, spherical=True), "point 1 holds inf"),
        (lambda rng: kmeans(np.array([[0, 1], [2, 1e39]]), 2, rng), r"point 1 holds 1e\+39"),
        (
            lambda rng: kmeans(np.array([[0, 1e-60]]), 1, rng),
            "no point has an entry above 1e-60, which is too small for float32",
        ),
        (
            lambda rng: kmeans(_AMONG, 3, rng),
            r"point 4 has an entry of 1e\+25, beside which the squares of point 0, 1 and less, vanish",
        ),
        (
            lambda rng: pinned_kmeans(_AMONG, _ONE, np.zeros(4, int), 2, rng),
            "point 4 has an entry of .* the squares of point 0",
        ),
        (
            lambda rng: pinned_kmeans(_ONE, _AMONG, np.zeros(5, int), 2, rng),
            "labelled point 4 has an entry of .* the squares of point 0",
        ),
        (
            lambda rng: pinned_kmeans(_ONE, np.nan * _ONE, np.zeros(4, int), 2, rng),
            "labelled point 0 holds nan",
        ),
        (lambda rng: k_by_silhouette(np.nan * _ONE, [2, 3], rng), "point 0 holds nan"),
        (
            lambda rng: k_by_labelled_accuracy(_AMONG, _ONE, np.zeros(4, int), [2, 3], rng),
            "vanish in float32",
        ),
        (lambda rng: assign(1e30 * _ONE, -1e30 * _ONE), "point 0 is so far from its centre"),
        (lambda rng: assign(_ONE, _AMONG), "centre 4 has an entry"),
    ],
)
def test_numbers_that_float32_cannot_tell_apart_are_a_sentence(call, sentence: str) -> None:
    with pytest.raises(Diverged, match=sentence):
        call(np.random.default_rng(0))
