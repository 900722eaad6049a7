"""From maps to scores: evaluated maps against torch and closed forms, and every figure of answers small
enough to count by hand.
"""

from __future__ import annotations

import doctest
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score
from torch.nn import functional

from harness.cell.prediction_check import validate_prediction
from harness.contracts import Prediction, Query, Scores, StoredPrediction, Truth, rules_of
from harness.errors import UserError
from harness.store import plots
from scenarios.anomaly import postprocess as module
from scenarios.anomaly.postprocess import PostProcess, bilinear, blur, ground_of, kernel
from scenarios.anomaly.scoring import AnomalyScorer, Rules, judged, metrics_of

PLAIN = PostProcess(image_size=(4, 4), resolution=(4, 4), blur_size=0, top=0)
"""Maps of 4 x 4 pixels are evaluated as they are, an image's score is the largest value."""

SIDES = st.tuples(st.integers(1, 20), st.integers(1, 20))


def scores(truth: Truth, answers: Sequence[StoredPrediction], rules: Rules) -> Scores:
    """Return what all answers of a cell come to."""
    scorer = AnomalyScorer(truth, rules)
    for answer in answers:
        scorer.add(answer)
    return scorer.scores()


def test_the_examples_run() -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_scoring_needs_no_torch() -> None:
    code = (
        "import sys, scenarios.anomaly.scoring, scenarios.anomaly.postprocess; print('torch' in sys.modules)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "False"
    )


# --- evaluated maps -----------------------------------------------------------------------------------------


def _by_torch(grids: NDArray[Any], steps: PostProcess) -> NDArray[np.float64]:
    """Return the same with interpolate and conv2d in double precision, as the released code of INP-Former
    does it.
    """
    maps = torch.from_numpy(grids.astype(np.float64))[:, None]
    maps = functional.interpolate(maps, size=steps.image_size, mode="bilinear", align_corners=True)
    if steps.resolution != steps.image_size:
        maps = functional.interpolate(maps, size=steps.resolution, mode="bilinear", align_corners=False)
    if steps.blur_size > 1 and steps.blur_padding != "none":
        half = steps.blur_size // 2
        offsets = torch.arange(steps.blur_size, dtype=torch.float64) - half
        window = torch.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * steps.blur_sigma**2))
        padded = functional.pad(
            maps, (half,) * 4, mode="constant" if steps.blur_padding == "zero" else "reflect"
        )
        maps = functional.conv2d(padded, (window / window.sum())[None, None])
    return maps[:, 0].numpy()


@given(SIDES, SIDES, st.booleans())
@settings(max_examples=150, deadline=None)
def test_resizing_is_that_of_torch(held: tuple[int, int], wanted: tuple[int, int], align: bool) -> None:
    grid = np.random.default_rng(held[0]).normal(size=held)
    ours = (
        bilinear(held[0], wanted[0], align_corners=align)
        @ grid
        @ bilinear(held[1], wanted[1], align_corners=align).T
    )
    theirs = functional.interpolate(
        torch.from_numpy(grid)[None, None], size=wanted, mode="bilinear", align_corners=align
    )
    np.testing.assert_allclose(ours, theirs[0, 0].numpy(), atol=1e-12)


@pytest.mark.parametrize("padding", ["zero", "reflect", "none"])
@pytest.mark.parametrize(
    ("image", "resolution"), [((392, 392), (256, 256)), ((64, 64), (64, 64)), ((48, 30), (56, 40))]
)
def test_evaluated_maps_are_those_of_the_released_code(
    image: tuple[int, int], resolution: tuple[int, int], padding: Any
) -> None:
    steps = PostProcess(image_size=image, resolution=resolution, blur_padding=padding)
    grids = np.abs(np.random.default_rng(0).normal(size=(3, 16, 14))).astype(np.float16)
    expected = _by_torch(grids, steps)
    found = steps.evaluated(grids)
    np.testing.assert_allclose(found.maps, expected, rtol=1e-12, atol=1e-15)
    largest = np.sort(expected.reshape(3, -1), axis=1)[:, -steps.top_pixels :].mean(axis=1)
    np.testing.assert_allclose(found.scores, largest, rtol=1e-12)


