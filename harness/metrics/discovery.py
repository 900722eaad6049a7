"""Figures of category discovery: a learner's rows are matched to the true classes once per stage, then
accuracy is read off by group.

M[p, y] counts the items of class y that were answered as row p. One optimal one-to-one assignment of rows to
classes (Kuhn 1955) maximises the matched counts over everything; match(y) is the count of class y in its row,
and for a set S of classes

    A(S) = sum over y in S of match(y)  /  sum over y in S of count(y)

(GCD, Vaze et al. 2022, "v2" of the released code; Happy, Ma et al. 2024). Surplus rows and surplus classes
stay unmatched and count as errors. Where several assignments are optimal, A over everything is unique and A
of a group is not. Ties are broken class by class in order of number, each getting as much as is left
(`optimal_rows`): so figures depend neither on how rows are numbered nor on the solver.

>>> agreement = match(np.array([1, 1, 0, 2]), np.array([0, 0, 1, 1]))
>>> agreement.accuracy(), agreement.accuracy(np.array([False, True]))
(0.75, 0.5)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

Counts = NDArray[np.int64]
Classes = NDArray[np.bool_]
"""Which classes a group holds, bool (C,)."""


class Match(NamedTuple):
    """The assignment of one stage. Arrays over the C classes.

    row: int64, the row that stands for a class, -1 where none is left.  matched: int64, its items in that
    row.  counts: int64, its items.
    """

    row: Counts
    matched: Counts
    counts: Counts

    def accuracy(self, group: Classes | None = None) -> float:
        """Return A over the classes of `group` (all by default), every item counting the same; NaN where the
        group has no items.
        """
        chosen = slice(None) if group is None else group
        total = int(self.counts[chosen].sum())
        return int(self.matched[chosen].sum()) / total if total else float("nan")

    def per_class(self) -> NDArray[np.float64]:
        """Return the accuracy of every class, float64 (C,); NaN where it has no items."""
        shares = np.full(len(self.counts), np.nan)
        np.divide(self.matched, self.counts, out=shares, where=self.counts > 0)
        return shares

    def per_group(self, group: Counts, n_groups: int) -> NDArray[np.float64]:
        """Return A over each of `n_groups` groups, float64 (n_groups,), NaN for empty ones; `group` int (C,)
        is that of every class.
        """
        shares, (matched, counts) = (
            np.full(n_groups, np.nan),
            (np.bincount(group, own, n_groups) for own in (self.matched, self.counts)),
        )
        np.divide(matched, counts, out=shares, where=counts > 0)
        return shares

    def balanced_accuracy(self, group: Classes | None = None) -> float:
        """Return the mean accuracy over the classes of `group` that have items, every class counting the
        same.
        """
        return mean_of_finite(self.per_class()[slice(None) if group is None else group])

    def hardest(self, group: Classes | None = None) -> float:
        """Return the smallest accuracy of a class of `group` (Happy, Table 8)."""
        own = self.per_class()[slice(None) if group is None else group]
        own = own[np.isfinite(own)]
        return float(own.min()) if len(own) else float("nan")


def counted_rows(rows: Counts) -> Counts:
    """Return the rows answered, int64 (N,), renumbered where some are negative or beyond the items, so that
    no table is sized by them.
    """
    return (
        rows
        if rows.min(initial=0) >= 0 and rows.max(initial=0) < max(1024, len(rows))
        else np.unique(rows, return_inverse=True)[1]
    )


def contingency(predicted: NDArray[Any], classes: NDArray[Any], *, n_classes: int | None = None) -> Counts:
    """Return M, int64 (rows, classes): how many items of each class got each row.

    Args:
        predicted: int (N,) rows answered, not negative.
        classes: int (N,) true classes.
        n_classes: at least how many columns; by default the largest class decides.
    """
    rows = int(predicted.max(initial=-1)) + 1
    columns = max(n_classes or 0, int(classes.max(initial=-1)) + 1)
    cells = predicted.astype(np.int64) * columns + classes
    return np.bincount(cells, minlength=rows * columns).reshape(rows, columns)


def match(predicted: NDArray[Any], classes: NDArray[Any], *, n_classes: int | None = None) -> Match:
    """Match rows to classes over all items at once; arguments as in `contingency`."""
    matrix = contingency(predicted, classes, n_classes=n_classes)
    return matched_by(matrix, optimal_rows(matrix))


def matched_by(matrix: Counts, row: Counts) -> Match:
    """Return the match that `row`, int64 (C,), -1 for none, is on M, int64 (rows, C)."""
    matched = np.zeros(len(row), dtype=np.int64)
    matched[row >= 0] = matrix[row[row >= 0], np.flatnonzero(row >= 0)]
    return Match(row, matched, matrix.sum(axis=0))


def optimal_rows(matrix: Counts) -> Counts:
    """Return the row for each class under which most items match, int64 (C,), -1 where none is left.

    Of several optima the one is taken that matches most of class 0, of those the one that matches most of
    class 1, and so on; then it is settled how many items of each class match. What is still open goes to the
    row of the same number, else to the smallest.

    Args:
        matrix: M, int64 (rows, C), not negative.
    """
    (rows, classes), size = matrix.shape, max(matrix.shape)
    square, same = np.zeros((2, size, size), dtype=np.int64)
    square[:rows, :classes] = matrix
    np.fill_diagonal(same[:rows, :classes], 1)
    owner = np.empty(size, dtype=np.int64)  # the row of each column
    assigned, columns = linear_sum_assignment(square, maximize=True)
    owner[columns] = assigned
    allowed = _in_optima(square, owner)
    for worth in (square, same, -np.arange(size)[:, None].repeat(size, axis=1)):
        for column in np.flatnonzero(allowed[:, :classes].sum(axis=0) > 1).tolist():
            _exchange(owner, column, allowed, worth)
            allowed[:, column] &= worth[:, column] == worth[owner[column], column]
    return np.where(owner[:classes] < rows, owner[:classes], -1)


def _in_optima(square: Counts, owner: Counts) -> NDArray[np.bool_]:
    """Return which pairs of row and column occur in an optimal assignment, bool (n, n), given one of these.

    A step from column c to j is what the row of c would gain at j, the price of a column the longest path to
    it; no cycle gains anything. Pairs without slack in the dual are the steps that reach the price, and those
    of them occur that lie on a cycle.
    """
    gains = square[owner] - square[owner, np.arange(len(owner))][:, None]
    price, dearer = np.zeros(len(owner), dtype=np.int64), gains.max(axis=0, initial=0)
    while not np.array_equal(price, dearer):
        price, dearer = dearer, (dearer[:, None] + gains).max(axis=0, initial=0)
    allowed = np.empty(square.shape, dtype=np.bool_)
    is_tight = price[:, None] + gains == price
    ring = connected_components(csr_array(is_tight), connection="strong")[1]
    allowed[owner] = is_tight & (ring[:, None] == ring)
    return allowed


def _exchange(owner: Counts, column: int, allowed: NDArray[np.bool_], worth: Counts) -> None:
    """Give `column` the row of most worth, in place, by a ring of exchanges of rows among columns, each of
    them allowed.
    """
    wanted = np.where(allowed[:, column], worth[:, column], worth[owner[column], column])
    if wanted.max() == wanted[owner[column]]:
        return
    before = np.full(len(owner), -1)  # the column whose row a column takes
    before[column] = column
    reached = [column]
    for place in reached:
        further = np.flatnonzero(allowed[owner[place]] & (before < 0))
        before[further] = place
        reached += further.tolist()
    last = max(reached, key=lambda place: int(wanted[owner[place]]))
    ring = [last]
    while ring[-1] != column:
        ring.append(int(before[ring[-1]]))
    owner[ring] = owner[[*ring[1:], last]]


class Groups(NamedTuple):
    """Accuracy by group after stage t; NaN where a group is empty.

    everything: all classes revealed so far.  old, new: classes of earlier stages and of this one ("Seen" and
    "Unseen" in the released log, the soft split, which the paper's tables use).  initial, novel: classes of
    stage 0 and all later ones ("Old" and "New" there, the hard split).
    """

    everything: float
    old: float
    new: float
    initial: float
    novel: float


def by_group(agreement: Match, arrival: NDArray[Any], stage: int) -> Groups:
    """Return the accuracies after `stage`; `arrival` int (C,) is the stage that reveals each class. At stage
    0 nothing is old or novel.
    """
    seen = arrival <= stage
    is_now = arrival == stage
    groups = (seen, seen & ~is_now, is_now, arrival == 0, seen & (arrival > 0))
    return Groups(*(agreement.accuracy(group) for group in groups))


def forgetting_of_initial(stages: Sequence[Groups]) -> float:
    """Return Happy's forgetting, max over t >= 1 of Init_0 - Init_t (section 4.1); NaN with a single stage."""
    return max((stages[0].initial - later.initial for later in stages[1:]), default=float("nan"))


def forgetting_of_seen(stages: Sequence[Groups]) -> float:
    """Return the forgetting that Grow and Merge defines, max over t >= 1 of Init_0 - Old_t, over a growing
    old group.
    """
    return max((stages[0].initial - later.old for later in stages[1:]), default=float("nan"))


def discovery(stages: Sequence[Groups]) -> tuple[float, float]:
    """Return mean New_t over t >= 1 (Happy) and the last New_t (Grow and Merge); stages without new classes
    do not count.
    """
    found = [later.new for later in stages[1:] if np.isfinite(later.new)]
    return (mean_of_finite(np.array(found)), found[-1]) if found else (float("nan"), float("nan"))


def new_taken_for_old(predicted: NDArray[Any], is_new: NDArray[np.bool_], old_rows: int) -> float:
    """Return the share of items of new classes that were answered as one of the first `old_rows` rows (Happy,
    Table 8); NaN without any.

    Args:
        predicted: int (N,) rows answered; a negative number is no row, neither an old one nor a new one.
        is_new: bool (N,) whether an item's class is revealed in this stage.
        old_rows: rows that the learner owned before the stage.
    """
    rows = predicted[is_new]
    return mean_of_finite(((rows >= 0) & (rows < old_rows)).astype(np.float64))


def probability_gap(probabilities: NDArray[Any], old_rows: int) -> float:
    """Return the mean over items of the total probability of the old rows minus that of the new ones (Happy,
    Table 8).

    Args:
        probabilities: float (N, rows), rows summing to one.
        old_rows: rows that the learner owned before the stage.
    """
    return mean_of_finite(probabilities[:, :old_rows].sum(axis=1) - probabilities[:, old_rows:].sum(axis=1))


def mean_of_finite(values: NDArray[Any]) -> float:
    """Return the mean of the values that are defined; NaN where none is."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


__all__ = [
    "Groups",
    "Match",
    "by_group",
    "contingency",
    "counted_rows",
    "discovery",
    "forgetting_of_initial",
    "forgetting_of_seen",
    "match",
    "matched_by",
    "mean_of_finite",
    "new_taken_for_old",
    "optimal_rows",
    "probability_gap",
]
