"""Figures of anomaly detection against scikit-learn, hand calculation, a loop over every threshold, and what
must not change them.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from harness.metrics import anomaly as module
from harness.metrics.anomaly import PixelCounts, aupro, continual, pixel_levels, pixel_metrics, region_shares
from harness.metrics.class_incremental import average_accuracy, backward_transfer, forgetting
from harness.metrics.detection import auroc

NAN = float("nan")


@st.composite
def worlds(draw: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Draw the maps of up to four small images, with ties and negative values, and their masks, some of them
    empty.
    """
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    maps = draw(arrays(np.float64, shape, elements=st.integers(-9, 9).map(lambda number: number / 4)))
    return maps, draw(arrays(np.bool_, shape)) & draw(arrays(np.bool_, (shape[0], 1, 1)))


def by_threshold(maps: NDArray[Any], masks: NDArray[np.bool_], limit: float = 0.3) -> float:
    """Return AUPRO from its definition: every distinct value is a threshold, every region is looked at by
    itself.
    """
    regions = []
    for values, mask in zip(maps, masks, strict=True):
        components, number = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [values[components == index + 1] for index in range(number)]
    if not regions or masks.all():
        return NAN
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        points.append(
            (
                np.mean(maps[~masks] >= threshold),
                np.mean([np.mean(region >= threshold) for region in regions]),
            )
        )
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 < limit and x1 > x0:
            end = min(x1, limit)
            area += (end - x0) * (y0 + (y0 + (y1 - y0) * (end - x0) / (x1 - x0))) / 2
    return area / limit


def counted(maps: NDArray[Any], masks: NDArray[np.bool_]) -> PixelCounts:
    counts = PixelCounts()
    for values, mask in zip(maps, masks, strict=True):
        counts.add(values, mask)
    return counts


# --- AUPRO --------------------------------------------------------------------------------------------------


def test_aupro_by_hand_with_a_tie_and_the_limit_within_a_segment() -> None:
    """Region A is a pixel of 0.9, region B two of 0.85 and 0.5; normals: 0.8, 0.7, four of 0.5, four of 0.1.

    Points (0, 0.5), (0, 0.75), (0.1, 0.75), (0.2, 0.75), (0.6, 1), (1, 1). At 0.3 the curve is at 0.75 + 0.25
    x 0.1 / 0.4 = 0.8125, and the area below it is 0.2 x 0.75 + 0.1 x (0.75 + 0.8125) / 2 = 0.228125.
    """
    values = np.array([[[0.9, 0.8, 0.85, 0.5, 0.7, 0.5, 0.5, 0.5, 0.5, 0.1, 0.1, 0.1, 0.1]]])
    masks = np.zeros(values.shape, dtype=bool)
    masks[0, 0, [0, 2, 3]] = True
    assert aupro(pixel_levels(values, masks)) == pytest.approx(0.228125 / 0.3, abs=1e-12)
    assert aupro(pixel_levels(values, masks), 0.2) == pytest.approx(0.75, abs=1e-12)
    assert aupro(pixel_levels(values, masks), 1.0) == pytest.approx(0.2 * 0.75 + 0.4 * 0.875 + 0.4, abs=1e-12)


def test_pixels_that_touch_by_a_corner_are_one_region() -> None:
    """By 8 neighbours the two pixels are one region, half of it found at 0.9; by 4 they would be two. Other
    images are other regions.
    """
    diagonal = np.eye(2, dtype=bool)
    shares, number = region_shares(diagonal)
    assert (shares.tolist(), number) == ([0.5, 0.5], 1)
    apart = np.array([[1, 0, 1, 1], [0, 0, 0, 1]], dtype=bool)
    shares, number = region_shares(apart)
    assert number == 2
    np.testing.assert_allclose(shares, [1, 1 / 3, 1 / 3, 1 / 3])
    assert pixel_levels(np.zeros((3, 2, 2)), np.stack([diagonal] * 3)).n_regions == 3


def test_every_region_counts_the_same_whatever_its_size() -> None:
    """A missed region of one pixel costs as much as one of 16: half of PRO at every rate; in pixels it is 1
    of 17.
    """
    values, masks = np.zeros((2, 8, 8)), np.zeros((2, 8, 8), dtype=bool)
    masks[0, :4, :4] = masks[1, 7, 7] = True
    values[masks] = 1.0
    values[1, 7, 7] = -1.0
    table = pixel_levels(values, masks)
    assert aupro(table) == pytest.approx(0.5)
    assert auroc(table.counts) == pytest.approx(16 / 17)


