"""Classes under other numbers: what is handed over is renamed, and the answers are mapped back.

Within every stage the classes that are named there change places in a ring. Whoever learned classes from the
labels handed over answers the same up to chance; whoever has labels from elsewhere answers the old numbers,
which then mean other classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.cell.sealing import Episode
from harness.contracts import HIDDEN, IntArray, StoredPrediction


def new_names(episodes: Sequence[Episode]) -> IntArray | None:
    """Return the new number of every named class, None where no stage names two."""
    ends = [0, *(episode.stage.named_classes for episode in episodes)]
    names = np.arange(max(ends), dtype=np.int64)
    for low, high in itertools.pairwise(ends):
        if high > low:
            names[low:high] = np.roll(names[low:high], 1)
    return None if np.array_equal(names, np.arange(len(names))) else names


def renamed(episode: Episode, names: IntArray) -> Episode:
    """Return the episode with the labels handed over, and what is told of their noise, under the new numbers."""
    stage = episode.stage
    changes: dict[str, Any] = {"labels": _labels(stage.labels, names)}
    if stage.validation is not None:
        changes["validation"] = replace(stage.validation, labels=_labels(stage.validation.labels, names))
    if stage.noise_info is not None and stage.noise_info.matrix is not None:
        back = np.argsort(names[: len(stage.noise_info.matrix)])
        changes["noise_info"] = replace(stage.noise_info, matrix=stage.noise_info.matrix[np.ix_(back, back)])
    return Episode(replace(stage, **changes), episode.query)


def mapped_back(answer: StoredPrediction, names: IntArray) -> StoredPrediction:
    """Return an answer given under the new numbers under the old ones; numbers beyond the named classes stay."""
    old = np.argsort(names)
    arrays = dict(answer.arrays)
    for field in ("classes", "among_known"):
        if field in arrays:
            classes = arrays[field]
            is_named = (classes >= 0) & (classes < len(names))
            arrays[field] = np.where(is_named, old[np.where(is_named, classes, 0)], classes)
    if "scores" in arrays and arrays["scores"].ndim == 2:
        width = arrays["scores"].shape[1]
        known = names[:width]
        if known.size == 0 or known.max() < width:  # whole stages were answered
            arrays["scores"] = arrays["scores"][:, np.append(known, np.arange(len(known), width))]
    return replace(answer, arrays=arrays)


def _labels(labels: IntArray, names: IntArray) -> IntArray:
    return np.where(labels == HIDDEN, HIDDEN, names[np.where(labels == HIDDEN, 0, labels)])


__all__ = ["mapped_back", "new_names", "renamed"]
