"""Information of activations by bins that follow them (EBAB), and by Gaussian kernels (KDE), in bits.

EBAB: edges that part the distinct activations of a layer into `bins` parts of as many; each activation becomes its bin,
and what bins take together, a unit or the whole layer, is a state T. With distinct inputs and no noise I(X; T) = H(T)
and I(T; Y) = H(T) - sum_c p_c H(T | c), from counts.

KDE: an activation is known up to Gaussian noise of variance v, and I(X; T) = -mean_i log2 mean_j exp(-|t_i - t_j|^2 /
(2 v)), from above; with 8 v in place of 2 v, from below. I(T; Y) is the same less its mean over classes.

Sources: Chelombiev, Houghton and O'Donnell 2019 (ICLR, arXiv 1902.09037), github.com/ivansche/adaptive_estimators at
584a428; Kolchinsky and Tracey 2017 (arXiv 1706.02419) for the bounds. Their code adds noise of standard deviation
0.01 to what it takes to have variance 0.01, then drops the signs of activations; here no noise is added.

Legend: N items, d units, B edges, C classes.

>>> table = by_layer(np.array([[0], [0], [1], [2]]), np.array([0, 0, 1, 1]))
>>> [float(bits) for bits in information(table)]  # with inputs, with labels
[1.5, 1.0]
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from harness.contracts import HIDDEN, AnyArray, FloatArray, IntArray, Metric, param
from harness.probes.contract import Look, Probe
from harness.probes.items import (
    Floats,
    finite,
    items_of,
    median_of_pairs,
    not_applicable,
    permuted,
    squared_distances,
)
from harness.probes.kl_information import principal_components

By = Literal["units", "layer", "pca"]
Bound = Literal["upper", "lower"]
Variance = Literal["scaled", "median", "published"]


def lowest_edge(activations: AnyArray) -> float:
    """Return the edge below all bins: 0 for activations of a ReLU, -1.000001 for those of a tanh, else the lowest."""
    low = float(activations.min())
    if low >= 0:
        return 0.0
    return -1.000001 if low >= -1 and activations.max() <= 1 else low


def adaptive_edges(activations: AnyArray, bins: int = 30, low: float = 0.0) -> FloatArray:
    """Return edges, float32 (B,) rising: `low`, then such that distinct activations above it fall into `bins` parts
    of as many, then the largest.
    """
    distinct = np.setdiff1d(activations, [low])
    if not len(distinct):
        return np.array([low], dtype=np.float32)
    at = [int(part * (len(distinct) / bins)) for part in range(bins)]
    return np.array([low, *distinct[at], distinct[-1]], dtype=np.float32)


def binned(activations: AnyArray, edges: FloatArray) -> IntArray:
    """Return the last edge at or below each activation, its place in `edges`, of the shape of `activations`."""
    return np.maximum(np.digitize(activations, edges) - 1, 0)


class Information(NamedTuple):
    """I(X; T) and I(T; Y) in bits, float64 of the shape of what was asked."""

    inputs: Floats
    labels: Floats


def by_layer(states: IntArray, labels: IntArray) -> Floats:
    """Return how often (S, C) each of the S rows that `states` (N, d) has meets each of the C labels (N,)."""
    _, state = np.unique(states, axis=0, return_inverse=True)
    table: Floats = by_unit(state.reshape(-1, 1), labels)[0]
    return table


def by_unit(states: IntArray, labels: IntArray) -> Floats:
    """Return how often (d, S, C) each state of a unit, a column of `states` (N, d) from 0, meets each of C labels."""
    names, label = np.unique(labels, return_inverse=True)
    units, count = states.shape[1], int(states.max()) + 1
    cell = (np.arange(units) * count + states) * len(names) + label[:, None]
    table = np.bincount(cell.ravel(), minlength=units * count * len(names))
    return table.reshape(units, count, len(names)).astype(np.float64)


def information(table: Floats) -> Information:
    """Return what counts (..., S, C) of states and labels tell, inputs being distinct."""
    state = _entropy(table.sum(axis=-1))
    joint = _entropy(table.reshape(*table.shape[:-2], -1))
    return Information(state, state + _entropy(table.sum(axis=-2)) - joint)


def _entropy(counts: Floats) -> Floats:
    share = counts / counts.sum(axis=-1, keepdims=True)
    entropy: Floats = -(share * np.log2(np.where(share > 0, share, 1))).sum(axis=-1)
    return entropy


def noise_kernel(squared: Floats, variance: float, bound: Bound = "upper") -> Floats:
    """Return how hard items with squared distances (N, N) are to tell apart under Gaussian noise, 1 for twins."""
    kernel: Floats = np.exp(squared / (-2 * variance if bound == "upper" else -8 * variance))
    return kernel


def kernel_information(kernel: Floats, labels: IntArray) -> Information:
    """Return the bound on information of items with a `noise_kernel` (N, N) and labels (N,)."""
    names, label = np.unique(labels, return_inverse=True)
    member = (label[:, None] == np.arange(len(names))).astype(np.float64)
    of_all = np.log2(kernel.mean(axis=1))
    of_class = np.log2((kernel @ member / member.sum(axis=0))[np.arange(len(label)), label])
    return Information(-of_all.mean(), (of_class - of_all).mean())


class BinnedInformation(Probe):
    """Information of activations by adaptive bins (EBAB) and by kernels (KDE), in bits.

    It is with the inputs, with true labels, with those given, and with random ones.
    `by=units` is the mean over single units, the `units` of largest variance, and stays informative. Whole layers of
    more than some five units do not: every state is then unique, and the figures are log2 N and the entropy of the
    labels whatever the network does; `by=layer` is for narrow layers, `by=pca` for the first `components` principal
    components. Counts of few items tell too much: random labels, the true ones permuted, show how much. Information
    with the inputs takes inputs as distinct, and the order of items changes nothing.
    """

    figures = (
        Metric(name="binned_inputs", meaning="information of activations and inputs by adaptive bins, bits"),
        Metric(name="binned", meaning="information of activations and true labels by adaptive bins, bits"),
        Metric(
            name="binned_given", meaning="information of activations and given labels by adaptive bins, bits"
        ),
        Metric(
            name="binned_random",
            meaning="information of activations and permuted labels by adaptive bins, bits",
        ),
        Metric(name="kde_inputs", meaning="information of activations and inputs by kernels, bits"),
        Metric(name="kde", meaning="information of activations and true labels by kernels, bits"),
        Metric(name="kde_given", meaning="information of activations and given labels by kernels, bits"),
        Metric(name="kde_random", meaning="information of activations and permuted labels by kernels, bits"),
    )
    by: By = param("units", "whose state: single units (mean), the layer, or principal components (pca)")
    units: int = param(16, "single units at most, those of largest variance", ge=1, unit="units")
    components: int = param(3, "principal components", ge=1, unit="components")
    bins: int = param(30, "bins", ge=2)
    variance: Variance = param(
        "scaled",
        "noise: scaled (0.01 of the largest activity squared), median (0.01 of the median squared distance per "
        "unit), published (0.01)",
    )
    bound: Bound = param("upper", "kernels bound information from above (upper) or below (lower)")

    def measure(self, look: Look, rng: np.random.Generator) -> Mapping[str, float]:
        """Return the figures of a look."""
        found = not_applicable(self.figures)
        if not finite(look):
            return found
        items = items_of(look)
        of_labels = {"": items.labels, "_given": items.given, "_random": permuted(items.labels, rng)}
        activations = self._activations(items.features)
        found |= self._by_bins(activations, of_labels)
        variance = self._variance(activations)
        return found | self._by_kernels(activations, variance, of_labels) if variance > 0 else found

    def _activations(self, features: Floats) -> Floats:
        if self.by == "pca":
            return principal_components(features, self.components)[0]
        largest = np.argsort(-features.var(axis=0), kind="stable")
        return features[:, np.sort(largest[: self.units])] if self.by == "units" else features

    def _variance(self, activations: Floats) -> float:
        if self.variance == "published":
            return 0.01
        if self.variance == "scaled":
            return 0.01 * float((activations**2).max())
        return 0.01 * median_of_pairs(squared_distances(activations)) / int(activations.shape[1])

    def _by_bins(self, activations: Floats, of_labels: Mapping[str, IntArray]) -> dict[str, float]:
        values = activations.astype(np.float32)
        states = binned(values, adaptive_edges(values, self.bins, lowest_edge(values)))
        counts = by_unit if self.by == "units" else by_layer
        nothing = np.zeros(len(states), dtype=np.int64)
        found = {"binned_inputs": float(information(counts(states, nothing)).inputs.mean())}
        for suffix, labels in of_labels.items():
            shown = labels != HIDDEN
            if shown.any():
                found[f"binned{suffix}"] = float(
                    information(counts(states[shown], labels[shown])).labels.mean()
                )
        return found

    def _by_kernels(
        self, activations: Floats, variance: float, of_labels: Mapping[str, IntArray]
    ) -> dict[str, float]:
        parts = np.split(activations, activations.shape[1], axis=1) if self.by == "units" else [activations]
        found: dict[str, list[Floats]] = defaultdict(list)
        for part in parts:
            kernel = noise_kernel(squared_distances(part), variance, self.bound)
            found["kde_inputs"].append(kernel_information(kernel, np.zeros(len(part), dtype=np.int64)).inputs)
            for suffix, labels in of_labels.items():
                shown = np.flatnonzero(labels != HIDDEN)
                if len(shown):
                    seen = kernel[np.ix_(shown, shown)]
                    found[f"kde{suffix}"].append(kernel_information(seen, labels[shown]).labels)
        return {name: float(np.mean(figures)) for name, figures in found.items()}
