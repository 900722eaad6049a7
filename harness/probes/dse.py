"""Diffusion spectral entropy of features, and their mutual information with labels, in bits.

Items walk at random to each other, the nearer the likelier. With G_ij = exp(-|x_i - x_j|^2 / (2 sigma^2)), deg its row
sums and lambda the eigenvalues of G_ij / sqrt(deg_i deg_j), entropy is that of a_i = |lambda_i|^t / sum |lambda|^t: 0
where all items are one point, log2 N where none sees another. Information with labels is how much lower it is
within a class than in as many items of any class, mean over classes by size.

Source: Liao, Liu et al. 2024 (arXiv 2312.04823), github.com/ChenLiu-1996/DiffusionSpectralEntropy at dc20ffd. As in
their code the walk is that of G; the paper has G divided by sqrt(deg_i deg_j) first, here `anisotropic`. Their sigma is
10 whatever the features: it then tells their scale. The default here follows them: half the median distance.

Legend: N items, d features, C classes.

>>> far = 100 * np.arange(8.0)[:, None]
>>> round(spectral_entropy(gaussian(squared_distances(far), sigma=10)), 9)
3.0
>>> round(abs(spectral_entropy(np.ones((8, 8)))), 9)
0.0
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Literal

import numpy as np

from harness.contracts import IntArray, Metric, param
from harness.probes.contract import Look, Probe
from harness.probes.items import (
    Bandwidth,
    Floats,
    finite,
    gaussian,
    in_classes,
    items_of,
    median_of_pairs,
    not_applicable,
    permuted,
    squared_distances,
)

Walk = Literal["walk", "anisotropic"]


def spectral_entropy(kernel: Floats, t: float = 1, walk: Walk = "walk") -> float:
    """Return diffusion spectral entropy in bits of items with the Gaussian `kernel` (N, N), diffused for a time `t`."""
    return float(_entropies(kernel[None], t, walk)[0])


def spectral_information(
    kernel: Floats, labels: IntArray, t: float = 1, walk: Walk = "walk", repeats: int = 5
) -> float:
    """Return mutual information in bits of items with the Gaussian `kernel` (N, N) and their labels (N,).

    For a class of n items: mean entropy of `repeats` random subsets of n items, less the entropy of the class. The
    subsets are those of the authors' code, drawn by Python's `random` from seed 0 for every class anew.
    """
    names, counts = np.unique(labels, return_counts=True)
    of_subsets = {int(n): _of_subsets(kernel, int(n), t, walk, repeats) for n in np.unique(counts)}
    within = [
        spectral_entropy(kernel[np.ix_(rows, rows)], t, walk)
        for rows in (np.flatnonzero(labels == name) for name in names)
    ]
    gained = [of_subsets[int(n)] - entropy for n, entropy in zip(counts, within, strict=True)]
    return float(counts @ gained / counts.sum())


def _of_subsets(kernel: Floats, size: int, t: float, walk: Walk, repeats: int) -> float:
    draws = random.Random(0)  # noqa: S311 (the published subsets)
    rows = np.array([draws.sample(range(len(kernel)), k=size) for _ in range(repeats)])
    return float(_entropies(kernel[rows[:, :, None], rows[:, None, :]], t, walk).mean())


def _entropies(kernels: Floats, t: float, walk: Walk) -> Floats:
    """Return the entropy (B,) of each of `kernels` (B, N, N)."""
    for _ in range(2 if walk == "anisotropic" else 1):
        root = np.sqrt(kernels.sum(axis=2))
        kernels = kernels / (root[:, :, None] * root[:, None, :])
    power = np.abs(np.linalg.eigvalsh(kernels)) ** t
    share = power / power.sum(axis=1, keepdims=True) + np.finfo(float).eps
    entropies: Floats = -(share * np.log2(share)).sum(axis=1)
    return entropies


class DSE(Probe):
    """Diffusion spectral entropy of features, and their information with labels, in bits.

    Information is with true labels, with those given, and with random ones.
    With `sigma=median`, half the median distance of two items, a turn, shift or scale of the features changes nothing;
    with a number, 10 as published, all figures grow with the scale of the features. Both depend on the number of
    items, and information on the sizes of classes too: compare at equal ones. Random labels are the true ones
    permuted, what information comes to where there is none. Classes of fewer than `smallest` items are left out of
    the information. Cost: O(N^3).
    """

    figures = (
        Metric(name="dse", meaning="diffusion spectral entropy of the features, bits"),
        Metric(name="dsmi", meaning="diffusion spectral information with true labels, bits"),
        Metric(name="dsmi_given", meaning="diffusion spectral information with the labels given, bits"),
        Metric(name="dsmi_random", meaning="diffusion spectral information with permuted labels, bits"),
    )
    sigma: Bandwidth = param(
        "median", "bandwidth: median (half the median distance), or a distance", ablate=(10.0,)
    )
    t: float = param(1.0, "diffusion time, the power of eigenvalues", gt=0)
    kernel: Walk = param(
        "walk", "as in the code (walk) or as in the paper (anisotropic)", ablate=("anisotropic",)
    )
    repeats: int = param(5, "random subsets of the size of a class", ge=1)
    smallest: int = param(10, "items that a class needs", ge=1, unit="items")

    def measure(self, look: Look, rng: np.random.Generator) -> Mapping[str, float]:
        """Return the figures of a look."""
        found = not_applicable(self.figures)
        if not finite(look):
            return found
        items = items_of(look)
        squared = squared_distances(items.features)
        sigma = np.sqrt(median_of_pairs(squared)) / 2 if self.sigma == "median" else self.sigma
        if not sigma > 0:
            return found
        kernel = gaussian(squared, sigma)
        found["dse"] = spectral_entropy(kernel, self.t, self.kernel)
        for name, labels in (
            ("dsmi", items.labels),
            ("dsmi_given", items.given),
            ("dsmi_random", permuted(items.labels, rng)),
        ):
            shown = np.flatnonzero(in_classes(labels, self.smallest))
            if len(shown):
                found[name] = spectral_information(
                    kernel[np.ix_(shown, shown)], labels[shown], self.t, self.kernel, self.repeats
                )
        return found
