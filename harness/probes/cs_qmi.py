"""Cauchy-Schwarz quadratic mutual information of features and labels, in bits.

With kernels K of the features and L of the labels, and k_i, l_i the means of their rows:
log2 mean(K o L) + log2(mean K mean L) - 2 log2 mean_i(k_i l_i). It is the Cauchy-Schwarz divergence of the joint
density from the product of the two, both estimated with these kernels: 0 where they are the same, never below,
and in closed form. Here K_ij = exp(-|x_i - x_j|^2 / (2 s^2)), and L_ij = 1 where labels are equal, 0 elsewhere.

Source: Yu et al. 2024 (ICLR, openreview 7wY67ZDQTE), github.com/SJYuCNEL/Cauchy-Schwarz-Information-Bottleneck at
252f86b. Their default s is 10 times the median squared distance, which makes K one everywhere; here s^2 is the median
squared distance.

Legend: N items, d features.

>>> both = equal_labels(np.array([0, 0, 1, 1]))
>>> cs_qmi(both, both), cs_qmi(both, np.ones((4, 4)))
(1.0, 0.0)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harness.contracts import HIDDEN, IntArray, Metric, param
from harness.probes.contract import Look, Probe
from harness.probes.items import (
    NAN,
    Bandwidth,
    Floats,
    finite,
    gaussian,
    items_of,
    median_of_pairs,
    not_applicable,
    permuted,
    squared_distances,
)


def cs_qmi(one: Floats, other: Floats) -> float:
    """Return Cauchy-Schwarz quadratic mutual information in bits of items with two kernels (N, N), symmetric."""
    joint = np.vdot(one, other) / one.size
    product = one.mean() * other.mean()
    across = (one.mean(axis=1) * other.mean(axis=1)).mean()
    return float(np.log2(joint) + np.log2(product) - 2 * np.log2(across))


def normalised(one: Floats, other: Floats) -> float:
    """Return it over the geometric mean of that of each kernel with itself, about 1 where the two say the same, though
    no bound; NaN where a kernel is constant, which informs of nothing.
    """
    own = cs_qmi(one, one) * cs_qmi(other, other)
    return cs_qmi(one, other) / np.sqrt(own) if own > _ROUNDING else NAN


_ROUNDING = 1e-24


def equal_labels(labels: IntArray) -> Floats:
    """Return the kernel (N, N) of labels (N,): 1 where they are equal, 0 elsewhere."""
    kernel: Floats = (labels[:, None] == labels).astype(np.float64)
    return kernel


class CSQMI(Probe):
    """Cauchy-Schwarz quadratic mutual information of features and labels, in bits.

    It is with true labels, with those given, and with random ones.
    With `sigma=median` a turn, shift or scale of the features changes nothing. It works where classes have few items,
    and depends little on their number. Random labels are the true ones permuted: what it comes to where there is
    nothing to know, which is above 0. Cost: O(N^2 d).
    """

    figures = (
        Metric(name="cs_qmi", meaning="Cauchy-Schwarz information of features and true labels, bits"),
        Metric(name="cs_qmi_given", meaning="Cauchy-Schwarz information with the labels given, bits"),
        Metric(name="cs_qmi_random", meaning="Cauchy-Schwarz information with permuted labels, bits"),
        Metric(
            name="cs_qmi_normalised",
            meaning="Cauchy-Schwarz information with true labels over that of each with itself",
        ),
    )
    sigma: Bandwidth = param("median", "bandwidth: median (of distances), or a distance", ablate=(1.0,))

    def measure(self, look: Look, rng: np.random.Generator) -> Mapping[str, float]:
        """Return the figures of a look."""
        found = not_applicable(self.figures)
        if not finite(look):
            return found
        items = items_of(look)
        squared = squared_distances(items.features)
        sigma = np.sqrt(median_of_pairs(squared)) if self.sigma == "median" else self.sigma
        if not sigma > 0:
            return found
        kernel = gaussian(squared, sigma)
        for name, labels in (
            ("cs_qmi", items.labels),
            ("cs_qmi_given", items.given),
            ("cs_qmi_random", permuted(items.labels, rng)),
        ):
            shown = np.flatnonzero(labels != HIDDEN)
            if len(shown):
                part, of_labels = kernel[np.ix_(shown, shown)], equal_labels(labels[shown])
                found[name] = cs_qmi(part, of_labels)
                if name == "cs_qmi":
                    found["cs_qmi_normalised"] = normalised(part, of_labels)
        return found
