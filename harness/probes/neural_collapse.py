"""Neural collapse: how far features of a class have fallen together, and class means and classifier with them.

With mu_c the mean of a class, v_c the mean squared distance of its items to mu_c, and mu the centre,
S_W = (1/N) sum_i (x_i - mu_y)(x_i - mu_y)' and S_B = (1/C) sum_c (mu_c - mu)(mu_c - mu)':

NC1, items fall onto the mean of their class: tr S_W / tr S_B; another form is tr(S_W pinv(S_B)) / C.
NC2, class means come to the corners of a simplex: equal lengths of mu_c - mu, cosines of -1 / (C - 1).
NC3, the rows of the classifier come to point where the class means do.
NC4, the classifier comes to decide for the nearest class mean.

Sources: Papyan, Han and Donoho 2020 (arXiv 2008.08186) for NC1 to NC4; Tirer, Huang and Niles-Weed 2023 (arXiv
2210.16658) for the quotient of traces; Zhu et al. 2021 (arXiv 2105.02375) for the forms of NC2 and NC3 over the
classifier; Galanti, Gyorgy and Hutter 2022 (arXiv 2112.15121) for class-distance-normalised variance.

Legend: N items, d features, C classes.

>>> line = by_class([[0.0], [2.0], [4.0], [6.0]], np.array([0, 0, 1, 1]))
>>> quotient(line), round(with_inverse(line), 9), normalised_variance(line)
(0.25, 0.125, 0.0625)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from harness.contracts import HIDDEN, IntArray, Metric, param
from harness.probes.contract import Look, Probe
from harness.probes.items import NAN, Floats, finite, not_applicable

Centre = Literal["classes", "items"]


class Classes(NamedTuple):
    """Items by class.

    names: int64 (C,) labels that occur, rising.  counts: float64 (C,).  means: float64 (C, d).  centred: float64
    (C, d), means without their centre.  within: float64 (N, d), items without the mean of their class.
    variances: float64 (C,), mean squared distance to the mean of the class.
    """

    names: IntArray
    counts: Floats
    means: Floats
    centred: Floats
    within: Floats
    variances: Floats


def by_class(features: ArrayLike, labels: IntArray, centre: Centre = "classes") -> Classes:
    """Return `features` (N, d) by their labels (N,).

    centre: the mean of the class means, or of the items, as the code of Zhu et al. has it; they differ where
    classes are of different size.
    """
    x = np.asarray(features, dtype=np.float64)
    names, index = np.unique(labels, return_inverse=True)
    member = (np.arange(len(names))[:, None] == index).astype(np.float64)
    counts = member.sum(axis=1)
    means = member @ x / counts[:, None]
    within = x - means[index]
    variances = member @ np.einsum("nd,nd->n", within, within) / counts
    centred = means - (means if centre == "classes" else x).mean(axis=0)
    return Classes(names, counts, means, centred, within, variances)


def quotient(classes: Classes) -> float:
    """Return NC1 as tr S_W / tr S_B; 0 where each class is a point; NaN where all class means are one."""
    within = float(classes.counts @ classes.variances / classes.counts.sum())
    return _divided(within, float((classes.centred**2).sum(axis=1).mean()))


def with_inverse(classes: Classes, cut: float = 1e-10) -> float:
    """Return NC1 as tr(S_W pinv(S_B)) / C, eigenvalues of S_B below `cut` of the largest taken as 0; NaN where all
    class means are one. It explodes where two of them nearly coincide.
    """
    _, singular, directions = np.linalg.svd(classes.centred, full_matrices=False)
    spread = singular**2 / len(classes.names)
    kept = spread > cut * spread.max()
    if not kept.any():
        return NAN
    along = classes.within @ directions[kept].T
    return float(((along**2).mean(axis=0) / spread[kept]).sum() / len(classes.names))


def normalised_variance(classes: Classes) -> float:
    """Return class-distance-normalised variance, the mean over pairs of classes of (v_i + v_j) / (2 |mu_i - mu_j|^2);
    NaN where two class means are one, or there is no pair.
    """
    i, j = np.triu_indices(len(classes.names), k=1)
    apart = ((classes.means[i] - classes.means[j]) ** 2).sum(axis=1)
    if not len(i) or not apart.all():
        return NAN
    return float(((classes.variances[i] + classes.variances[j]) / (2 * apart)).mean())


class Simplex(NamedTuple):
    """How far centred class means are from a simplex, 0 each where they form one.

    lengths: standard deviation of their lengths over the mean.  angles: standard deviation of the cosines between
    two of them.  largest_angles: mean distance of these cosines from -1 / (C - 1).
    """

    lengths: float
    angles: float
    largest_angles: float


def simplex(classes: Classes) -> Simplex:
    """Return NC2 in three figures; NaN with fewer than two classes, or a class mean in the centre."""
    lengths = np.sqrt((classes.centred**2).sum(axis=1))
    if len(lengths) < 2 or not lengths.all():
        return Simplex(NAN, NAN, NAN)
    directions = classes.centred / lengths[:, None]
    cosines = (directions @ directions.T)[np.triu_indices(len(lengths), k=1)]
    off = np.abs(cosines + 1 / (len(lengths) - 1)).mean()
    return Simplex(float(lengths.std() / lengths.mean()), float(cosines.std()), float(off))


def off_simplex(products: ArrayLike) -> float:
    """Return |P / |P| - (I - 11' / C) / sqrt(C - 1)|, Frobenius norms, of products (C, C): of classifier rows with
    each other, WW', for NC2; of rows with centred class means, WM', for NC3. NaN with fewer than two, or where all
    are 0.
    """
    p = np.asarray(products, dtype=np.float64)
    count, norm = len(p), np.linalg.norm(p)
    if count < 2 or not norm:
        return NAN
    return float(np.linalg.norm(p / norm - (np.eye(count) - 1 / count) / np.sqrt(count - 1)))


def duality(rows: ArrayLike, centred_means: ArrayLike) -> float:
    """Return NC3, |W / |W| - M / |M||^2 with Frobenius norms: rows of the classifier (C, d) against class means
    without their centre (C, d). From 0, the same directions and relative lengths, to 4; NaN where one is all 0.
    """
    w, m = np.asarray(rows, dtype=np.float64), np.asarray(centred_means, dtype=np.float64)
    sizes = np.linalg.norm(w), np.linalg.norm(m)
    return float(((w / sizes[0] - m / sizes[1]) ** 2).sum()) if all(sizes) else NAN


def nearest(features: ArrayLike, means: Floats) -> IntArray:
    """Return which of `means` (C, d) is nearest to each of `features` (N, d), int64 (N,)."""
    x = np.asarray(features, dtype=np.float64)
    centre = means.mean(axis=0)
    x, m = x - centre, means - centre
    found: IntArray = np.argmin((m**2).sum(axis=1) - 2 * x @ m.T, axis=1)
    return found


def _divided(above: float, below: float) -> float:
    return above / below if below else NAN


class NeuralCollapse(Probe):
    """Neural collapse NC1 to NC4 and class-distance-normalised variance.

    NC1 and the variance are measured with true labels and with those given: under wrong labels the two cross. All
    else is with true labels. NC3 and NC4 take row c of the classifier for class c, and are NaN where it has none for
    a class shown; class means are those of the items measured. A cosine classifier has rows of one length: set
    `centre_head`. Nothing here depends on a turn, shift or scale of the features, NC3 and NC4 apart, which see the
    classifier too. Cost: O(N C d).
    """

    figures = (
        Metric(
            name="nc1",
            better="lower",
            meaning="NC1, variance within classes over variance between them, true labels",
        ),
        Metric(name="nc1_given", better="lower", meaning="NC1 with the labels given"),
        Metric(name="nc1_inverse", better="lower", meaning="NC1 as tr(S_W pinv(S_B)) / C"),
        Metric(name="cdnv", better="lower", meaning="class-distance-normalised variance, true labels"),
        Metric(
            name="cdnv_given",
            better="lower",
            meaning="class-distance-normalised variance with the labels given",
        ),
        Metric(
            name="nc2_lengths", better="lower", meaning="NC2, relative spread of the lengths of class means"
        ),
        Metric(name="nc2_angles", better="lower", meaning="NC2, spread of the cosines between class means"),
        Metric(
            name="nc2_largest_angles",
            better="lower",
            meaning="NC2, mean distance of these cosines from -1 / (C - 1)",
        ),
        Metric(
            name="nc2_head", better="lower", meaning="NC2 of the classifier's rows, distance from a simplex"
        ),
        Metric(
            name="nc3",
            better="lower",
            meaning="NC3, squared distance of classifier and class means, each of length 1",
        ),
        Metric(name="nc3_products", better="lower", meaning="NC3, distance of their products from a simplex"),
        Metric(
            name="nc4",
            better="higher",
            meaning="NC4, share of items where classifier and nearest class mean agree",
        ),
        Metric(name="nearest_mean", better="higher", meaning="accuracy of the nearest class mean"),
    )
    centre: Centre = param("classes", "centre of the class means: their own mean, or that of the items")
    centre_head: bool = param(False, "subtract the mean row of the classifier, for a cosine classifier")

    def measure(self, look: Look, rng: np.random.Generator) -> Mapping[str, float]:
        """Return the figures of a look."""
        found = not_applicable(self.figures)
        if not finite(look):
            return found
        features = np.asarray(look.features, dtype=np.float64)
        for suffix, labels in (("_given", look.given), ("", look.labels)):
            shown = labels != HIDDEN
            if shown.any():
                classes = by_class(features[shown], labels[shown], self.centre)
                found |= {f"nc1{suffix}": quotient(classes), f"cdnv{suffix}": normalised_variance(classes)}
        return found | self._geometry(look, features[shown], classes) if shown.any() else found

    def _geometry(self, look: Look, features: Floats, classes: Classes) -> dict[str, float]:
        """Return the figures with true labels that are left: `features` of the labelled items, and their classes."""
        labels = look.labels[look.labels != HIDDEN]
        lengths, angles, largest_angles = simplex(classes)
        by_mean = nearest(features, classes.means)
        return {
            "nc1_inverse": with_inverse(classes),
            "nc2_lengths": lengths,
            "nc2_angles": angles,
            "nc2_largest_angles": largest_angles,
            "nearest_mean": float((classes.names[by_mean] == labels).mean()),
            **self._against_head(look, classes),
            **_agreement(look, classes, by_mean),
        }

    def _against_head(self, look: Look, classes: Classes) -> dict[str, float]:
        if look.head is None:
            return {}
        head = np.asarray(look.head, dtype=np.float64)
        if self.centre_head:
            head = head - head.mean(axis=0)
        found = {"nc2_head": off_simplex(head @ head.T)}
        if classes.names.max() < len(head):
            rows = head[classes.names]
            found["nc3"] = duality(rows, classes.centred)
            found["nc3_products"] = off_simplex(rows @ classes.centred.T)
        return found


def _agreement(look: Look, classes: Classes, by_mean: IntArray) -> dict[str, float]:
    """Return NC4, the classifier's decisions being among the classes that are shown."""
    logits = look.logits
    if logits is None or classes.names.max() >= logits.shape[1]:
        return {}
    decided = logits[look.labels != HIDDEN][:, classes.names].argmax(axis=1)
    return {"nc4": float((decided == by_mean).mean())}
