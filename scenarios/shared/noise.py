"""Kinds of label noise: how wrong labels come about. Every kind is a value, read from text such as
`symmetric[rate=0.4]`.

T[i, j] = P(label j | true class i). Where a kind is no more than a T, `drawn` deals the labels from it: with
exact numbers per class or in total, or each row by itself. `rate` is the share of wrong labels among the
items it can hit: for symmetric noise that is every item, whether or not the new label may be the true one
again; for a class map, the items of the source classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from harness.contracts import AnyArray, IntArray, param
from harness.errors import UserError, unknown
from harness.parameters import text_parameters, validated
from harness.places import written
from harness.selection import single
from scenarios.shared.human_labels import human_labels
from scenarios.shared.instance_noise import Features, part_dependent
from scenarios.shared.noise_maps import class_map, next_in_group

Matrix = NDArray[np.float64]
Counting = Literal["per-class", "global", "each-row"]


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a kind of noise may look at.

    labels: int64 (N,) positions in `class_numbers`, the data set's own numbers of the K classes, ascending.
    rows: int64 (N,) place of each item in the data set.  inputs: fetches the items, (N, ...).
    parts: int64 (N,) training and validation items, say; numbers that are exact are so within each part.
    given: int64 (N,) labels that came with the items beside the true ones, as `labels`, -1 for one of another
        class; None where there are none.
    """

    labels: IntArray
    class_numbers: IntArray
    rows: IntArray
    inputs: Callable[[], AnyArray]
    parts: IntArray
    given: IntArray | None = None