@pytest.mark.parametrize("offset", [0.0, -1e5, 1e6])
@pytest.mark.parametrize("padding", ["zero", "reflect", "none"])
def test_on_their_ground_maps_are_the_released_ones_of_what_exceeds_the_floor(
    padding: Any, offset: float
) -> None:
    """Maps far from 0 are counted from their middle, scores are not: both are the released code's of maps
    from 0 on, moved.
    """
    steps = PostProcess(image_size=(48, 30), resolution=(56, 40), blur_padding=padding)
    grids = offset + np.random.default_rng(0).normal(size=(3, 16, 14))
    ground = ground_of(grids)
    assert ground.floor == grids.min()
    assert (ground.origin == 0) == (offset == 0)
    assert ground.origin == pytest.approx(offset, abs=1)
    expected, found = _by_torch(grids - ground.floor, steps) + ground.floor, steps.evaluated(grids, ground)
    np.testing.assert_allclose(found.maps + ground.origin, expected, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(
        found.scores,
        np.sort(expected.reshape(3, -1), axis=1)[:, -steps.top_pixels :].mean(axis=1),
        rtol=1e-11,
    )


def test_what_is_equal_stays_so_however_it_is_added_up() -> None:
    """Maps of few levels: within a level, away from its border, all pixels are one level of the evaluated
    maps.
    """
    steps = PostProcess(image_size=(60, 60), resolution=(60, 60), blur_padding="reflect")
    grids = np.repeat([[[0.1], [0.7], [1.3]]], 20, axis=1) * np.ones((1, 1, 60)) / 3
    inner = steps.evaluated(grids, ground_of(grids)).maps[0, [*range(17), *range(23, 37), *range(43, 60)]]
    assert len(np.unique(inner)) == 3


def test_the_window_of_the_released_code_is_nearly_a_box() -> None:
    """5 x 5 pixels, sigma 4: 0.0452 in the centre, 0.0352 in a corner; a box has 0.04."""
    window = np.outer(kernel(5, 4.0), kernel(5, 4.0))
    assert window.sum() == pytest.approx(1)
    assert (round(window[2, 2], 4), round(window[0, 0], 4)) == (0.0452, 0.0352)


def test_zero_padding_darkens_edges_and_corners_and_reflection_does_not() -> None:
    """A constant map keeps 0.61 at an edge and 0.61^2 = 0.37 in a corner; with 256 pixels a side 3.1 % of all
    are touched.
    """
    zero = PostProcess(image_size=(256, 256), resolution=(256, 256)).evaluated(np.ones((1, 16, 16))).maps[0]
    assert (round(float(zero[0, 100]), 2), round(float(zero[0, 0]), 2), float(zero[100, 100])) == (
        0.61,
        0.37,
        1.0,
    )
    assert round(float(np.mean(zero < 0.9995)), 3) == 0.031
    reflected = (
        PostProcess(image_size=(256, 256), resolution=(256, 256), blur_padding="reflect")
        .evaluated(np.ones((1, 16, 16)))
        .maps[0]
    )
    assert np.all(reflected == 1)


def test_a_blur_keeps_the_total_of_what_lies_inside() -> None:
    for padding in ("zero", "reflect"):
        matrix = blur(12, 5, 1.0, padding)  # type: ignore[arg-type]
        np.testing.assert_allclose(matrix[:, 4:8].sum(axis=0), 1)


def test_the_mirror_image_does_not_repeat_the_edge() -> None:
    """By hand, weights (a, b, a): the first of 1, 2, 4 becomes b x 1 + a x (2 + 2), the last b x 4 + a x (2 +
    2).
    """
    a, b, _ = kernel(3, 1.0)
    np.testing.assert_allclose(
        blur(3, 3, 1.0, "reflect") @ [1, 2, 4], [b + 4 * a, 2 * b + 5 * a, 4 * b + 4 * a]
    )


@pytest.mark.parametrize(
    ("top", "side", "pixels"),
    [(0.01, 256, 655), (0.05, 256, 3276), (0.0, 256, 1), (0.01, 8, 1), (1.0, 8, 64), (0.29, 10, 29)],
)
def test_the_image_score_is_the_mean_of_the_largest_share(top: float, side: int, pixels: int) -> None:
    steps = PostProcess(image_size=(side, side), resolution=(side, side), blur_size=0, top=top)
    assert steps.top_pixels == pixels
    count = side * side
    values = np.random.default_rng(1).permutation(count).reshape(1, side, side) / count
    assert steps.evaluated(values).scores[0] == pytest.approx(np.arange(count - pixels, count).mean() / count)


def test_maps_in_chunks_are_the_maps_at_once() -> None:
    """A chunk holds 2^20 values at most: 16 maps of 256 x 256, and one where a single map is larger."""
    steps = PostProcess(image_size=(256, 256), resolution=(256, 256))
    grids = np.random.default_rng(2).random((20, 4, 4)).astype(np.float16)
    chunks = list(steps.chunks(grids))
    assert [len(found.scores) for _, found in chunks] == [16, 4]
    at_once = steps.evaluated(grids)
    np.testing.assert_array_equal(np.concatenate([found.maps for _, found in chunks]), at_once.maps)
    np.testing.assert_array_equal(steps.image_scores(grids), at_once.scores)
    large = PostProcess(image_size=(1100, 1100), resolution=(1100, 1100), blur_size=0)
    assert [len(found.scores) for _, found in large.chunks(grids[:2])] == [1, 1]
    assert steps.image_scores(grids[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"blur_padding": "wrap"}, "blur_padding must be one of zero, reflect, none, got 'wrap'"),
        ({"blur_size": 4}, "blur_size must be odd, or 0 for no blur, got 4"),
        ({"top": 1.5}, "top must lie between 0 and 1, got 1.5"),
        (
            {"blur_size": 9, "blur_padding": "reflect"},
            r"a blur of 9 pixels reaches beyond the mirror image of a map of \(4, 4\)",
        ),
    ],
)
def test_what_cannot_be_computed_is_refused(said: Mapping[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        replace(PLAIN, **said)


# --- scoring: a case counted by hand ------------------------------------------------------------------------
#
# Categories 0 "brick" and 1 "wood", four test images each: two good ones, then a stain and a scratch. Item
# ids are the rows. The mask of a
# defect is one pixel at (1, 1), of the second also one at (3, 3). The map of an image is its level
# everywhere, and one more in its mask.

NAN = float("nan")
RULES = Rules(post=PLAIN, categories=("brick", "wood"), defects=("good", "stain", "scratch"))
BRICK, WOOD = [0, 1, 2, 3], [4, 5, 6, 7]


@dataclass(frozen=True)
class Loader:
    """Facts that are fetched by item; `asked` is the largest number of items at a time."""

    held: NDArray[Any]
    asked: list[int]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.held.shape

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        self.asked.append(len(index))
        return self.held[index]


def _truth(*, stages: int = 1, arrival: tuple[int, int] = (0, 0), **facts: Any) -> Truth:
    defect = np.array([0, 0, 1, 2] * 2)
    mask = np.zeros((8, 4, 4), dtype=bool)
    mask[defect > 0, 1, 1] = True
    mask[defect > 1, 3, 3] = True
    pictures = np.random.default_rng(0).integers(0, 256, size=(8, 3, 6, 6), dtype=np.uint8)
    held = {
        "category": np.repeat([0, 1], 4),
        "stage": np.repeat(arrival, 4),
        "anomalous": defect > 0,
        "defect": defect,
        "mask": mask,
        "has_mask": np.ones(8, dtype=bool),
        "picture": pictures,
        **facts,
    }
    return Truth(labels=held["category"], facts=held, named_classes=[2] * stages)


def _answer(ids: list[int], *, stage: int = 0, step: int | None = None, **arrays: Any) -> StoredPrediction:
    return StoredPrediction(
        stage=stage,
        step=step,
        ids=np.array(ids),
        arrays={name: np.asarray(values) for name, values in arrays.items()},
    )


def _maps(levels: list[float], ids: list[int], truth: Truth | None = None) -> NDArray[np.float16]:
    """Return maps of a level each, one more in the mask."""
    masks = (truth or _truth()).facts["mask"][np.array(ids)]
    return (np.array(levels)[:, None, None] + masks).astype(np.float16)


def _scored(levels: list[float], rules: Rules = RULES, truth: Truth | None = None) -> Scores:
    truth = truth or _truth()
    return scores(truth, [_answer(BRICK + WOOD, anomaly_maps=_maps(levels, BRICK + WOOD, truth))], rules)


def test_every_figure_is_the_one_counted_by_hand() -> None:
    """Brick: levels 0.5, 2.5 good, 1, 2 defective, so scores 0.5, 2.5, 2, 3: 3 of 4 pairs in order, precision
    1 at recall 1/2 and 2/3 at 1.

    Wood: scores 0, 0, 1, 1. Pixels of brick: two good images of 16, the stain 1 of 16 pixels at 2, the
    scratch 2 of 16 at 3.
    """
    final = _scored([0.5, 2.5, 1, 2, 0, 0, 0, 0]).final
    anomalous = np.array([0] * 16 + [0] * 16 + [1] + [0] * 15 + [1, 1] + [0] * 14)
    values = np.array([0.5] * 16 + [2.5] * 16 + [2] + [1] * 15 + [3, 3] + [2] * 14)
    # two of three regions come first, then 16 of 61 normal pixels at 2.5, then at 2 the last region and 14
    # more
    limit = 0.3 * 61
    aupro = (2 / 3 * 16 + (limit - 16) * (2 / 3 + (limit - 16) / 14 / 3 / 2)) / limit
    expected = {
        "image_auroc": (3 / 4 + 1) / 2,
        "image_ap": ((1 + 2 / 3) / 2 + 1) / 2,
        "image_f1_max": (0.8 + 1) / 2,
        "pixel_auroc": (roc_auc_score(anomalous, values) + 1) / 2,
        "pixel_ap": (average_precision_score(anomalous, values) + 1) / 2,
        "pixel_f1_max": (0.8 + 1) / 2,
        "aupro": (aupro + 1) / 2,
        "worst_image_auroc": 3 / 4,
        "image_auroc_of_brick": 3 / 4,
        "image_auroc_of_wood": 1.0,
    }
    assert final == pytest.approx(expected)


def test_every_declared_metric_is_scored() -> None:
    rules = replace(RULES, continual=True, pooled=True, samples=True)
    declared = metrics_of(("brick", "wood"), continual=True, pooled=True, samples=True)
    final = _scored([0.0] * 8, rules, _truth(sample=np.arange(8))).final
    assert {metric.name for metric in declared} == final.keys()
    assert [metric.name for metric in metrics_of(("brick", "wood"))] == list(_scored([0.0] * 8).final)


def test_a_strategy_may_score_images_itself() -> None:
    """The maps would put brick in order; the scores that were answered turn it round."""
    truth = _truth()
    answer = _answer(BRICK, anomaly_maps=_maps([0] * 4, BRICK), anomaly_scores=[3.0, 2.0, 1.0, 0.0])
    final = scores(truth, [answer], RULES).final
    assert (final["image_auroc"], final["pixel_auroc"]) == (0.0, 1.0)


def test_without_maps_the_figures_of_pixels_are_missing() -> None:
    found = scores(_truth(), [_answer(BRICK, anomaly_scores=[0.0, 1.0, 2.0, 3.0])], RULES)
    missing = {name for name, value in found.final.items() if math.isnan(value)}
    assert missing == {"pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro"}
    assert found.final["image_auroc"] == 1
    assert found.strips == {}
    assert found.per_stage.keys() == {"image_auroc", "image_ap"}


def test_an_anomaly_without_a_mask_counts_for_images_alone() -> None:
    """Without the scratch of brick its pixels are those of two good images and the stain; the image figures
    stay.
    """
    truth = _truth()
    levels = [0.5, 2.5, 1, 2, 0, 0, 0, 0]
    without = _truth(
        has_mask=np.arange(8) != 3,
        mask=np.where((np.arange(8) == 3)[:, None, None], False, truth.facts["mask"]),
    )
    answer = _answer(BRICK, anomaly_maps=_maps(levels[:4], BRICK, truth))
    found, whole = (scores(held, [answer], RULES).final for held in (without, truth))
    assert found["image_auroc"] == whole["image_auroc"]
    assert found["pixel_auroc"] == pytest.approx((16 + 15) / 47), (
        "the pixel at 2 is above 16 + 15 of 47 normal ones"
    )
    assert found["aupro"] == pytest.approx(0.0), (
        "16 of 47 normal pixels come first, which is beyond the limit"
    )


def test_a_category_with_one_kind_of_image_is_missing_and_means_are_over_the_others() -> None:
    """Of wood only good images are asked, or only defective ones."""
    truth = _truth()
    for asked in ([4, 5], [6, 7]):
        ids = BRICK + asked
        found = scores(truth, [_answer(ids, anomaly_maps=_maps([0, 0, 0, 0, 0, 0], ids))], RULES)
        assert math.isnan(found.final["image_auroc_of_wood"])
        assert found.final["image_auroc"] == found.final["worst_image_auroc"] == 1
        assert found.matrices["image_auroc"].tolist()[0][0] == 1
    only = scores(truth, [_answer([4, 5], anomaly_maps=_maps([0, 0], [4, 5]))], RULES)
    assert all(math.isnan(value) for value in only.final.values())
    assert len(only.strips["cases_of_wood"][1]) == 1


def test_kinds_of_defects_are_scored_against_the_normal_images_of_their_category() -> None:
    """Brick: the stain (2) is above one of 0.5 and 2.5, the scratch (3) above both. Wood has a stain alone."""
    defect = np.array([0, 0, 1, 2, 0, 0, 1, 1])
    found = _scored([0.5, 2.5, 1, 2, 0, 0, 0, 0], truth=_truth(defect=defect)).matrices[
        "image_auroc_by_defect"
    ]
    np.testing.assert_array_equal(found, [[0.5, 1], [1, NAN]])


def test_one_threshold_for_all_categories_is_harder() -> None:
    """Each category is in order by itself, wood ten higher: of 16 pairs, brick's two anomalies are below
    wood's two good ones.
    """
    final = _scored([0, 0, 0, 0, 10, 10, 10, 10], replace(RULES, pooled=True)).final
    assert (final["image_auroc"], final["pooled_image_auroc"]) == (1, 12 / 16)


def test_an_object_is_scored_by_the_worst_of_its_images() -> None:
    """Brick: images 0 and 1 show one good object, 2 and 3 a defective one; wood: 4 with 6 and 5 with 7, so
    there is no good object.
    """
    truth = _truth(sample=np.array([0, 0, 1, 1, 2, 3, 2, 3]))
    final = _scored([3.5, 0, 0, 3, 0, 0, 0, 0], replace(RULES, samples=True), truth).final
    assert final["image_auroc_of_brick"] == 0.75
    assert final["sample_auroc"] == 1.0, "4 against 3.5"


# --- stages -------------------------------------------------------------------------------------------------


def _two_stages(truth: Truth, rules: Rules) -> Scores:
    """Brick is learned first (AUROC 1) and forgotten (1/4); wood is learned then (3/4)."""
    first = _answer(BRICK, anomaly_scores=[0.0, 1.0, 2.0, 3.0])
    second = _answer(BRICK + WOOD, stage=1, anomaly_scores=[2.0, 3.0, 1.0, 2.5, 0.0, 2.0, 1.0, 3.0])
    return scores(truth, [first, second], rules)


def test_what_is_forgotten_as_categories_arrive() -> None:
    found = _two_stages(_truth(stages=2, arrival=(0, 1)), replace(RULES, continual=True))
    np.testing.assert_array_equal(found.matrices["image_auroc"], [[1, NAN], [0.25, 0.75]])
    expected = {
        "image_auroc": 0.5,
        "worst_image_auroc": 0.25,
        "forgetting": 0.75,
        "backward_transfer": -0.75,
        "learning_image_auroc": 0.875,
        "incremental_image_auroc": 0.75,
        "image_auroc_of_brick": 0.25,
        "image_auroc_of_wood": 0.75,
    }
    assert {name: found.final[name] for name in expected} == pytest.approx(expected)
    assert math.isnan(found.final["pixel_ap_forgetting"])
    assert found.per_stage["image_auroc"] == [1.0, 0.5]


def test_columns_stand_in_order_of_arrival() -> None:
    """Wood arrives first here, though brick has the smaller number."""
    truth = _truth(stages=2, arrival=(1, 0))
    answers = [
        _answer(WOOD, anomaly_scores=[0.0, 1.0, 2.0, 3.0]),
        _answer(BRICK + WOOD, stage=1, anomaly_scores=[0.0] * 8),
    ]
    found = scores(truth, answers, replace(RULES, continual=True))
    np.testing.assert_array_equal(found.matrices["image_auroc"], [[1, NAN], [0.5, 0.5]])


def test_forgetting_of_pixels_is_that_of_the_maps() -> None:
    """After the first stage the maps of brick are right, after the second its good images are brighter than
    any defect.
    """
    truth = _truth(stages=2, arrival=(0, 1))
    levels = [5.0, 5.0, 0, 0, 0, 0, 0, 0]
    answers = [
        _answer(BRICK, anomaly_maps=_maps([0] * 4, BRICK)),
        _answer(BRICK + WOOD, stage=1, anomaly_maps=_maps(levels, BRICK + WOOD)),
    ]
    found = scores(truth, answers, replace(RULES, continual=True))
    assert found.matrices["pixel_ap"][0, 0] == 1
    assert found.final["pixel_ap_forgetting"] == pytest.approx(1 - 3 / 35), (
        "three anomalous pixels at once after 32 normal ones"
    )


def test_a_learner_per_category_is_scored_at_its_own_stage() -> None:
    """Every stage asks one category; the figures are the means over the stages, and one threshold for all
    spans them.
    """
    truth = _truth(stages=2, arrival=(0, 1))
    answers = [
        _answer(BRICK, anomaly_scores=[0.0, 1.0, 2.0, 3.0]),
        _answer(WOOD, stage=1, anomaly_scores=[0.0, 2.0, 1.0, 3.0]),
    ]
    found = scores(truth, answers, RULES)
    assert found.final["image_auroc"] == pytest.approx((1 + 0.75) / 2)
    np.testing.assert_array_equal(found.matrices["image_auroc"], [[1, 0.75]])
    assert found.per_stage["image_auroc"] == [1.0, 0.75]


def test_categories_that_are_never_asked_have_no_figure() -> None:
    """Zero-shot: brick is learned, wood is asked."""
    found = scores(_truth(), [_answer(WOOD, anomaly_scores=[0.0, 1.0, 2.0, 3.0])], RULES)
    assert {name for name in found.final if "_of_" in name} == {"image_auroc_of_wood"}


def test_there_are_no_figures_before_the_end_and_probes_make_a_curve() -> None:
    truth = _truth(stages=2)
    probe = _answer(BRICK, step=0, anomaly_maps=_maps([9, 9, 0, 0], BRICK))
    later = _answer(BRICK, step=50, anomaly_scores=[0.0, 1.0, 2.0, 3.0])
    found = scores(truth, [probe, later, _answer(BRICK, anomaly_maps=_maps([0] * 4, BRICK))], RULES)
    assert found.final == {}
    assert found.per_stage["pixel_ap"] == [1.0]
    assert found.probes == {"image_auroc": [(0, 0, 0.0), (0, 50, 1.0)]}
    assert scores(truth, [], RULES).final == {}


# --- what cannot be scored, what may be fetched, what is drawn ----------------------------------------------


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        (
            {"classes": [0] * 4},
            "stage 0 was answered with classes, but anomaly detection needs anomaly_maps or anomaly_scores",
        ),
        ({}, "stage 0 was answered with nothing, but"),
        (
            {"anomaly_maps": np.zeros((4, 9))},
            r"anomaly_maps must be \(N, h, w\), one map per image, but stage 0 was answered with \(4, 9\)",
        ),
        ({"anomaly_maps": np.zeros((4, 1, 3, 3))}, r"answered with \(4, 1, 3, 3\)"),
        ({"anomaly_maps": np.zeros((4, 0, 3))}, r"answered with \(4, 0, 3\)"),
        (
            {"anomaly_scores": np.zeros((4, 2))},
            r"anomaly_scores must be \(N,\), one per image, but stage 0 was answered with \(4, 2\)",
        ),
    ],
)
def test_an_answer_that_cannot_be_scored_is_told_in_a_sentence(
    arrays: Mapping[str, Any], problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        scores(_truth(), [_answer(BRICK, **arrays)], RULES)


def test_the_order_of_items_and_the_numbering_of_ids_do_not_matter() -> None:
    truth, levels = _truth(), np.array([0.5, 2.5, 1, 2, 0.25, 1, 0, 0.5])
    order = np.random.default_rng(5).permutation(8)
    moved = Truth(
        labels=truth.labels[order],
        facts={name: held[order] for name, held in truth.facts.items()},
        named_classes=[2],
    )
    maps = _maps(list(levels), BRICK + WOOD)
    there, here = (
        scores(held, [_answer(list(range(8)), anomaly_maps=asked)], RULES)
        for held, asked in ((truth, maps), (moved, maps[order]))
    )
    assert there.final == pytest.approx(here.final, abs=1e-12)


def test_masks_may_come_from_a_loader_and_only_those_that_are_drawn_are_fetched() -> None:
    truth = _truth()
    loader = Loader(truth.facts["mask"], [])
    lazy = _truth(mask=loader, picture=Loader(truth.facts["picture"], []))
    answer = _answer(BRICK + WOOD, anomaly_maps=_maps([0.5, 2.5, 1, 2, 0, 0, 0, 0], BRICK + WOOD))
    assert scores(lazy, [answer], RULES).final == scores(truth, [answer], RULES).final
    assert max(loader.asked) <= 3
    judged(lazy, answer, RULES)
    assert loader.asked[-2:] == [2, 2], "two defects of either category, and no good image"


def test_cases_show_image_mask_and_map_of_the_best_and_the_worst() -> None:
    """Brick: scores 0.5, 2.5 (good), 2 (stain), 3 (scratch); its maps span 0.5 to 3, so 3 is white and 0.5
    black.
    """
    truth = _truth()
    rows, captions = _scored([0.5, 2.5, 1, 2, 0, 0, 0, 0]).strips["cases_of_brick"]
    assert captions == ["highest: scratch", "lowest: stain", "highest: good"]
    assert (rows.shape, rows.dtype) == ((3, 3, 6, 6, 3), np.float32)
    assert rows.min() >= 0 and rows.max() <= 1
    for row, item in enumerate([3, 2, 1]):
        np.testing.assert_allclose(
            rows[row, 0], np.moveaxis(truth.facts["picture"][item], 0, -1) / 255, rtol=1e-6
        )
    near = [0, 1, 1, 2, 3, 3]  # six pixels of a picture from four of a mask
    np.testing.assert_array_equal(rows[0, 1, :, :, 0], truth.facts["mask"][3][np.ix_(near, near)])
    np.testing.assert_allclose(rows[0, 2, -1, -1], [1, 1, 1])
    np.testing.assert_allclose(rows[0, 2, 0, 0], [1, 3 * 0.6 - 1, 0], atol=1e-6)
    np.testing.assert_allclose(rows[2, 2, 0, 0], [1, 1, 3 * 0.8 - 2], atol=1e-6)


def test_a_large_picture_is_shown_smaller_and_a_missing_mask_is_grey() -> None:
    pictures = np.zeros((8, 3, 300, 100), dtype=np.uint8)
    truth = _truth(picture=pictures, has_mask=np.arange(8) != 3)
    rows, captions = _scored([0, 0, 0, 1, 0, 0, 0, 0], truth=truth).strips["cases_of_brick"]
    assert rows.shape == (3, 3, 128, 100, 3)
    assert captions[0] == "highest: scratch"
    assert np.all(rows[0, 1] == 0.5)


def test_a_constant_map_can_be_drawn(tmp_path: Path) -> None:
    truth = _truth()
    found = scores(truth, [_answer(BRICK, anomaly_maps=np.zeros((4, 2, 2), np.float16))], RULES)
    drawn = plots.draw(found, tmp_path, title="a cell")
    assert {path.name for path in drawn} >= {
        "cases_of_brick_strip.png",
        "image_auroc_matrix.png",
        "image_auroc_by_defect_matrix.png",
    }


# --- scale --------------------------------------------------------------------------------------------------

SIDE = 32


def _seen(change: Any, post: PostProcess, *, given: bool = False) -> dict[str, float]:
    """Return the figures of the same 48 maps of three categories, whose ranges are 1, 10 and 100, changed by
    a rising function.
    """
    rng = np.random.default_rng(6)
    masks = np.zeros((48, SIDE, SIDE), dtype=bool)
    for mask, (row, column) in zip(masks[::2], rng.integers(0, SIDE - 6, (24, 2)), strict=True):
        mask[row : row + 6, column : column + 6] = True
    category, anomalous = np.arange(48) // 2 % 3, masks.any(axis=(1, 2))
    maps = (rng.random(masks.shape) + 0.3 * masks + 0.1 * rng.random((48, 1, 1))) * 10.0 ** category[
        :, None, None
    ]
    facts = {
        "category": category,
        "stage": 0 * category,
        "anomalous": anomalous,
        "defect": anomalous.astype(np.int64),
        "mask": masks,
        "has_mask": np.ones(48, dtype=bool),
        "picture": np.zeros((48, 3, 4, 4), dtype=np.uint8),
    }
    scores_ = {"anomaly_scores": change(maps.mean(axis=(1, 2)))} if given else {}
    query = Query(ids=np.arange(48), inputs=maps)
    predicted = Prediction(anomaly_maps=change(maps), **scores_)
    answer = validate_prediction(predicted, query, rules=rules_of(Prediction), needed=(), stage=0, step=None)
    rules = Rules(post=post, categories=("a", "b", "c"), defects=("good", "square"), pooled=True)
    return dict(scores(Truth(labels=category, facts=facts, named_classes=[3]), [answer], rules).final)


@pytest.mark.parametrize("padding", ["zero", "reflect", "none"])
@pytest.mark.parametrize("given", [False, True])
def test_no_figure_depends_on_scale_and_offset_of_what_is_answered(padding: Any, given: bool) -> None:
    post = PostProcess(image_size=(SIDE, SIDE), resolution=(SIDE, SIDE), blur_padding=padding)
    expected = _seen(lambda values: values, post, given=given)
    assert expected["image_ap"] > 0.5 and 0.5 < expected["pixel_auroc"] < 1
    for scale in (1e-7, 1.0, 1e6):
        for offset in (-1e4, 0.0, 20_000.0):
            found = _seen(lambda values, a=scale, b=offset: a * values + b, post, given=given)  # type: ignore[misc]
            assert found == pytest.approx(expected, abs=1e-4), (scale, offset)


@pytest.mark.parametrize(
    "change", [lambda values: np.exp(3 * values), np.sqrt, lambda values: (1e5 * values).astype(np.float32)]
)
def test_where_pixels_are_not_mixed_any_rising_function_changes_nothing(change: Any) -> None:
    post = PostProcess(image_size=(SIDE, SIDE), resolution=(SIDE, SIDE), blur_size=0, top=0)
    assert _seen(change, post, given=True) == pytest.approx(
        _seen(lambda values: values, post, given=True), abs=1e-4
    )


def test_one_value_far_below_all_others_does_not_drown_them() -> None:
    """A sentinel in the corner of every good image, at -1e30 instead of about 0: away from it and from the
    edge nothing changes.
    """
    post = PostProcess(image_size=(SIDE, SIDE), resolution=(SIDE, SIDE), blur_size=0, top=0.01)

    def with_sentinel(value: float) -> Any:
        def changed(maps: Any) -> Any:
            maps = maps.copy()
            maps[1::2, 0, 0] = value
            return maps

        return changed

    assert _seen(with_sentinel(-1e30), post) == pytest.approx(_seen(with_sentinel(-1.0), post), abs=1e-4)
