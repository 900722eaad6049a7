"""Detectors of anomalies on striped images: what each answers against a second computation, what stays when
stages follow each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from fakes import FakeContext
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist, mahalanobis
from torch import Tensor

from harness import checkpoint, seeds
from harness.checks.conformance import check_strategy
from harness.contracts import (
    Deal,
    DealtStage,
    Metric,
    Prediction,
    Query,
    Scenario,
    Scores,
    Stage,
    StoredPrediction,
    Strategy,
    Truth,
)
from harness.errors import Unsuitable, UserError
from strategies.anomaly.base import PatchDetector, Standard, joined
from strategies.anomaly.colour_statistics import ColourStatistics
from strategies.anomaly.coreset import k_centres, projected
from strategies.anomaly.image_distance import ImageDistance
from strategies.anomaly.padim import PaDiM
from strategies.anomaly.patch_bank import (
    JointBank,
    PatchCore,
    PatchKNN,
    StagedBank,
    equal_shares,
    nearest,
    proportional_shares,
    rarity,
)
from strategies.anomaly.patch_gaussian import Moments, PatchGaussian
from strategies.anomaly.patch_prior import PatchPrior
from strategies.anomaly.pixel_autoencoder import PixelAutoencoder
from strategies.ood_scores.proximal import envelope

SIDE, EACH = 32, 12
PATCHES = (SIDE // 4) ** 2


def _stripes(category: int, items: int, rng: np.random.Generator, *, bad: bool = False) -> np.ndarray:
    """Return uint8 (items, 3, 32, 32): stripes of a wavelength and a colour of the category, with noise; bad
    ones have a dark square.
    """
    down, across = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
    along = down if category % 2 else across
    phase = rng.uniform(0, 2 * np.pi, size=(items, 1, 1))
    grey = (
        120
        + 50 * np.sin(2 * np.pi * along / (5 + 3 * category) + phase)
        + 6 * rng.normal(size=(items, SIDE, SIDE))
    )
    if bad:
        grey[:, 8:18, 12:22] = 30
    tint = 1 + 0.15 * np.roll([1.0, 0.0, -1.0], category)
    return np.clip(grey[:, None] * tint[:, None, None], 0, 255).astype(np.uint8)


RNG = np.random.default_rng(0)
NORMAL = [_stripes(category, EACH, RNG) for category in range(3)]
TESTED = np.concatenate(
    [_stripes(category, 4, RNG, bad=bad) for category in range(3) for bad in (False, True)]
)
IS_BAD = np.tile(np.repeat([False, True], 4), 3)
ALL = Query(ids=np.arange(len(TESTED)), inputs=TESTED)


@dataclass
class Context(FakeContext):
    """The default encoder and a short training."""

    backbone: str = "gabor"
    epochs: int = 3


def _stage(index: int, categories: Sequence[int]) -> Stage:
    inputs = np.concatenate([NORMAL[category] for category in categories])
    labels = np.repeat(np.array(categories, dtype=np.int64), EACH)
    return Stage(
        index=index,
        ids=np.arange(len(labels)),
        inputs=inputs,
        labels=labels,
        named_classes=max(categories) + 1,
        new_classes=len(categories),
    )


def _started(strategy: Strategy, **options: Any) -> Any:
    strategy.start(Context(**options))
    return strategy


def _learnt(strategy: Strategy, *stages: Sequence[int], **options: Any) -> Any:
    """Return the strategy after stages of these categories."""
    _started(strategy, **options)
    for index, categories in enumerate(stages):
        strategy.learn(_stage(index, categories))
    return strategy


def _tokens(strategy: PatchDetector, inputs: np.ndarray) -> np.ndarray:
    """Return what is compared, float64 (N, P, D)."""
    tokens = strategy.tokens_of(inputs)
    return (
        (strategy.described(tokens) if isinstance(strategy, StagedBank) else joined(tokens)).double().numpy()
    )


def _maps(strategy: Strategy, query: Query = ALL) -> np.ndarray:
    maps = strategy.predict(query).anomaly_maps
    assert maps is not None and maps.dtype == np.float32
    return maps.reshape(len(maps), -1).astype(np.float64)


MAKERS: dict[str, Callable[[], Strategy]] = {
    "colour": ColourStatistics,
    "colour-nearest": lambda: ColourStatistics(measure="nearest", memory="replace"),
    "image": ImageDistance,
    "image-gaussian": lambda: ImageDistance(measure="gaussian", per_category=True),
    "gaussian": PatchGaussian,
    "gaussian-each": lambda: PatchGaussian(per_category=True, memory="replace"),
    "prior": lambda: PatchPrior(steps=150, width=24, dimensions=8, memory=600),
    "padim": lambda: PaDiM(channels=5),
    "padim-each": lambda: PaDiM(channels=5, per_category=True),
    "knn": lambda: PatchKNN(vectors=200),
    "knn-budget": lambda: PatchKNN(memory="budget", budget=100),
    "knn-union": lambda: PatchKNN(memory="budget", share="union", budget=100),
    "core": lambda: PatchCore(image_score="reweighted"),
    "core-budget": lambda: PatchCore(memory="budget", budget=100, image_score="max"),
    "core-union": lambda: PatchCore(memory="budget", share="union", budget=100, squared=True),
    "core-random": lambda: PatchCore(selection="random", neighbourhood=1, memory="replace"),
    "joint-bank": JointBank,
    "autoencoder": PixelAutoencoder,
}


# --- coreset ------------------------------------------------------------------------------------------------


def _by_brute_force(points: np.ndarray, count: int, first: int) -> list[int]:
    rows = [first]
    while len(rows) < count:
        distances = cdist(points, points[rows]).min(axis=1)
        distances[rows] = -1
        rows.append(int(distances.argmax()))
    return rows


@pytest.mark.parametrize("dimensions", [3, 20])
def test_the_coreset_is_that_of_distances_taken_anew_at_every_step(dimensions: int) -> None:
    points = np.random.default_rng(1).normal(loc=5, size=(400, dimensions))
    rows = k_centres(torch.from_numpy(points), 60, np.random.default_rng(2)).tolist()
    starting = np.random.default_rng(2).permutation(400)[:10]
    assert rows[0] == cdist(points, points[starting]).mean(axis=1).argmax()
    assert rows == _by_brute_force(points, 60, rows[0])


def test_a_prefix_of_the_coreset_is_the_smaller_one() -> None:
    points = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    long, short = (k_centres(points, count, np.random.default_rng(0)) for count in (50, 20))
    assert torch.equal(long[:20], short)


def test_the_coreset_takes_every_point_once_where_there_are_no_more() -> None:
    points = torch.zeros(7, 3)  # all alike, so that rounding decides
    assert sorted(k_centres(points, 9, np.random.default_rng(0)).tolist()) == list(range(7))
    assert k_centres(points, 0, np.random.default_rng(0)).tolist() == []


def test_the_coreset_covers_better_than_chance() -> None:
    points = np.random.default_rng(3).standard_t(3, size=(1000, 5))
    rows = k_centres(torch.from_numpy(points), 100, np.random.default_rng(0)).numpy()
    chance = np.random.default_rng(4).permutation(1000)[:100]
    radius, usual = (cdist(points, points[chosen]).min(axis=1).max() for chosen in (rows, chance))
    assert radius < 0.5 * usual


def test_a_projection_keeps_distances_on_average_and_leaves_few_dimensions_alone() -> None:
    points = torch.randn(50, 400, generator=torch.Generator().manual_seed(0))
    mapped = projected(points, 128, np.random.default_rng(0))
    ratio = torch.pdist(mapped).square().mean() / torch.pdist(points).square().mean()
    assert mapped.shape == (50, 128) and float(ratio) == pytest.approx(1, abs=0.05)
    for unchanged in (0, 400, 500):
        assert projected(points, unchanged, np.random.default_rng(0)) is points


# --- banks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 4])
def test_neighbours_are_those_of_all_distances(k: int) -> None:
    rng = np.random.default_rng(0)
    points, bank = rng.normal(size=(60, 9)).astype(np.float32), rng.normal(size=(150, 9)).astype(np.float32)
    distances, rows = nearest(torch.from_numpy(points), torch.from_numpy(bank), k)
    every = cdist(points.astype(np.float64), bank.astype(np.float64))
    np.testing.assert_array_equal(rows.numpy(), every.argsort(axis=1)[:, :k])
    np.testing.assert_allclose(distances.numpy(), np.sort(every, axis=1)[:, :k], rtol=1e-5)


def test_distances_to_vectors_far_from_the_origin_keep_their_digits() -> None:
    """|q|^2 + |b|^2 - 2 qb, as a matrix product has it, would leave nothing of a distance of 0.01 at 1000."""
    bank = torch.tensor([[1000.0, 1000.0], [-1000.0, 0.0]])
    distances, _ = nearest(bank[:1] + torch.tensor([0.0, 0.0625]), bank, 1)
    assert float(distances) == 0.0625


@pytest.mark.parametrize(("k", "squared"), [(1, False), (1, True), (3, False), (3, True)])
def test_a_patch_is_scored_by_its_nearest_vectors(k: int, squared: bool) -> None:
    learner = _learnt(PatchKNN(vectors=300, k=k, squared=squared), [0, 1])
    every = np.sort(cdist(_tokens(learner, TESTED).reshape(-1, 19), learner.bank().double().numpy()), axis=1)[
        :, :k
    ]
    expected = (every**2 if squared else every).mean(axis=1).reshape(len(TESTED), -1)
    assert len(learner.bank()) == 300
    np.testing.assert_allclose(_maps(learner), expected, rtol=2e-3, atol=1e-3)


def test_patchcore_describes_a_patch_by_its_neighbourhood_inside_the_image() -> None:
    learner = _learnt(PatchCore(neighbourhood=3), [0])
    tokens = learner.tokens_of(TESTED[:2])
    grid = joined(tokens).numpy().reshape(2, 8, 8, 19)
    expected = np.stack(
        [
            grid[:, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].mean(axis=(1, 2))
            for row in range(8)
            for column in range(8)
        ],
        axis=1,
    )
    np.testing.assert_allclose(learner.described(tokens).numpy(), expected, atol=1e-5)
    assert torch.equal(_learnt(PatchCore(neighbourhood=1), [0]).described(tokens), joined(tokens))
    assert len(learner.bank()) == round(0.1 * EACH * PATCHES)
    with pytest.raises(UserError, match="neighbourhood should be odd, got 2"):
        _started(PatchCore(neighbourhood=2))


def test_the_coreset_of_a_stage_is_the_bank() -> None:
    learner = _learnt(PatchCore(ratio=0.05, neighbourhood=1), [0])
    patches = torch.from_numpy(_tokens(learner, NORMAL[0])).float().flatten(0, 1)
    rows = k_centres(patches, round(0.05 * len(patches)), Context().stream("bank"))
    torch.testing.assert_close(learner.bank(), patches[rows])
    assert not torch.equal(
        learner.bank(), _learnt(PatchCore(ratio=0.05, neighbourhood=1, selection="random"), [0]).bank()
    )


def test_image_scores_are_the_protocols_the_largest_or_weighted() -> None:
    assert _learnt(PatchCore(), [0]).predict(ALL).anomaly_scores is None
    learner = _learnt(PatchCore(image_score="max"), [0])
    np.testing.assert_allclose(learner.predict(ALL).anomaly_scores, _maps(learner).max(axis=1), rtol=1e-3)
    weighted = _learnt(PatchCore(image_score="reweighted"), [0])
    points, bank = _tokens(weighted, TESTED), weighted.bank().double().numpy()
    expected = []
    for image in points:
        every = cdist(image, bank)
        patch = every.min(axis=1).argmax()
        own = every[patch].argmin()
        around = cdist(bank[own : own + 1], bank)[0].argsort()[:9]
        expected.append(
            every[patch, own] * (1 - math.exp(every[patch, own]) / np.exp(every[patch, around]).sum())
        )
    np.testing.assert_allclose(weighted.predict(ALL).anomaly_scores, expected, rtol=1e-4)


def test_the_weight_of_a_bank_of_one_vector_is_one() -> None:
    assert rarity(torch.ones(3, 2), torch.zeros(1, 2)).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("kind", [PatchKNN, PatchCore])
@pytest.mark.parametrize("share", ["category", "union"])
def test_a_budget_is_kept_to_the_vector(kind: type[StagedBank], share: str) -> None:
    learner = _started(kind(memory="budget", share=share, budget=100))
    for index in range(3):
        learner.learn(_stage(index, [index]))
        assert len(learner.bank()) == 100
        if share == "category":
            sizes = [len(part) for part in learner.parts.values()]
            assert max(sizes) - min(sizes) <= 1 and len(sizes) == index + 1


def test_equal_shares_are_prefixes_of_what_each_category_had() -> None:
    learner = _learnt(PatchCore(memory="budget", budget=90), [0])
    first = learner.bank().clone()
    learner.learn(_stage(1, [1, 2]))
    assert torch.equal(learner.parts[0], first[:30])
    assert [len(part) for part in learner.parts.values()] == [30, 30, 30]


def test_a_category_that_comes_again_joins_what_is_kept_of_it() -> None:
    learner = _learnt(PatchKNN(memory="budget", budget=60), [0, 1], [1])
    assert [len(part) for part in learner.parts.values()] == [30, 30]


def test_one_budget_over_all_keeps_in_proportion_to_what_was_seen() -> None:
    learner = _learnt(PatchKNN(memory="budget", share="union", budget=90), [0, 1], [2])
    assert [len(part) for part in learner.parts.values()] == [60, 30]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.integers(0, 200))
def test_shares_fill_the_budget_and_never_exceed_what_is_there(available: list[int], budget: int) -> None:
    equal = equal_shares(available, budget)
    assert sum(equal) == min(budget, sum(available)) and all(
        0 <= size <= most for size, most in zip(equal, available, strict=True)
    )
    cut = [size for size, most in zip(equal, available, strict=True) if size < most]
    assert not cut or (max(cut) - min(cut) <= 1 and max(equal) <= min(cut) + 1)
    seen = [size + 1 for size in available]
    parts = proportional_shares(seen, available, budget)
    assert sum(parts) == min(budget, sum(available)) and all(
        0 <= size <= most for size, most in zip(parts, available, strict=True)
    )


@pytest.mark.parametrize("kind", [PatchKNN, PatchCore])
def test_replace_forgets_and_append_does_not(kind: type[StagedBank]) -> None:
    replaced = _learnt(kind(memory="replace", standardise=False), [0], [1])
    alone = _learnt(kind(memory="replace", standardise=False), [1])
    assert torch.equal(replaced.bank(), alone.bank())
    appended = _learnt(kind(memory="append", standardise=False), [0])
    before = _maps(appended)
    appended.learn(_stage(1, [1]))
    assert len(appended.bank()) == len(alone.bank()) * 2
    assert (_maps(appended) <= before).all()  # more neighbours, none farther
    assert (
        _maps(appended)[:4] < 0.8 * _maps(replaced)[:4].mean()
    ).mean() > 0.9  # good images of the first category


def test_the_joint_bank_holds_every_patch_standardised_by_all() -> None:
    staged, once = _learnt(JointBank(), [0], [1], [2]), _learnt(JointBank(), [0, 1, 2])
    assert len(staged.bank()) == 3 * EACH * PATCHES
    torch.testing.assert_close(staged.bank(), once.bank(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(staged.bank().mean(dim=0), torch.zeros(19), atol=1e-4, rtol=0)
    raw = _learnt(JointBank(standardise=False), [0], [1])
    torch.testing.assert_close(raw.bank(), raw.encoder.encode(np.concatenate(NORMAL[:2])).flatten(0, 2))


# --- Gaussians ----------------------------------------------------------------------------------------------


def test_merged_moments_are_those_of_the_union() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(loc=mean, size=(size, 2, 4)) for mean, size in ((0, 30), (3, 50), (-1, 1))]
    moments = Moments()
    for part in parts:
        moments.add(torch.from_numpy(part), torch.zeros(len(part), dtype=torch.long))
    union = np.concatenate(parts)
    for place in range(2):
        np.testing.assert_allclose(
            moments.means()[0, place].numpy(), union[:, place].mean(axis=0), atol=1e-12
        )
        np.testing.assert_allclose(
            moments.covariances()[0, place].numpy(), np.cov(union[:, place], rowvar=False), atol=1e-11
        )


def test_distances_are_mahalanobis_from_the_nearest_set() -> None:
    rng = np.random.default_rng(1)
    points, sets = rng.normal(size=(40, 1, 3)) @ rng.normal(size=(3, 3)), np.repeat([0, 2], 20)
    points[sets == 2] += 4
    moments = Moments()
    moments.add(torch.from_numpy(points), torch.from_numpy(sets))
    asked = rng.normal(scale=3, size=(7, 1, 3))
    expected = []
    for one in (0, 2):  # no point has come of set 1
        own = points[sets == one][:, 0]
        covariance = np.cov(own, rowvar=False)
        precision = np.linalg.inv(covariance + (0.01 + 0.1 * np.trace(covariance) / 3) * np.eye(3))
        expected.append([mahalanobis(point, own.mean(axis=0), precision) for point in asked[:, 0]])
    found = moments.distances(torch.from_numpy(asked), ridge=0.01, share=0.1)
    np.testing.assert_allclose(found[:, 0].numpy(), np.min(expected, axis=0), rtol=1e-9)


@pytest.mark.parametrize("per_category", [False, True])
def test_the_patch_gaussian_of_stages_is_that_of_their_union(per_category: bool) -> None:
    staged = _learnt(PatchGaussian(per_category=per_category, standardise=False), [0], [1], [2])
    once = _learnt(PatchGaussian(per_category=per_category, standardise=False), [0, 1, 2])
    np.testing.assert_allclose(
        staged.maps_of(staged.tokens_of(TESTED)), once.maps_of(once.tokens_of(TESTED)), rtol=1e-5
    )
    forgetful = _learnt(
        PatchGaussian(per_category=per_category, standardise=False, memory="replace"), [0], [2]
    )
    alone = _learnt(PatchGaussian(standardise=False), [2])
    np.testing.assert_allclose(_maps(forgetful), _maps(alone))


def test_the_patch_gaussian_is_numpys() -> None:
    learner = _learnt(PatchGaussian(), [0, 1])
    patches = _tokens(learner, np.concatenate(NORMAL[:2])).reshape(-1, 19)
    covariance = np.cov(patches, rowvar=False)
    precision = np.linalg.inv(covariance + (1e-6 + 0.01 * np.trace(covariance) / 19) * np.eye(19))
    apart = _tokens(learner, TESTED) - patches.mean(axis=0)
    np.testing.assert_allclose(
        _maps(learner), np.sqrt(np.einsum("npd,de,npe->np", apart, precision, apart)), rtol=2e-3
    )


def test_the_patch_prior_keeps_as_many_patches_of_every_stage_and_answers_its_envelope() -> None:
    learner = _learnt(PatchPrior(steps=5, memory=90), [0], [1], [2])
    assert [len(each) for each in learner.kept] == [30, 30, 30]
    for index, kept in enumerate(learner.kept):
        own = _tokens(learner, NORMAL[index]).reshape(-1, kept.shape[1])
        away = cdist(kept.double().numpy(), own).min(axis=1)
        assert away.max() < 1e-5
    points = torch.from_numpy(_tokens(learner, TESTED)).flatten(0, 1)
    expected = envelope(learner.fitted, points).reshape(len(TESTED), PATCHES).numpy()
    assert np.allclose(_maps(learner), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    few = _learnt(PatchPrior(steps=5, memory=10**6), [0, 1])
    assert len(few.kept[0]) == 2 * EACH * PATCHES


def test_padim_has_a_gaussian_at_every_position() -> None:
    learner = _learnt(PaDiM(channels=5), [0], [1])
    normal, asked = (
        _tokens(learner, inputs)[..., learner.kept.numpy()] for inputs in (np.concatenate(NORMAL[:2]), TESTED)
    )
    assert len(set(learner.kept.tolist())) == 5
    expected = np.empty(asked.shape[:2])
    for place in range(PATCHES):
        precision = np.linalg.inv(np.cov(normal[:, place], rowvar=False) + 0.01 * np.eye(5))
        mean = normal[:, place].mean(axis=0)
        expected[:, place] = [mahalanobis(point, mean, precision) for point in asked[:, place]]
    np.testing.assert_allclose(_maps(learner), expected, rtol=2e-3)


def test_padim_of_each_category_forgets_nothing_and_the_nearest_counts() -> None:
    each = _learnt(PaDiM(channels=5, per_category=True, standardise=False), [0], [1])
    alone = [_learnt(PaDiM(channels=5, standardise=False), [category]) for category in (0, 1)]
    np.testing.assert_allclose(_maps(each), np.minimum(*map(_maps, alone)), rtol=2e-3)
    replaced = _learnt(PaDiM(channels=5, standardise=False, memory="replace"), [0], [1])
    np.testing.assert_array_equal(_maps(replaced), _maps(alone[1]))


@pytest.mark.parametrize("k", [1, 3])
def test_image_distance_is_that_of_mean_features(k: int) -> None:
    learner = _learnt(ImageDistance(k=k), [0], [1])
    normal, asked = (_tokens(learner, inputs).mean(axis=1) for inputs in (np.concatenate(NORMAL[:2]), TESTED))
    answer = learner.predict(ALL)
    assert answer.anomaly_maps is None
    np.testing.assert_allclose(
        answer.anomaly_scores, np.sort(cdist(asked, normal), axis=1)[:, :k].mean(axis=1), rtol=1e-4
    )
    replaced = _learnt(ImageDistance(k=k, memory="replace"), [0], [1])
    expected = np.sort(cdist(asked, normal[EACH:]), axis=1)[:, :k].mean(axis=1)
    np.testing.assert_allclose(replaced.predict(ALL).anomaly_scores, expected, rtol=1e-4)


def test_colour_statistics_look_at_two_numbers_per_channel() -> None:
    learner = _learnt(ColourStatistics(), [0], [1])

    def statistics(images: np.ndarray) -> np.ndarray:
        pixels = images.reshape(len(images), 3, -1) / 255
        return np.concatenate([pixels.mean(axis=2), pixels.std(axis=2)], axis=1)

    normal, asked = statistics(np.concatenate(NORMAL[:2])), statistics(TESTED)
    covariance = np.cov(normal, rowvar=False)
    precision = np.linalg.inv(covariance + (1e-9 + 0.01 * np.trace(covariance) / 6) * np.eye(6))
    expected = [mahalanobis(vector, normal.mean(axis=0), precision) for vector in asked]
    np.testing.assert_allclose(learner.predict(ALL).anomaly_scores, expected, rtol=1e-3)
    near = _learnt(ColourStatistics(measure="nearest"), [0], [1]).predict(ALL).anomaly_scores
    np.testing.assert_allclose(near, cdist(asked, normal).min(axis=1), rtol=1e-3)


# --- pixels -------------------------------------------------------------------------------------------------


def test_the_autoencoder_learns_offers_probes_and_forgets() -> None:
    learner = _started(PixelAutoencoder(), epochs=40)
    learner.learn(_stage(0, [0]))
    context: Context = learner.context
    assert context.probes == list(range(1, 81)) and context.ended == list(range(1, 41))
    losses = [values["loss"] for _, _, values in context.steps if "loss" in values]
    assert losses[-1] < 0.5 * losses[0]
    before = _maps(learner, Query(ids=np.arange(EACH), inputs=NORMAL[0])).mean()
    learner.learn(_stage(1, [1]))
    assert _maps(learner, Query(ids=np.arange(EACH), inputs=NORMAL[0])).mean() > before


def test_the_autoencoder_goes_on_from_its_weights_and_takes_any_size() -> None:
    learner = _learnt(PixelAutoencoder(lr=1e-12), [0])
    before = _maps(learner)
    learner.learn(_stage(1, [1]))
    np.testing.assert_allclose(_maps(learner), before, rtol=1e-3)
    odd = NORMAL[0][:, :, :30, :21]
    other = _started(PixelAutoencoder())
    other.learn(
        Stage(
            index=0,
            ids=np.arange(EACH),
            inputs=odd,
            labels=np.zeros(EACH, dtype=np.int64),
            named_classes=1,
            new_classes=1,
        )
    )
    assert other.predict(Query(ids=np.arange(EACH), inputs=odd)).anomaly_maps.shape == (EACH, 7, 5)
    with pytest.raises(Unsuitable, match=r"images \(C, H, W\) from 8 x 8, the inputs have shape \(3, 4, 4\)"):
        _started(PixelAutoencoder()).network.build((3, 4, 4))


def test_the_map_is_the_root_of_the_mean_squared_error_of_a_patch() -> None:
    learner = _learnt(PixelAutoencoder(patch=8), [0])
    images = torch.from_numpy(TESTED).float() / 255
    with torch.no_grad():
        errors = (learner.network(images) - images).square().numpy()
    expected = np.sqrt(errors.reshape(len(TESTED), 3, 4, 8, 4, 8).mean(axis=(1, 3, 5))).reshape(
        len(TESTED), -1
    )
    np.testing.assert_allclose(_maps(learner), expected, rtol=2e-3)


# --- all ----------------------------------------------------------------------------------------------------


def test_the_standard_is_that_of_the_first_stage() -> None:
    learner = _learnt(PatchKNN(), [0])
    encoded = learner.encoder.encode(NORMAL[0]).double().numpy()
    np.testing.assert_allclose(learner.standard.mean[:, 0], encoded.mean(axis=(0, 2)), rtol=1e-5)
    np.testing.assert_allclose(learner.standard.scale[:, 0], encoded.std(axis=(0, 2)), rtol=1e-4)
    before = learner.standard.mean.clone()
    learner.learn(_stage(1, [1]))
    assert torch.equal(learner.standard.mean, before)


def test_a_constant_channel_keeps_its_scale() -> None:
    standard = Standard()
    standard.fit(torch.ones(3, 2, 4, 5))
    assert standard(torch.ones(1, 2, 4, 5)).abs().max() == 0 and standard.scale.unique().tolist() == [1.0]


@pytest.mark.parametrize("name", MAKERS)
def test_a_dark_square_is_stranger_than_its_surroundings(name: str) -> None:
    learner = _learnt(MAKERS[name](), [0, 1, 2], epochs=20)
    answer = learner.predict(ALL)
    scores = (
        answer.anomaly_scores
        if answer.anomaly_scores is not None
        else answer.anomaly_maps.astype(np.float64).max(axis=(1, 2))
    )
    if name not in ("colour", "colour-nearest"):  # these see too little to be sure of
        assert scores[IS_BAD].mean() > scores[~IS_BAD].mean()
    if answer.anomaly_maps is not None:
        maps = answer.anomaly_maps[IS_BAD].astype(np.float64)
        assert maps[:, 2:5, 3:6].mean() > maps[:, 5:].mean()


@pytest.mark.parametrize("name", MAKERS)
def test_a_state_on_disk_answers_the_same_bytes(name: str, tmp_path: Path) -> None:
    learner = _learnt(MAKERS[name](), [0], [1])
    checkpoint.save(tmp_path / "state.pt", learner.state())
    again = _started(MAKERS[name]())
    again.load_state(checkpoint.load(tmp_path / "state.pt"))
    for one in (learner, again):
        one.learn(_stage(2, [2]))
    for field, array in learner.predict(ALL).arrays().items():
        assert np.array_equal(array, again.predict(ALL).arrays()[field])
    assert getattr(learner, "encoder", None) is None or learner.state()["encoder"] is None


def test_a_drawn_encoder_is_the_same_after_a_restart() -> None:
    learner = _learnt(PatchKNN(), [0], backbone="vit-tiny[depth=2]")
    again = _started(PatchKNN(), backbone="vit-tiny[depth=2]")
    again.context.stream = lambda name: seeds.stream(name, seed=99)  # another stage's streams
    again.load_state(learner.state())
    np.testing.assert_array_equal(_maps(again), _maps(learner))
    assert joined(learner.tokens_of(TESTED[:2])).shape == (2, PATCHES, 128)


@pytest.mark.parametrize("name", MAKERS)
def test_images_that_are_all_alike_give_finite_answers(name: str) -> None:
    learner = _started(MAKERS[name]())
    for index in range(2):
        flat = np.full((3, 3, SIDE, SIDE), 90, dtype=np.uint8)
        labels = np.full(3, index, dtype=np.int64)
        learner.learn(
            Stage(
                index=index,
                ids=np.arange(3),
                inputs=flat,
                labels=labels,
                named_classes=index + 1,
                new_classes=1,
            )
        )
    for array in learner.predict(ALL).arrays().values():
        assert np.isfinite(array).all()


class Striped(Scenario):
    """Three stages of one category each; after each, all test images so far."""

    metrics: ClassVar[tuple[Metric, ...]] = (Metric(name="difference"),)
    answers: ClassVar[tuple[str, ...]] = ()
    backbone: str = "gabor"

    def data_digests(self) -> Mapping[str, str]:
        return {"stripes": "made on the spot"}

    def deal(self, seed: int) -> Deal:
        labels = np.concatenate([np.repeat(np.arange(3), EACH), np.repeat(np.arange(3), 8)]).astype(np.int64)
        is_test = np.arange(len(labels)) >= 3 * EACH
        stages = [
            DealtStage(
                rows=np.flatnonzero(~is_test & (labels == index)),
                observed_labels=np.full(EACH, index),
                query=np.flatnonzero(is_test & (labels <= index)),
                named_classes=index + 1,
                new_classes=1,
            )
            for index in range(3)
        ]
        facts = {"stage": labels, "anomalous": np.concatenate([np.zeros(3 * EACH, dtype=bool), IS_BAD])}
        return Deal(inputs=np.concatenate([*NORMAL, TESTED]), labels=labels, facts=facts, stages=stages)

    def score(self, truth: Truth, answers: Sequence[StoredPrediction]) -> Scores:
        raise NotImplementedError


@pytest.mark.parametrize(
    "name",
    ["colour", "image", "gaussian-each", "padim", "knn-budget", "core-union", "joint-bank", "autoencoder"],
)
def test_detectors_pass_the_suite_for_strategies(name: str) -> None:
    findings = check_strategy(MAKERS[name], Striped())
    assert [
        (finding.claim, finding.detail) for finding in findings if not finding.holds or finding.unsuitable
    ] == []


def test_an_answer_is_a_prediction_of_maps_on_the_encoders_grid() -> None:
    answer: Prediction = _learnt(PatchKNN(), [0]).predict(ALL)
    assert answer.anomaly_maps is not None and answer.anomaly_maps.shape == (len(TESTED), 8, 8)


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1.0, 1e9, 1e30])
def test_maps_of_any_scale_are_answered_to_11_bits(scale: float) -> None:
    class Far(PatchDetector):
        def fit(self, tokens: Tensor, categories: Tensor, stage: Stage) -> None: ...

        def maps_of(self, tokens: Tensor) -> Tensor:
            return (scale * torch.linspace(1, 3, tokens.shape[2])).repeat(len(tokens), 1)

    answered = _maps(_learnt(Far(), [0]))[0] / scale
    np.testing.assert_allclose(answered, np.linspace(1, 3, 64), rtol=2**-11)
    assert (np.diff(answered) > 0).all()
    if scale == 1:
        np.testing.assert_array_equal(answered, np.linspace(1, 3, 64, dtype=np.float32).astype(np.float16))
