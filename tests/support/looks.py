"""Looks at a made-up learner, for tests of probes, and what changes one without changing what it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.contracts import HIDDEN
from harness.probes.contract import Look


def look_at(
    items: int = 120, features: int = 6, classes: int = 4, *, seed: int = 0, spread: float = 0.5
) -> Look:
    """Return a look at clusters of `classes` with uneven sizes, a linear classifier, and a fifth of labels wrong."""
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.integers(0, classes, items) % rng.integers(1, classes + 1, items))
    means = rng.normal(size=(classes, features)) * 2
    x = means[labels] + spread * rng.normal(size=(items, features))
    head = means - means.mean(axis=0) + 0.3 * rng.normal(size=(classes, features))
    bias = rng.normal(size=classes) * 0.1
    given = np.where(rng.random(items) < 0.2, rng.integers(0, classes, items), labels)
    return Look(
        features=x.astype(np.float32),
        logits=(x @ head.T + bias).astype(np.float32),
        head=head.astype(np.float32),
        bias=bias.astype(np.float32),
        labels=labels,
        given=given,
    )


def shuffled(look: Look, seed: int = 1) -> Look:
    """Return the look with its items in another order."""
    order = np.random.default_rng(seed).permutation(len(look.labels))
    fields = {
        name: None if (rows := getattr(look, name)) is None else rows[order]
        for name in ("features", "logits")
    }
    return replace(look, labels=look.labels[order], given=look.given[order], **fields)


def turned(look: Look, seed: int = 2) -> Look:
    """Return the look with features and classifier in other axes, features as float64 so that nothing is rounded."""
    assert look.features is not None
    q = rotation(look.features.shape[1], seed)
    features: Any = np.asarray(look.features, dtype=np.float64) @ q
    head: Any = None if look.head is None else np.asarray(look.head, dtype=np.float64) @ q
    return replace(look, features=features, head=head)


def moved(look: Look, factor: float = 1.0, shift: float = 0.0) -> Look:
    """Return the look with features times `factor`, then moved by `shift` along every axis."""
    features: Any = factor * np.asarray(look.features, dtype=np.float64) + shift
    return replace(look, features=features)


def hidden(look: Look) -> Look:
    """Return the look without a label."""
    none = np.full_like(look.labels, HIDDEN)
    return replace(look, labels=none, given=none)


def rotation(size: int, seed: int) -> NDArray[np.float64]:
    """Return a random orthogonal matrix."""
    q: NDArray[np.float64] = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]
    return q


def same(one: Any, other: Any, tolerance: float = 1e-9) -> bool:
    """Say whether two probes' figures agree, NaN with NaN."""
    return one.keys() == other.keys() and all(
        np.isclose(one[name], other[name], rtol=tolerance, atol=tolerance, equal_nan=True) for name in one
    )
