"""Information of features and labels by nearest neighbours, after a lossy compression to a few dimensions.

Entropy of x after Kozachenko and Leonenko, in nats: with r_k the distance to the k-th nearest neighbour and V_d the
volume of the unit ball, the density there is exp(psi(k)) / (V_d r_k^d (N - 1)), and entropy is the mean of minus its
logarithm, weighted over k = 1 ... K (`neighbour_weights`). x is whitened first, the log determinant added back. Then
I(x; z) = H(x) + H(z) - H(x, z), and with labels I(x; y) = H(x) - sum_c p_c H(x | c).

Source: Butakov et al. 2024 (ICLR, arXiv 2305.08013), github.com/VanessB/Information-v3 at 702399c; weights after
Berrett, Samworth and Yuan 2019 (arXiv 1606.00304). Their noise grows with the activation itself, so that a unit at 0
gets none, and items that coincide have an entropy of minus infinity; here it has one size for all.

Legend: N items, d dimensions, K neighbours.

>>> round(entropy(np.array([[0.0], [1.0], [3.0]]), neighbours=1, whiten=False), 9)  # distances 1, 1, 2
2.194559086
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree
from scipy.special import gammaln, psi

from harness.contracts import IntArray, Metric, param
from harness.probes.contract import Look, Probe
from harness.probes.items import NAN, Floats, finite, in_classes, items_of, not_applicable, permuted

Compression = Literal["pca", "autoencoder"]
_CUT = 1e-6


def neighbour_weights(neighbours: int, dimensions: int) -> Floats:
    """Return the weight (K,) of each neighbour's density.

    Up to 4 dimensions the nearest alone counts. Beyond, weights sum to 1 and cancel what grows as r^2, r^4, ... in
    the bias, as far as least squares gets: rows as in the published code, whose sizes matter as they are inconsistent
    for few neighbours.
    """
    if dimensions <= 4:
        return np.array([1.0, *np.zeros(neighbours - 1)])
    k = np.arange(1, neighbours + 1)
    rows = [np.ones(neighbours) / neighbours]
    for order in range(1, dimensions // 4 + 1):
        growth = np.exp(gammaln(k + 2 * order / dimensions) - gammaln(k))
        rows.append(growth / np.linalg.norm(growth))
    allowed = {i * neighbours // dimensions for i in range(1, dimensions + 1)}
    rows += [np.eye(neighbours)[j - 1] for j in k if j not in allowed]
    target = np.eye(len(rows))[0] / neighbours
    weights: Floats = np.linalg.lstsq(np.array(rows), target, rcond=_CUT)[0]
    return weights


def entropy(features: ArrayLike, neighbours: int = 5, *, whiten: bool = True) -> float:
    """Return differential entropy in nats of `features` (N, d); minus infinity where an item has a twin, NaN where
    there are no more than `neighbours` items, or they lie in fewer dimensions.
    """
    x = np.asarray(features, dtype=np.float64)
    count, dimensions = x.shape
    if count <= neighbours:
        return NAN
    shift = 0.0
    if whiten:
        spread, axes = np.linalg.eigh(np.cov(x, rowvar=False).reshape(dimensions, dimensions))
        if not spread[0] > np.finfo(float).eps * spread[-1]:
            return NAN
        x = (x - x.mean(axis=0)) @ axes / np.sqrt(spread)
        shift = float(np.log(spread).sum()) / 2
    distances = np.asarray(cKDTree(x).query(x, neighbours + 1)[0])[:, 1:]
    weights = neighbour_weights(neighbours, dimensions)
    counted = np.flatnonzero(weights)
    with np.errstate(divide="ignore"):
        volumes = _log_ball(dimensions) + dimensions * np.log(distances[:, counted])
    surprise = np.log(count - 1) + volumes - psi(counted + 1)
    return float((surprise @ weights[counted]).mean() + shift)


def information(features: ArrayLike, others: ArrayLike, neighbours: int = 5) -> float:
    """Return mutual information in nats of `features` (N, d) and `others` (N, e)."""
    x, z = np.asarray(features, dtype=np.float64), np.asarray(others, dtype=np.float64)
    return (
        entropy(x, neighbours) + entropy(z, neighbours) - entropy(np.concatenate([x, z], axis=1), neighbours)
    )


def information_with_labels(features: ArrayLike, labels: IntArray, neighbours: int = 5) -> float:
    """Return mutual information in nats of `features` (N, d) and labels (N,), each class whitened by itself."""
    x = np.asarray(features, dtype=np.float64)
    names, counts = np.unique(labels, return_counts=True)
    within = [entropy(x[labels == name], neighbours) for name in names]
    return entropy(x, neighbours) - float(counts @ within / counts.sum())


def _log_ball(dimensions: int) -> float:
    return float(dimensions / 2 * np.log(np.pi) - gammaln(dimensions / 2 + 1))


def principal_components(features: ArrayLike, dimensions: int) -> tuple[Floats, float]:
    """Return the first principal components (N, at most `dimensions`) and their share of the variance.

    Their signs make the sum of cubes positive, so they do not depend on the axes of the features.
    """
    x = np.asarray(features, dtype=np.float64)
    x = x - x.mean(axis=0)
    values, axes = np.linalg.eigh(x.T @ x)
    scores = x @ axes[:, ::-1][:, :dimensions]
    total = values.sum()
    kept = float(values[::-1][:dimensions].sum() / total) if total > 0 else NAN
    return scores * np.where((scores**3).sum(axis=0) < 0, -1, 1), kept


def bottleneck(features: ArrayLike, dimensions: int, seed: int) -> tuple[Floats, float]:
    """Return the middle (N, `dimensions`) of an autoencoder of tanh units trained on `features` (N, d), and the share
    of the variance that it gives back. Not the same in other axes, as its weights are drawn.
    """
    from sklearn.neural_network import MLPRegressor

    x = np.asarray(features, dtype=np.float64)
    x = x - x.mean(axis=0)
    size = np.sqrt((x**2).mean())
    if not size > 0:
        return np.zeros((len(x), dimensions)), NAN
    x = x / size
    network = MLPRegressor(
        hidden_layer_sizes=(32, dimensions, 32),
        activation="tanh",
        solver="lbfgs",
        max_iter=100,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that 100 iterations are not all it could use
        network.fit(x, x)
    middle = x
    for weights, bias in zip(network.coefs_[:2], network.intercepts_[:2], strict=True):
        middle = np.tanh(middle @ weights + bias)
    return middle, float(1 - ((network.predict(x) - x) ** 2).sum() / (x**2).sum())


class KLInformation(Probe):
    """Information of features and labels by nearest neighbours after compression, in bits.

    It is with true labels, with those given, with random ones, and what the former two exceed the last by.
    Features are compressed to `dimensions` and given noise of one size, `noise` times the root mean square of what
    came out, without which equal items are infinitely informed. A turn, shift or scale of the features changes nothing
    with `pca`. The estimate is too high by half at a few hundred items, and more in more dimensions: the excess over
    random labels, the true ones permuted, is the figure to read. Classes of fewer than `smallest` items are left out.
    """

    figures = (
        Metric(name="kl_information", meaning="nearest-neighbour information with true labels, bits"),
        Metric(
            name="kl_information_given", meaning="nearest-neighbour information with the labels given, bits"
        ),
        Metric(
            name="kl_information_random", meaning="nearest-neighbour information with permuted labels, bits"
        ),
        Metric(name="kl_excess", meaning="information with true labels less that with permuted ones, bits"),
        Metric(
            name="kl_excess_given",
            meaning="information with the labels given less that with permuted ones, bits",
        ),
        Metric(name="kl_kept", meaning="share of the features' variance that the compression keeps"),
    )
    compress: Compression = param("pca", "what compresses the features", ablate=("autoencoder",))
    dimensions: int = param(3, "dimensions that are left", ge=1, le=16, ablate=(2, 4))
    neighbours: int = param(5, "nearest neighbours; beyond 4 dimensions more than the first count", ge=1)
    noise: float = param(0.05, "standard deviation of the noise, over the root mean square", ge=0)
    smallest: int = param(10, "items that a class needs", ge=2, unit="items")

    def measure(self, look: Look, rng: np.random.Generator) -> Mapping[str, float]:
        """Return the figures of a look."""
        found = not_applicable(self.figures)
        if not finite(look):
            return found
        items = items_of(look)
        random = permuted(items.labels, rng)
        x, found["kl_kept"] = self._compressed(items.features, int(rng.integers(2**31)))
        x = x + self.noise * np.sqrt((x**2).mean()) * rng.standard_normal(x.shape)
        for name, labels in (("", items.labels), ("_given", items.given), ("_random", random)):
            shown = in_classes(labels, self.smallest)
            if shown.any():
                nats = information_with_labels(x[shown], labels[shown], self.neighbours)
                found[f"kl_information{name}"] = float(nats / np.log(2)) if np.isfinite(nats) else NAN
        for name in ("", "_given"):
            found[f"kl_excess{name}"] = found[f"kl_information{name}"] - found["kl_information_random"]
        return found

    def _compressed(self, features: Floats, seed: int) -> tuple[Floats, float]:
        if self.compress == "pca":
            return principal_components(features, self.dimensions)
        return bottleneck(features, self.dimensions, seed)
