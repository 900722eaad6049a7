"""Calibrated soft labels by hand, boxes of a second view, what counts in a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from componented import stage_like
from fakes import FakeContext
from torch import Tensor

from harness.errors import Unsuitable
from harness.selection import configured
from strategies.components.region_labels import box, calibrated, largest
from strategies.toolkit.training.loop import Batch

P = torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [0.2, 0.5, 0.3]], dtype=torch.float64)
LABELS = torch.tensor([1, 2, 0])


def _learned(
    options: str, shape: tuple[int, ...] = (1, 8, 8), augmentations: str = "same"
) -> tuple[Any, Any]:
    learner: Any = configured("strategy", f"cross-entropy[components=region-labels[{options}]]")
    learner.start(FakeContext(epochs=5, augmentations=augmentations, backbone="mlp[width=8,depth=1]"))
    learner.learn(stage_like(0, 3, shape, items=24))
    (one,) = learner.models[0].components.parts.values()
    return learner, one


def _batch(inputs: Tensor, **values: Any) -> Batch:
    return Batch(inputs, torch.arange(len(inputs)) % 3, torch.arange(len(inputs)), **values)


def test_targets_are_the_teachers_where_they_are_sure_else_a_softened_label() -> None:
    targets, counts = calibrated(P, LABELS, low=0.5, drop=0.45, smoothing=0.3)
    assert torch.equal(targets[[0, 2]], P[[0, 2]])
    assert targets[1].tolist() == pytest.approx([0.1, 0.1, 0.8])
    assert counts.tolist() == [True, False, True]
    flat, _ = calibrated(P, LABELS, low=0.5, drop=0.0, smoothing=0.3, uniform=True)
    assert flat[1].tolist() == pytest.approx([1 / 3] * 3)
    pure, all_count = calibrated(P, LABELS, low=0.0, drop=0.0, smoothing=0.3)
    assert torch.equal(pure, P)
    assert all_count.all()


def test_what_is_not_kept_of_a_soft_label_is_shared_equally() -> None:
    kept = largest(torch.tensor([[0.5, 0.05, 0.3, 0.15]]), 2)
    assert kept[0].tolist() == pytest.approx([0.5, 0.1, 0.3, 0.1])


def test_a_box_takes_what_its_lambda_says_but_for_the_border() -> None:
    shares, cut = [], []
    for seed in range(400):
        first = np.random.default_rng(seed).uniform()
        rows, columns, kept = box(np.random.default_rng(seed), 64, 48)
        assert 0 <= rows.start <= rows.stop <= 64
        assert 0 <= columns.start <= columns.stop <= 48
        assert kept == 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (64 * 48)
        assert kept >= first - 1e-9  # clipped boxes leave more
        if rows.start >= 16 and rows.stop <= 48 and columns.start >= 12 and columns.stop <= 36:
            cut.append(kept - first)
        shares.append(kept)
    assert max(cut) < 0.08  # whole pixels
    assert 0.5 < np.mean(shares) < 0.8


def test_a_batch_has_the_labels_of_its_views_and_the_mean_is_over_what_counts() -> None:
    learner, one = _learned("smoothing=0.2")
    inputs = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    p = torch.stack([teacher.evaluated(inputs).softmax(dim=1) for teacher in one.trained]).mean(dim=0)
    assert one.change(learner.models[0], _batch(inputs)).weights is None
    sure = p.amax(dim=1).sort().values
    one.drop, one.low = float(sure[6]), float(sure[12])
    changed = one.change(learner.models[0], _batch(inputs))
    targets, counts = calibrated(p, torch.arange(24) % 3, low=one.low, drop=one.drop, smoothing=0.2)
    assert torch.allclose(changed.targets, targets)
    assert int(counts.sum()) == 18
    losses = torch.rand(24)
    assert torch.allclose((changed.weights * losses).mean(), losses[counts].mean())
    assert one.state_dict() == {}


def test_selfmix_pastes_a_second_view_of_the_same_items_with_its_label() -> None:
    learner, one = _learned("selfmix=1,low=0", augmentations="noise[std=0.3]")
    batch = _batch(torch.zeros(24, 1, 8, 8), step=3, steps=9)
    changed = one.change(learner.models[0], batch)
    pasted = changed.inputs[0, 0] != 0
    kept = 1 - float(pasted.float().mean())
    assert 0 < kept < 1
    assert all(torch.equal(image[0] != 0, pasted) for image in changed.inputs)
    again = one.change(learner.models[0], batch)
    assert torch.equal(again.inputs, changed.inputs)
    assert torch.equal(again.targets, changed.targets)
    assert not torch.equal(one.change(learner.models[0], batch._replace(step=4)).inputs, changed.inputs)
    others = changed.inputs[:, 0][:, pasted]
    own = one.items.inputs[:, 0][:, pasted]
    assert torch.corrcoef(torch.stack([others.flatten(), own.flatten()]))[0, 1] > 0.5
    assert torch.allclose(changed.targets.sum(dim=1), torch.ones(24))
    with pytest.raises(
        Unsuitable, match=r"has items of shape \(5,\), and selfmix of component region-labels needs"
    ):
        _learned("selfmix=1", (5,))