def test_the_curve_starts_at_the_origin_even_where_the_largest_value_is_shared() -> None:
    """All pixels tied: one straight line from (0, 0) to (1, 1), whose area up to 0.3 over 0.3 is 0.15."""
    masks = np.zeros((1, 4, 4), dtype=bool)
    masks[0, 0] = True
    assert aupro(pixel_levels(np.zeros((1, 4, 4)), masks)) == pytest.approx(0.15)


@given(worlds(), st.sampled_from([0.05, 0.3, 1.0]))
@settings(max_examples=300, deadline=None)
def test_aupro_is_that_of_a_loop_over_every_threshold(world: tuple[Any, Any], limit: float) -> None:
    maps, masks = world
    expected = by_threshold(maps, masks, limit)
    for table in (pixel_levels(maps, masks), counted(maps, masks).levels()):
        assert aupro(table, limit) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_aupro_of_real_valued_maps_is_that_of_a_loop_over_every_threshold() -> None:
    rng = np.random.default_rng(1)
    masks = ndimage.gaussian_filter(rng.normal(size=(6, 24, 24)), (0, 2, 2)) > 0.2
    masks[3:5] = False
    maps = rng.normal(size=masks.shape) + masks
    assert region_shares(masks[0])[1] > 1
    assert aupro(pixel_levels(maps, masks)) == pytest.approx(by_threshold(maps, masks), abs=1e-12)


def test_with_one_region_and_no_limit_aupro_is_the_area_under_the_roc_curve() -> None:
    rng = np.random.default_rng(2)
    masks = np.zeros((1, 16, 16), dtype=bool)
    masks[0, 3:9, 4:11] = True
    maps = np.round(rng.normal(size=masks.shape) + masks, 1)
    assert aupro(pixel_levels(maps, masks), 1.0) == pytest.approx(
        roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-12
    )


# --- the streaming form -------------------------------------------------------------------------------------


@given(worlds())
@settings(max_examples=200, deadline=None)
def test_counting_image_by_image_is_sorting_all_values(world: tuple[Any, Any]) -> None:
    maps, masks = world
    maps = 1e4 + 1e-7 * maps  # nothing is rounded
    sorted_, streamed = pixel_levels(maps, masks), counted(maps, masks).levels()
    np.testing.assert_array_equal(streamed.counts.positive, sorted_.counts.positive)
    np.testing.assert_array_equal(streamed.counts.negative, sorted_.counts.negative)
    assert streamed.n_regions == sorted_.n_regions
    np.testing.assert_allclose(streamed.counts.weight, sorted_.counts.weight, atol=1e-12)
    np.testing.assert_allclose(pixel_metrics(streamed), pixel_metrics(sorted_), atol=1e-12)


