"""The losses of category discovery against loops written from the formulas, hand calculation, and what their
gradients may reach.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from strategies.toolkit.discovery import losses


def _rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def _softmax(row: np.ndarray) -> np.ndarray:
    powers = np.exp(row - row.max())
    return powers / powers.sum()


def test_self_distillation_compares_each_view_with_the_other_one() -> None:
    logits, teacher = _rows(6, 4).numpy(), _rows(6, 4, seed=1).numpy()
    expected = 0.0
    for item in range(3):
        for student, taught in ((item, item + 3), (item + 3, item)):
            target = _softmax(teacher[taught] / 0.05)
            expected += 0.5 / 3 * -(target * np.log(_softmax(logits[student] / 0.1))).sum()
    value = losses.self_distillation(
        torch.from_numpy(logits), torch.from_numpy(teacher), temperature=0.1, teacher_temperature=0.05
    )
    assert float(value) == pytest.approx(expected)


def test_mean_entropy_is_zero_when_even_and_log_k_at_a_single_class() -> None:
    even = torch.eye(4).repeat(3, 1) * 100
    assert float(losses.mean_entropy(even, temperature=0.1)) == pytest.approx(0, abs=1e-6)
    assert float(losses.mean_entropy(torch.eye(4)[:1].repeat(5, 1) * 100, temperature=0.1)) == pytest.approx(
        math.log(4)
    )


def test_group_entropy_is_the_papers_sum_with_its_constants() -> None:
    """Section 5.3.2 of the method card, written out; w = 2, 3, 5 to tell the terms apart."""
    logits = _rows(8, 5).numpy()
    mean = np.mean([_softmax(row / 0.1) for row in logits], axis=0)
    old, new = mean[:2], mean[2:]
    p_old, p_new = old.sum(), new.sum()
    between = p_old * np.log(p_old) + p_new * np.log(p_new) + np.log(2)
    inside = [sum(q * np.log(q) for q in group / group.sum()) + np.log(len(group)) for group in (old, new)]
    value = losses.group_entropy(
        torch.from_numpy(logits), 2, temperature=0.1, between=2, within_old=3, within_new=5
    )
    assert float(value) == pytest.approx(2 * between + 3 * inside[0] + 5 * inside[1])


def test_another_share_of_the_new_makes_it_the_divergence_from_that_share() -> None:
    logits = torch.log(torch.tensor([[0.3, 0.3, 0.2, 0.2]], dtype=torch.float64))
    at_share = losses.group_entropy(logits, 2, temperature=1.0, within_old=0, within_new=0, new_share=0.4)
    elsewhere = losses.group_entropy(logits, 2, temperature=1.0, within_old=0, within_new=0, new_share=0.75)
    assert float(at_share) == pytest.approx(0, abs=1e-12)
    assert float(elsewhere) == pytest.approx(0.6 * math.log(0.6 / 0.25) + 0.4 * math.log(0.4 / 0.75))


def test_one_new_class_has_no_inner_term() -> None:
    logits = _rows(6, 3)
    with_term, without = (
        losses.group_entropy(logits, 2, temperature=0.1, within_new=weight) for weight in (1.0, 0.0)
    )
    assert float(with_term) == float(without)


@pytest.mark.parametrize(("n_old", "classes"), [(2, 4), (4, 4), (0, 4)])
def test_a_group_without_probability_keeps_value_and_gradient_finite(n_old: int, classes: int) -> None:
    """p log p at p = 0; the released form gives a gradient that is not a number there."""
    logits = torch.full((3, classes), -1000.0, dtype=torch.float32)
    logits[:, -1] = 1000.0
    logits.requires_grad_()
    value = losses.group_entropy(logits, n_old, temperature=0.1)
    value.backward()
    assert value.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_info_nce_finds_the_other_view_among_all_other_rows() -> None:
    rows = normalize(_rows(6, 3), dim=1).numpy()
    expected = 0.0
    for anchor in range(6):
        similar = {other: math.exp(rows[anchor] @ rows[other] / 0.5) for other in range(6) if other != anchor}
        expected -= math.log(similar[(anchor + 3) % 6] / sum(similar.values())) / 6
    assert float(losses.info_nce(3 * torch.from_numpy(rows), temperature=0.5)) == pytest.approx(expected)


def test_info_nce_of_a_single_item_is_zero() -> None:
    assert float(losses.info_nce(_rows(2, 3), temperature=1.0)) == pytest.approx(0)


def test_supervised_contrastive_averages_over_all_rows_of_the_label() -> None:
    rows, labels = normalize(_rows(6, 3), dim=1).numpy(), [0, 1, 0, 0, 1, 0]
    expected = 0.0
    for anchor in range(6):
        whole = sum(math.exp(rows[anchor] @ rows[other] / 0.07) for other in range(6) if other != anchor)
        same = [other for other in range(6) if other != anchor and labels[other] == labels[anchor]]
        expected -= (
            np.mean([math.log(math.exp(rows[anchor] @ rows[other] / 0.07) / whole) for other in same]) / 6
        )
    assert float(
        losses.supervised_contrastive(torch.from_numpy(rows), torch.tensor(labels), temperature=0.07)
    ) == pytest.approx(expected)


def test_feature_distance_is_twice_one_minus_the_cosine() -> None:
    now, before = _rows(5, 4), _rows(5, 4, seed=1)
    cosine = torch.cosine_similarity(now, before, dim=1)
    assert float(losses.feature_distance(now, before)) == pytest.approx(float((2 * (1 - cosine)).mean()))


def test_answer_distance_looks_at_the_old_classes_alone() -> None:
    logits, before = _rows(4, 5), _rows(4, 3, seed=1)
    expected = 0.0
    for now, old in zip(logits.numpy(), before.numpy(), strict=True):
        p, q = _softmax(old / 0.1), _softmax(now[:3] / 0.1)
        expected += (p * np.log(p / q)).sum() / 4
    assert float(losses.answer_distance(logits, before, temperature=0.1)) == pytest.approx(expected)
    assert float(losses.answer_distance(logits, logits[:, :3], temperature=0.1)) == pytest.approx(0, abs=1e-9)


def test_rank_pairs_share_the_set_of_their_largest_features() -> None:
    features = torch.tensor([[9.0, 5, 1, 0], [4, 7, 0, 1], [9, 1, 5, 0], [0, 1, 8, 9]])
    expected = [
        [set(a.topk(2).indices.tolist()) == set(b.topk(2).indices.tolist()) for b in features]
        for a in features
    ]
    assert losses.rank_pairs(features, top=2).tolist() == expected
    assert expected[0] == [True, True, False, False]


@pytest.mark.parametrize(("width", "top"), [(512, 5), (512, 7), (512, 8), (512, 20), (9, 9), (1, 1)])
def test_rank_pairs_are_those_of_sets_whether_or_not_a_set_fits_into_one_integer(
    width: int, top: int
) -> None:
    base = torch.randn(6, width, generator=torch.Generator().manual_seed(0))
    features = torch.cat([base, base * 2, base.flip(0)])  # scaling keeps the set of the largest
    sets = [frozenset(row.topk(top).indices.tolist()) for row in features]
    assert losses.rank_pairs(features, top=top).tolist() == [[one == other for other in sets] for one in sets]


def test_pair_cross_entropy_over_all_ordered_pairs() -> None:
    first, second = torch.softmax(_rows(3, 4), dim=1), torch.softmax(_rows(3, 4, seed=1), dim=1)
    same = torch.tensor([[True, False, True], [False, True, False], [True, False, True]])
    expected = 0.0
    for i in range(3):
        for j in range(3):
            p = float(first[i] @ second[j])
            expected -= math.log(p + 1e-7 if same[i, j] else 1 - p + 1e-7) / 9
    assert float(losses.pair_cross_entropy(first, second, same)) == pytest.approx(expected)
