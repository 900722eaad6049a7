"""Learners on frozen features, against loops over items and plain second implementations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fakes import FakeContext, stage_of

from harness.contracts import Query, Strategy
from harness.plugins import find
from strategies.class_incremental.frozen.fecam import FeCAM
from strategies.class_incremental.frozen.nearest_mean import NearestClassMean
from strategies.class_incremental.frozen.ranpac import RanPAC, chosen_ridge
from strategies.class_incremental.frozen.streaming_lda import StreamingLDA

NAMES = ("nearest-class-mean", "streaming-lda", "ranpac", "fecam")


def _begun(strategy: Strategy) -> Any:
    strategy.start(FakeContext())
    return strategy


def _items(classes: int = 3, size: int = 40, d: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    labels = rng.integers(classes, size=size)
    features = rng.normal(size=(size, d)) + 2 * np.eye(classes, d)[labels]
    return torch.from_numpy(features), torch.from_numpy(labels)


def test_the_nearest_mean_by_hand() -> None:
    """Means (3, 0) and (0, 1): (1, 2) has cosine 1 / sqrt 5 and 2 / sqrt 5, and distances 8 and 2 squared."""
    features, labels = torch.tensor([[2.0, 0], [4, 0], [0, 1]]).double(), torch.tensor([0, 0, 1])
    for distance, expected in (("cosine", [5**-0.5, 2 * 5**-0.5]), ("euclidean", [-8.0, -2.0])):
        learner = _begun(NearestClassMean(distance=distance))
        learner.update(features, labels, 2)
        found = learner.logits(torch.tensor([[1.0, 2.0]]).double())
        torch.testing.assert_close(found, torch.tensor([expected]).double())


@pytest.mark.parametrize("learner", [NearestClassMean, FeCAM, StreamingLDA, RanPAC])
def test_stages_add_up_to_what_all_items_at_once_give(learner: type[Any]) -> None:
    """Also where a class comes back. The ridge of RanPAC is chosen per stage, so its sums are compared."""
    values = {"projections": 30} if learner is RanPAC else {}
    features, labels = _items()
    whole, parted = _begun(learner(**values)), _begun(learner(**values))
    whole.update(features, labels, 3)
    first = labels[:25] < 2
    parted.update(features[:25][first], labels[:25][first], 2)
    rest = torch.cat([torch.arange(25)[~first], torch.arange(25, 40)])
    if learner is StreamingLDA:  # depends on the order of items
        whole = _begun(learner())
        order = torch.cat([torch.arange(25)[first], rest])
        whole.update(features[order], labels[order], 3)
    parted.update(features[rest], labels[rest], 3)
    if learner is RanPAC:
        torch.testing.assert_close(parted.gram, whole.gram)
        torch.testing.assert_close(parted.sums, whole.sums)
    else:
        torch.testing.assert_close(parted.logits(features), whole.logits(features))


def test_streaming_lda_takes_in_items_as_one_by_one() -> None:
    features, labels = _items()
    learner = _begun(StreamingLDA(shrinkage=0.1))
    learner.update(features[:15], labels[:15], 3)
    learner.update(features[15:], labels[15:], 3)
    means, counts, covariance = np.zeros((3, 5)), np.zeros(3), np.zeros((5, 5))
    for t, (item, label) in enumerate(zip(features.numpy(), labels.numpy(), strict=True)):
        away = item - means[label] if counts[label] else np.zeros(5)
        covariance = (t * covariance + t / (t + 1) * np.outer(away, away)) / (t + 1)
        means[label] += (item - means[label]) / (counts[label] + 1)
        counts[label] += 1
    np.testing.assert_allclose(learner.covariance.numpy(), covariance, atol=1e-12)
    inverse = np.linalg.inv(0.9 * covariance + 0.1 * np.eye(5))
    expected = [
        [item @ inverse @ mean - mean @ inverse @ mean / 2 for mean in means] for item in features.numpy()
    ]
    np.testing.assert_allclose(learner.logits(features).numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("size", [20, 400])
def test_the_ridge_is_the_one_that_answers_the_last_fifth_best(size: int) -> None:
    """Solved anew for every ridge; with fewer items than projections, and with more."""
    features, labels = _items(size=size)
    seen = torch.relu(features @ torch.from_numpy(np.random.default_rng(1).normal(size=(5, 30))))
    targets = torch.eye(3).double()[labels]
    fitted = int(0.8 * size)
    errors = []
    for power in range(-8, 9):
        ridged = seen[:fitted].T @ seen[:fitted] + 10.0**power * torch.eye(30)
        weights = torch.linalg.solve(ridged, seen[:fitted].T @ targets[:fitted])
        errors.append(float((seen[fitted:] @ weights - targets[fitted:]).square().mean()))
    assert chosen_ridge(seen, targets) == 10.0 ** (int(np.argmin(errors)) - 8)


def test_ranpac_is_ridge_regression_on_the_projections() -> None:
    features, labels = _items(size=60)
    learner = _begun(RanPAC(projections=16))
    learner.update(features, labels, 3)
    assert learner.directions.shape == (5, 16)
    seen = torch.relu(features @ learner.directions)
    ridge, targets = chosen_ridge(seen, torch.eye(3).double()[labels]), torch.eye(3).double()[labels]
    weights = torch.from_numpy(
        np.linalg.lstsq(
            np.concatenate([seen.numpy(), ridge**0.5 * np.eye(16)]),
            np.concatenate([targets.numpy(), np.zeros((16, 3))]),
            rcond=None,
        )[0]
    )
    torch.testing.assert_close(learner.logits(features), seen @ weights, rtol=1e-6, atol=1e-6)
    plain = _begun(RanPAC(projections=0))
    plain.update(features, labels, 3)
    torch.testing.assert_close(plain.gram, features.T @ features)


def test_fecam_is_a_mahalanobis_distance_by_correlations_of_every_class() -> None:
    features, labels = _items()
    learner = _begun(FeCAM(diagonal=0.5, off_diagonal=0.25))
    learner.update(features, labels, 3)
    unit = features.numpy() / np.linalg.norm(features.numpy(), axis=1, keepdims=True)
    expected = np.empty((40, 3))
    for label in range(3):
        own = unit[labels.numpy() == label]
        covariance = np.cov(own.T)
        others = covariance[~np.eye(5, dtype=bool)].mean()
        shrunk = covariance + 0.5 * np.trace(covariance) / 5 * np.eye(5) + 0.25 * others * (1 - np.eye(5))
        inverse = np.linalg.inv(shrunk / np.sqrt(np.outer(np.diag(shrunk), np.diag(shrunk))))
        away = unit - own.mean(axis=0)
        expected[:, label] = -np.einsum("nd,de,ne->n", away, inverse, away)
    np.testing.assert_allclose(learner.logits(features).numpy(), expected, rtol=1e-9)


def test_a_class_of_one_item_has_a_euclidean_distance() -> None:
    learner = _begun(FeCAM())
    learner.update(torch.tensor([[0.0, 2.0]]).double(), torch.tensor([0]), 1)
    torch.testing.assert_close(
        learner.logits(torch.tensor([[3.0, 0.0]]).double()), torch.tensor([[-2.0]]).double()
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_class_without_an_item_is_never_answered(name: str) -> None:
    values = {"projections": 20} if name == "ranpac" else {}
    learner = _begun(find("strategy", name).cls(**values))
    features, labels = _items(classes=2)
    learner.update(features, labels * 2, 3)
    answers = learner.logits(features)
    assert torch.isneginf(answers[:, 1]).all()
    assert torch.isfinite(answers[:, [0, 2]]).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seen", ["inputs", "backbone"])
def test_features_are_inputs_or_what_the_network_makes_of_them_which_stays_as_drawn(
    name: str, seen: str
) -> None:
    values = {"projections": 20} if name == "ranpac" else {}
    learner = _begun(find("strategy", name).cls(features=seen, **values))
    learner.learn(stage_of(0, np.arange(40) % 2, 2))
    before = {key: value.clone() for key, value in learner.model.backbone.state_dict().items()}
    stage = stage_of(1, np.arange(40) % 2 + 2, 4)
    learner.learn(stage)
    torch.testing.assert_close(learner.model.backbone.state_dict(), before)
    answered = learner.predict(Query(ids=stage.ids, inputs=stage.inputs)).classes
    (features,) = learner.seen(torch.from_numpy(np.asarray(stage.inputs)))
    expected = np.asarray(stage.inputs).reshape(40, -1)
    assert (features.shape == expected.shape and np.allclose(features, expected)) is (seen == "inputs")
    np.testing.assert_array_equal(answered, learner.logits(features).argmax(dim=1))


def test_probes_see_features_and_what_is_answered_and_no_head_that_nobody_uses() -> None:
    learner = _begun(NearestClassMean(distance="euclidean"))
    stage = stage_of(0, np.arange(40) % 2, 2)
    assert learner.observed(stage.inputs) is None
    learner.learn(stage)
    shown = learner.observed(stage.inputs)
    (features,) = learner.seen(torch.from_numpy(np.asarray(stage.inputs)))
    np.testing.assert_allclose(shown.features, features, rtol=1e-6)
    np.testing.assert_allclose(shown.logits, learner.logits(features), rtol=1e-6)
    assert shown.head is None and shown.bias is None
    assert learner.surface(stage.inputs, stage.labels) is None