@given(worlds(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_order_of_images_does_not_matter(world: tuple[Any, Any], random: Any) -> None:
    maps, masks = world
    order = random.sample(range(len(maps)), len(maps))
    np.testing.assert_allclose(
        counted(maps, masks).figures(), counted(maps[order], masks[order]).figures(), atol=1e-12
    )


@given(worlds())
@settings(max_examples=100, deadline=None)
def test_a_rising_function_of_all_values_changes_nothing(world: tuple[Any, Any]) -> None:
    maps, masks = world
    expected = pixel_metrics(pixel_levels(maps, masks))
    for changed in (
        np.exp(maps),
        np.exp(99 * maps),
        100 * maps - 3,
        1e4 + 1e-7 * maps,
        1e6 * maps + 1e4,
        np.arctan(maps),
    ):
        np.testing.assert_allclose(pixel_metrics(pixel_levels(changed, masks)), expected, atol=1e-12)
        np.testing.assert_allclose(counted(changed, masks).figures(), expected, atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e-7, 60.0])
def test_beyond_the_bound_little_is_held_and_no_figure_moves(
    monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    """200 maps of 32 x 32, sorted 2^15 pixels at a time and kept in 2^14 levels; at scale 60 they span
    10^150.
    """
    monkeypatch.setattr(module, "AT_ONCE", 1 << 15)
    monkeypatch.setattr(module, "KEPT", 1 << 14)
    rng = np.random.default_rng(3)
    masks = ndimage.gaussian_filter(rng.normal(size=(200, 32, 32)), (0, 3, 3)) > 0.1
    masks[::2] = False
    maps = rng.normal(size=masks.shape) + 2 * masks
    maps = np.exp(scale * maps) if scale > 1 else scale * maps
    counts, most = PixelCounts(), 0
    for values, mask in zip(maps, masks, strict=True):
        counts.add(values, mask)
        most = max(most, counts.held)
    found, exact = counts.levels(), pixel_levels(maps, masks)
    assert most <= (1 << 15) + (1 << 14) + 1024
    seen = found.counts
    assert (seen.positive.sum(), seen.negative.sum()) == (masks.sum(), (~masks).sum())
    assert seen.weight is not None and seen.weight.sum() == pytest.approx(found.n_regions)
    np.testing.assert_allclose(pixel_metrics(found), pixel_metrics(exact), atol=1e-4)


def test_figures_may_be_asked_before_the_last_image() -> None:
    rng = np.random.default_rng(4)
    maps, masks = rng.normal(size=(6, 8, 8)), rng.random((6, 8, 8)) < 0.2
    counts = counted(maps[:3], masks[:3])
    assert counts.figures() == pixel_metrics(pixel_levels(maps[:3], masks[:3]))
    for values, mask in zip(maps[3:], masks[3:], strict=True):
        counts.add(values, mask)
    np.testing.assert_allclose(counts.figures(), pixel_metrics(pixel_levels(maps, masks)), atol=1e-12)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_maps_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="a map holds values that are not finite"):
        PixelCounts().add(np.full((2, 2), value), np.zeros((2, 2), dtype=bool))


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(4, 4\) pixels does not fit a mask of \(2, 2\)"):
        PixelCounts().add(np.zeros((4, 4)), np.zeros((2, 2), dtype=bool))


# --- what is missing ----------------------------------------------------------------------------------------


def test_without_anomalous_or_without_normal_pixels_every_figure_is_missing() -> None:
    """A category without a mask, one that is all mask, and none at all: never 0.5 and never 1."""
    for shape, value in (((2, 3, 3), False), ((2, 3, 3), True), ((0, 3, 3), False)):
        masks = np.full(shape, value)
        for table in (pixel_levels(np.zeros(shape), masks), counted(np.zeros(shape), masks).levels()):
            assert all(math.isnan(figure) for figure in pixel_metrics(table))


def test_an_empty_mask_beside_others_adds_normal_pixels_alone() -> None:
    maps, masks = np.array([[[0.9, 0.2]], [[0.1, 0.3]]]), np.array([[[True, False]], [[False, False]]])
    table = counted(maps, masks).levels()
    assert (table.n_regions, int(table.counts.negative.sum()), aupro(table)) == (1, 3, 1.0)


# --- categories that arrive one after another ---------------------------------------------------------------


def test_continual_figures_by_hand() -> None:
    """Categories 0 and 1 arrive first, 2 second, 3 last. Category 0 falls from its best (0.95, not its first)
    by 0.35, category 1 rises by 0.05 over its best, category 2 falls by 0.1: FM = (0.35 - 0.05 + 0.1) / 3,
    not clipped. Before arrival stands nonsense.
    """
    matrix = np.array([[0.9, 0.6, NAN, 9.0], [0.95, 0.5, 0.8, NAN], [0.6, 0.65, 0.7, 0.9]])
    found = continual(matrix, np.array([0, 0, 1, 2]))
    assert found.final == pytest.approx((0.6 + 0.65 + 0.7 + 0.9) / 4)
    assert found.learning == pytest.approx((0.9 + 0.6 + 0.8 + 0.9) / 4)
    assert found.incremental == pytest.approx((0.75 + 0.75 + 0.7125) / 3)
    assert found.forgetting == pytest.approx((0.35 - 0.05 + 0.1) / 3)
    assert found.backward_transfer == pytest.approx((-0.3 + 0.05 - 0.1) / 3)


@given(
    arrays(np.float64, st.integers(2, 6).map(lambda size: (size, size)), elements=st.floats(0, 1, width=32))
)
@settings(max_examples=100, deadline=None)
def test_with_a_category_per_stage_they_are_those_of_class_incremental_learning(
    matrix: NDArray[np.float64],
) -> None:
    matrix[np.triu_indices(len(matrix), 1)] = NAN
    found = continual(matrix, np.arange(len(matrix)))
    assert found.final == pytest.approx(average_accuracy(matrix))
    assert found.forgetting == pytest.approx(forgetting(matrix), abs=1e-11)
    assert found.backward_transfer == pytest.approx(backward_transfer(matrix))


def test_a_category_without_a_figure_is_left_out_and_a_single_stage_forgets_nothing_that_can_be_told() -> (
    None
):
    without = continual(np.array([[0.8, NAN, NAN], [0.6, NAN, 0.9]]), np.array([0, 0, 1]))
    assert without == pytest.approx((0.75, 0.85, 0.775, 0.2, -0.2))
    single = continual(np.array([[0.8, 0.6]]), np.array([0, 0]))
    assert single[:3] == pytest.approx((0.7, 0.7, 0.7))
    assert math.isnan(single.forgetting)
    assert math.isnan(single.backward_transfer)