class Noise(BaseModel, ABC):
    """A kind of noise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    knows_truth: ClassVar[bool] = True
    """Whether the labels that are corrupted are true ones."""

    @abstractmethod
    def corrupted(self, known: Known, rng: np.random.Generator) -> IntArray:
        """Return the label handed over for every item, int64 (N,) in [0, K).

        Raises:
            UserError: the parameters do not fit the classes or the items.
        """


class Clean(Noise):
    """No noise."""

    name: ClassVar[str] = "none"

    def corrupted(self, known: Known, rng: np.random.Generator) -> IntArray:
        """Return the true labels."""
        return known.labels.copy()


class Published(Noise):
    """The labels that came with the data, nothing added. Where these have true ones besides, it is known which are
    wrong; elsewhere (ANIMAL-10N, Clothing1M) no figure claims to know.
    """

    name: ClassVar[str] = "published"
    knows_truth: ClassVar[bool] = False

    def corrupted(self, known: Known, rng: np.random.Generator) -> IntArray:
        """Return the labels as they came."""
        if known.given is None:
            return known.labels.copy()
        if outside := int((known.given < 0).sum()):
            raise UserError(
                f"{outside} given labels name classes that are not among the {len(known.class_numbers)} classes with "
                "labels"
            )
        return known.given.copy()


class ByMatrix(Noise):
    """Noise that depends on the true class alone."""

    rate: float = param(0.4, "share of wrong labels", ge=0, lt=1)
    counting: Counting = param(
        "per-class", "exact number of wrong labels per class or in total, or each row by itself"
    )

    @abstractmethod
    def matrix(self, class_numbers: IntArray) -> Matrix:
        """Return T, float64 (K, K)."""

    def corrupted(self, known: Known, rng: np.random.Generator) -> IntArray:
        """Draw from T."""
        return drawn(
            checked(self.matrix(known.class_numbers), self.name),
            known.labels,
            self.counting,
            rng,
            known.parts,
        )


class Symmetric(ByMatrix):
    """Every other class alike.

    With `include_self` the rows that are hit get any class, their own as well (ELR, DivideMix); more are hit
    then, so that `rate` still is
    the share of wrong labels: their "40 %" on 10 classes is rate 0.36 here.
    """

    name: ClassVar[str] = "symmetric"
    include_self: bool = param(False, "whether a new label may be the true class again")

    def matrix(self, class_numbers: IntArray) -> Matrix:
        """Return 1 - rate on the diagonal and the rest shared equally."""
        size = len(class_numbers)
        if size < 2:
            raise UserError("symmetric noise needs at least two classes")
        return np.where(np.eye(size, dtype=bool), 1 - self.rate, self.rate / (size - 1))

    def corrupted(self, known: Known, rng: np.random.Generator) -> IntArray:
        """Draw from T, or hit rate * K / (K - 1) of the rows with any class."""
        if not self.include_self:
            return super().corrupted(known, rng)
        size = len(self.matrix(known.class_numbers))  # refuses a single class
        share = self.rate * size / (size - 1)
        if share > 1:
            raise UserError(
                f"symmetric[rate={self.rate},include_self=true] would hit more than every row: with {size} "
                "classes the rate is "
                f"at most {(size - 1) / size:.3g}"
            )
        wrong = known.labels.copy()
        uniform = np.full((size, size), 1 / size)
        for rows in _hit(np.full(len(wrong), share), known.labels, self.counting, rng, known.parts):
            wrong[rows] = _each_row(uniform, known.labels[rows], rng)
        return wrong


class Asymmetric(ByMatrix):
    """Some classes are taken for another one; always decided from the true label, so a swap does not undo
    itself.
    """

    name: ClassVar[str] = "asymmetric"
    map: str = param("mnist", "cifar10, mnist, or pairs such as 9>1/2>0")

    def matrix(self, class_numbers: IntArray) -> Matrix:
        """Return T of the map."""
        return _mapped(class_map(self.map, class_numbers), len(class_numbers), self.rate)


class PairFlip(ByMatrix):
    """Every class is taken for the next one, the last for the first (Han et al. 2018)."""

    name: ClassVar[str] = "pair"

    def matrix(self, class_numbers: IntArray) -> Matrix:
        """Return 1 - rate on the diagonal, rate beside it."""
        size = len(class_numbers)
        return _mapped({place: (place + 1) % size for place in range(size)}, size, self.rate)


class Superclass(ByMatrix):
    """Every class is taken for the next one of its group. The published CIFAR-100 tables group consecutive
    numbers, which are not its
    superclasses: of their 100 pairs only six share one.
    """

    name: ClassVar[str] = "superclass"
    groups: Literal["consecutive", "superclass"] = param(
        "consecutive", "blocks of numbers (as published), or CIFAR-100's superclasses"
    )
    size: int = param(5, "classes in a consecutive group", ge=2, unit="classes")

    def matrix(self, class_numbers: IntArray) -> Matrix:
        """Return T of the groups."""
        return _mapped(next_in_group(self.groups, self.size, class_numbers), len(class_numbers), self.rate)


class FromMatrix(Noise):
    """A transition matrix of your own: rows joined by `;`, entries by `/`, or a file (.npy, .csv). Classes as
    the data set numbers them.
    """

    name: ClassVar[str] = "matrix"
    rows: str = param("", "such as 0.9/0.1;0.2/0.8")
    file: str = param("", "path of a .npy or .csv file")
    counting: Counting = param(
        "per-class", "exact number of wrong labels per class or in total, or each row by itself"
    )

    def corrupted(self, known: Known, rng: np.random.Generator) -> IntArray:
        """Draw from T."""
        matrix = self.transitions()
        if matrix.shape != (len(known.class_numbers),) * 2:
            raise UserError(
                f"the transition matrix has shape {matrix.shape}, here are {len(known.class_numbers)} classes"
            )
        return drawn(checked(matrix, self.name), known.labels, self.counting, rng, known.parts)

    def transitions(self) -> Matrix:
        """Return T, float64 (C, C).

        Raises:
            UserError: no matrix or two are given, or the file or its text is none.
        """
        if bool(self.rows) == bool(self.file):
            raise UserError("matrix noise needs either rows=0.9/0.1;0.2/0.8 or file=PATH")
        try:
            if self.rows:
                return np.array(
                    [[float(entry) for entry in row.split("/")] for row in self.rows.split(";")],
                    dtype=np.float64,
                )
            if self.file.endswith(".npy"):
                return np.asarray(np.load(written(self.file), allow_pickle=False), dtype=np.float64)
            return np.loadtxt(written(self.file), delimiter=",", ndmin=2)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(
                f"cannot read the transition matrix {self.rows or self.file!r}: {error}"
            ) from None


class InstanceDependent(Noise):
    """Part-dependent noise (Xia et al. 2020): what an item looks like decides what it is taken for; see
    `instance`.
    """

    name: ClassVar[str] = "instance"
    rate: float = param(0.4, "mean of the items' own rates, before they are cut off at 0 and 1", ge=0, lt=1)
    std: float = param(0.1, "standard deviation of an item's own rate", ge=0)
    features: Features = param(
        "standardise", "what the projection sees: raw (as published), scaled to [0, 1], or standardised"
    )
    temperature: float = param(
        0.0,
        "the logits are divided by it; 1 as published, 0 for their own scale, so that they do not saturate",
        ge=0,
    )

    def corrupted(self, known: Known, rng: np.random.Generator) -> IntArray:
        """Draw every row from its own distribution."""
        chances = part_dependent(
            known.inputs(),
            known.labels,
            len(known.class_numbers),
            rng,
            rate=self.rate,
            std=self.std,
            features=self.features,
            temperature=self.temperature,
        )
        return _sampled(chances, rng)


class Human(Noise):
    """Labels that people gave, from a file of CIFAR-N's form; see `human`. `twin` draws from their transition
    matrix instead.
    """

    name: ClassVar[str] = "human"
    file: str = param(
        "", "the .pt file (CIFAR-10_human.pt, CIFAR-100_human.pt) or a plain .npz, below OWB_DATA or by path"
    )
    column: str = param("worse_label", "which annotation")
    twin: bool = param(
        False, "same transition matrix, but blind to the image: separates class from instance effects"
    )

    def corrupted(self, known: Known, rng: np.random.Generator) -> IntArray:
        """Return the label of every row in the file, or draw from the matrix of these rows."""
        observed = human_labels(self.file, self.column, known.rows, known.class_numbers[known.labels])
        places = np.searchsorted(known.class_numbers, observed)
        if (places >= len(known.class_numbers)).any() or (known.class_numbers[places] != observed).any():
            raise UserError(
                f"{self.file} gives labels of classes that are not among the {len(known.class_numbers)} "
                "classes with labels"
            )
        if not self.twin:
            return places.astype(np.int64)
        size = len(known.class_numbers)
        counts = (
            np.bincount(known.labels * size + places, minlength=size**2)
            .reshape(size, size)
            .astype(np.float64)
        )
        counts[np.diag_indices(size)] += counts.sum(axis=1) == 0
        return _each_row(counts / counts.sum(axis=1, keepdims=True), known.labels, rng)


KINDS: dict[str, type[Noise]] = {
    kind.name: kind
    for kind in (
        Clean,
        Published,
        Symmetric,
        Asymmetric,
        PairFlip,
        Superclass,
        FromMatrix,
        InstanceDependent,
        Human,
    )
}


def noise_of(text: str) -> Noise:
    """Return the noise that `text` selects.

    Raises:
        UserError: no such kind or parameter, or a value out of range.
    """
    selection = single(text)
    if selection.name not in KINDS:
        raise unknown("noise", selection.name, KINDS, ", ".join(KINDS))
    kind = KINDS[selection.name]
    return kind(**validated(kind, selection.with_texts(text_parameters(kind)).params))


def checked(matrix: Matrix, name: str) -> Matrix:
    """Return `matrix`, which is square; raise `UserError` where a row is no distribution."""
    sums = matrix.sum(axis=1)
    if (matrix < 0).any() or not np.allclose(sums, 1, atol=1e-6):
        worst = int(np.argmax(np.abs(sums - 1)))
        raise UserError(
            f"row {worst} of the {name} transition matrix should hold chances that sum to 1, got a sum of "
            f"{sums[worst]:.6g}"
            f"{' and negative entries' if (matrix < 0).any() else ''}"
        )
    return np.asarray(matrix / sums[:, None])


def drawn(
    matrix: Matrix, labels: IntArray, counting: Counting, rng: np.random.Generator, parts: IntArray
) -> IntArray:
    """Return labels drawn from T; `counting` says whether the number of wrong ones in each of `parts` is
    exact.

    per-class: round((1 - T[c, c]) * n_c) items of each class are wrong.  global: round(sum of 1 - T[y, y])
    items are, whichever. each-row: every row is drawn by itself, so the number varies.
    """
    if counting == "each-row":
        return _each_row(matrix, labels, rng)
    off = matrix * ~np.eye(len(matrix), dtype=bool)
    leaving = off.sum(axis=1)
    off = np.divide(off, leaving[:, None], out=np.eye(len(matrix)), where=leaving[:, None] > 0)
    wrong = labels.copy()
    for rows in _hit(leaving[labels], labels, counting, rng, parts):
        wrong[rows] = _each_row(off, labels[rows], rng)
    return wrong


def _hit(
    chance: NDArray[np.float64],
    labels: IntArray,
    counting: Counting,
    rng: np.random.Generator,
    parts: IntArray,
) -> list[IntArray]:
    """Return the rows to change, in one or several arrays; `chance` (N,) is each row's chance to be among
    them.
    """
    if counting == "each-row":
        return [np.flatnonzero(rng.random(len(labels)) < chance)]
    whole = [np.flatnonzero(parts == part) for part in np.unique(parts)]
    if counting == "per-class":
        groups = [rows[labels[rows] == label] for rows in whole for label in np.unique(labels[rows])]
        return [rng.permutation(rows)[: round(float(chance[rows].sum()))] for rows in groups]
    sizes = [round(float(chance[rows].sum())) for rows in whole]
    return [
        rng.choice(rows, size, replace=False, p=chance[rows] / chance[rows].sum())
        for rows, size in zip(whole, sizes, strict=True)
        if size
    ]


def _each_row(matrix: Matrix, labels: IntArray, rng: np.random.Generator) -> IntArray:
    return _sampled(matrix[labels], rng)


def _sampled(chances: Matrix, rng: np.random.Generator) -> IntArray:
    """Return one draw from every row of `chances` (N, K), by inversion."""
    ends = np.cumsum(chances, axis=1)
    luck = rng.random((len(chances), 1)) * ends[:, -1:]
    return np.asarray((luck >= ends).sum(axis=1), dtype=np.int64)


def _mapped(targets: dict[int, int], size: int, rate: float) -> Matrix:
    matrix = np.eye(size)
    for source, target in targets.items():
        matrix[source, source] -= rate
        matrix[source, target] += rate
    return matrix
