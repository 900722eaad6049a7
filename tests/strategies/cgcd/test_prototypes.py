"""Prototypes, spreads, hardness and rehearsal against hand calculation and moments of what is drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from strategies.cgcd.prototypes import class_means, drift_corrected, hardness, rehearsed, spreads


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_means_are_of_unit_features_and_not_scaled_themselves() -> None:
    features = torch.tensor([[2.0, 0], [0, 5], [0, 3]])
    means, counts = class_means(features, torch.tensor([0, 0, 1]), 3)
    torch.testing.assert_close(means, torch.tensor([[0.5, 0.5], [0, 1], [0, 0]]))
    assert counts.tolist() == [2, 1, 0]


def test_the_shared_radius_is_the_root_mean_trace_over_dimensions() -> None:
    """r^2 = mean over classes of trace(Cov_c) / d with divisor n_c: section 4.4 of the method card, by
    numpy's covariance.
    """
    rng = np.random.default_rng(0)
    features, labels = torch.from_numpy(rng.normal(size=(40, 5))), torch.arange(40) % 3
    unit = normalize(features, dim=1).numpy()
    traces = [np.trace(np.cov(unit[labels.numpy() == c].T, bias=True)) / 5 for c in range(3)]
    means, _ = class_means(features, labels, 3)
    assert float(spreads(features, labels, means).mean().sqrt()) == pytest.approx(math.sqrt(np.mean(traces)))


def test_hardness_is_the_mean_cosine_with_the_others() -> None:
    prototypes = torch.tensor([[1.0, 0], [1, 1], [0, 2]])
    half = math.sqrt(0.5)
    np.testing.assert_allclose(hardness(prototypes), [half / 2, half, half / 2], atol=1e-6)
    np.testing.assert_allclose(hardness(prototypes, "max"), [half, half, half], atol=1e-6)
    standard = hardness(prototypes, "standardised")
    assert float(standard.mean()) == pytest.approx(0, abs=1e-6)
    assert float(standard.std()) == pytest.approx(1)
    assert hardness(prototypes[:1]).tolist() == [0.0]


def test_rehearsal_draws_classes_by_their_chance_and_spreads_them() -> None:
    prototypes, chances = torch.eye(3, 8), torch.tensor([0.2, 0.5, 0.3])
    features, labels = rehearsed(prototypes, torch.tensor([[0.1]]), chances, 60_000, _generator())
    np.testing.assert_allclose(torch.bincount(labels) / 60_000, chances, atol=0.01)
    noise = features - prototypes[labels]
    assert float(noise.std()) == pytest.approx(0.1, rel=0.01)
    assert float(noise.mean()) == pytest.approx(0, abs=1e-3)


def test_rehearsal_takes_a_spread_per_class_or_coordinate() -> None:
    per_class = torch.tensor([[0.1], [0.4]])
    features, labels = rehearsed(torch.zeros(2, 6), per_class, torch.ones(2), 20_000, _generator())
    assert [round(float(features[labels == c].std()), 2) for c in (0, 1)] == [0.1, 0.4]
    per_coordinate = torch.tensor([[0.1, 0.2], [0.3, 0.0]])
    features, labels = rehearsed(torch.zeros(2, 2), per_coordinate, torch.ones(2), 40_000, _generator())
    np.testing.assert_allclose(
        [features[labels == c].std(dim=0).tolist() for c in (0, 1)], per_coordinate, atol=0.01
    )


def test_prototypes_move_as_the_features_near_them() -> None:
    """All features turn by the same angle: so does a prototype in their midst. One that nothing is near
    follows the nearest.
    """
    angle = 0.2
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    before = normalize(torch.tensor([[1.0, 0.05], [1, -0.05], [1, 0]]), dim=1)
    moved = drift_corrected(torch.tensor([[1.0, 0.0]]), before, before @ turn.T)
    torch.testing.assert_close(moved, torch.tensor([[math.cos(angle), math.sin(angle)]]), atol=1e-3, rtol=0)
    torch.testing.assert_close(
        drift_corrected(torch.tensor([[1.0, 0.0]]), before, before), torch.tensor([[1.0, 0.0]])
    )
