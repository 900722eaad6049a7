"""Figures of class-incremental learning, from the accuracy matrix.

R[i, j] is the accuracy on the test items of stage j after learning stage i (Lopez-Paz and Ranzato 2017,
"Gradient Episodic Memory", section 2). Rows are learners in time, columns are stages of arrival; a row that
was not reached is NaN.

>>> forgetting(np.array([[0.8, 0.0], [0.5, 0.9]]))
0.3
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
IntArray = NDArray[np.int64]


def accuracy_matrix(
    stages: Sequence[int],
    predicted: Sequence[IntArray],
    labels: Sequence[IntArray],
    arrival: Sequence[IntArray],
    n_stages: int,
) -> Matrix:
    """Return R, float64 (n_stages, n_stages).

    Args:
        stages: the stage each answer was given after.
        predicted: int (N,) classes answered, one array per answer.
        labels: int (N,) true classes of the same items.
        arrival: int (N,) the stage in which each item's class arrives.
        n_stages: T.
    """
    matrix = np.full((n_stages, n_stages), np.nan)
    for row, answer, truth, column in zip(stages, predicted, labels, arrival, strict=True):
        matrix[row] = accuracy_row(answer, truth, column, n_stages)
    return matrix


def accuracy_row(
    predicted: IntArray, labels: IntArray, arrival: IntArray, n_stages: int
) -> NDArray[np.float64]:
    """Return a row of R, float64 (n_stages,), NaN for stages without items; arguments as in
    `accuracy_matrix`, of one answer.
    """
    row = np.full(n_stages, np.nan)
    hits = np.bincount(arrival, weights=predicted == labels, minlength=n_stages)
    asked = np.bincount(arrival, minlength=n_stages)
    np.divide(hits, asked, out=row, where=asked > 0)
    return row


def average_accuracy(matrix: Matrix) -> float:
    """Return the mean of the last row: every stage counts the same, whatever its size (Lopez-Paz and Ranzato
    2017, ACC).
    """
    return float(np.mean(matrix[-1]))


def average_incremental_accuracy(seen_accuracy: Sequence[float]) -> float:
    """Return the mean over stages of the accuracy on all items of the classes seen so far (Rebuffi et al.
    2017, iCaRL).
    """
    return float(np.mean(seen_accuracy))


def forgetting(matrix: Matrix) -> float:
    """Return the mean drop from the best earlier accuracy of a stage to its last (Chaudhry et al. 2018,
    "Riemannian Walk", eq. 3).

    F = mean over j < T-1 of  max over i in [j, T-2] of R[i, j]  -  R[T-1, j].  NaN for a single stage.
    """
    last = len(matrix) - 1
    drops = [float(np.max(matrix[j:last, j]) - matrix[last, j]) for j in range(last)]
    return float(np.round(np.mean(drops), 12)) if drops else float("nan")


def backward_transfer(matrix: Matrix) -> float:
    """Return the mean change of a stage's accuracy since it was learned (Lopez-Paz and Ranzato 2017, BWT).
    NaN for a single stage.
    """
    changes = (matrix[-1] - np.diag(matrix))[:-1]
    return float(np.mean(changes)) if len(changes) else float("nan")


def forward_transfer(matrix: Matrix, untrained: Sequence[float]) -> float:
    """Return the mean head start on a stage just before it is learned (Lopez-Paz and Ranzato 2017, FWT). NaN
    for a single stage.

    FWT = mean over j > 0 of  R[j-1, j] - untrained[j],  with `untrained` the expected accuracy of a learner
    that has learned nothing: 1 / classes of the stage where the stage is told at prediction, 0 where the
    classes have no name yet (FWT is then 0 as well).
    """
    gains = [float(matrix[j - 1, j] - untrained[j]) for j in range(1, len(matrix))]
    return float(np.mean(gains)) if gains else float("nan")
