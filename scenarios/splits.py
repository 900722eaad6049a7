"""Which items are kept for the test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness import seeds
from harness.contracts import Data, IntArray


def test_mask(data: Data, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Draw the test items, bool (N,): whole groups where the data set has groups, otherwise the same share of every class.

    Every class gets at least one; the stream is `split` under `seed`.
    """
    rng = seeds.stream("split", seed=seed)
    if data.groups is not None:
        groups = rng.permutation(np.unique(data.groups))
        return np.isin(data.groups, groups[: max(1, round(fraction * len(groups)))])
    mask = np.zeros(len(data.labels), dtype=bool)
    for label in range(len(data.class_names)):
        rows: IntArray = rng.permutation(np.flatnonzero(data.labels == label))
        mask[rows[: max(1, round(fraction * len(rows)))]] = True
    return mask
