"""Which labels are believed because their loss is small: by hand; and in co-teaching, which network learns
which items.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from noisy_problem import as_items, fresh, learned, lent, noisy_stage, started, weights_of
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness.contracts import Query
from harness.errors import Unsuitable, UserError
from strategies.noisy_labels import co_teaching
from strategies.noisy_labels.small_losses import (
    checked_rate,
    forget_rate,
    keeps,
    mean_losses,
    noise_score_by_loss,
    smallest,
)

# --- by hand ------------------------------------------------------------------------------------------------


def test_the_forget_rate_rises_in_equal_steps_to_its_power_and_then_is_the_rate() -> None:
    """np.linspace(0, 0.4^c, 5) for the first five epochs, then 0.4, as in the released code."""
    assert [forget_rate(0.4, epoch, 5, 1.0) for epoch in range(8)] == pytest.approx(
        [0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4]
    )
    assert [forget_rate(0.4, epoch, 5, 2.0) for epoch in range(7)] == pytest.approx(
        [0, 0.04, 0.08, 0.12, 0.16, 0.4, 0.4]
    )
    expected = np.linspace(0, 0.45**0.5, 10)
    assert [forget_rate(0.45, epoch, 10, 0.5) for epoch in range(10)] == pytest.approx(list(expected))


def test_without_a_rise_the_rate_holds_from_the_start_and_a_rise_of_one_epoch_begins_with_nothing() -> None:
    assert forget_rate(0.4, 0, 0, 3.0) == 0.4
    assert [forget_rate(0.4, epoch, 1, 1.0) for epoch in range(2)] == [0, 0.4]


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (0.0, {0, 1, 2, 3, 4}),
        (0.2, {0, 1, 3, 4}),
        (0.39, {1, 3, 4}),
        (0.4, {1, 3, 4}),
        (0.5, {1, 4}),
        (0.8, {4}),
        (0.99, {4}),
    ],
)
def test_the_smallest_losses_are_chosen_rounded_down_and_one_at_least(
    rate: float, expected: set[int]
) -> None:
    assert set(smallest(torch.tensor([3.0, 1, 4, 1.5, 0.9]), rate).tolist()) == expected


@pytest.mark.parametrize("size", [10, 30, 64, 100])
def test_the_number_kept_is_the_whole_number_that_is_meant(size: int) -> None:
    """(1 - 0.9) * 10 is a little less than one in binary; meant is one."""
    for tenths in range(10):
        assert len(smallest(torch.arange(float(size)), tenths / 10)) == max(1, size * (10 - tenths) // 10)


def test_a_batch_too_small_for_the_rate_keeps_its_easiest_item() -> None:
    """So no batch is ever forgotten whole."""
    for rate in np.linspace(0, 0.999, 38):
        for size in range(1, 40):
            kept = smallest(torch.arange(float(size)), float(rate))
            assert sorted(kept.tolist()) == list(range(max(1, math.floor((1 - rate) * size + 1e-9))))


def test_a_rate_that_leaves_nothing_of_a_full_batch_is_refused() -> None:
    assert checked_rate(0.875, 8) == 0.875
    with pytest.raises(
        UserError, match="leaves nothing of a batch of 8 items; lower forget_rate or enlarge the batch"
    ):
        checked_rate(0.9, 8)


@pytest.mark.parametrize("name", ["co-teaching", "nested-co-teaching"])
def test_learners_that_select_say_when_nothing_can_be_selected(name: str) -> None:
    """Batches of eight: with 95 % forgotten, not one item is left."""
    with pytest.raises(UserError, match=r"leaves nothing of a batch of [48] items"):
        started(name, forget_rate=0.95).learn(noisy_stage())


def test_mean_losses_average_over_networks_and_not_over_logits() -> None:
    logits = torch.tensor([[[0.0, 0], [2, 0]], [[1.0, 0], [0, 2]]])
    labels = torch.tensor([0, 1])
    own = [[math.log(2), math.log(1 + math.e**2)], [math.log(1 + math.exp(-1)), math.log(1 + math.exp(-2))]]
    assert mean_losses(logits, labels).tolist() == pytest.approx(np.mean(own, axis=0))


@pytest.mark.parametrize(
    ("rate", "expected"), [(0.0, 9.0), (0.2, 5.0), (0.4, 2.0), (0.79, 0.5), (0.8, 0.5), (0.99, 0.5)]
)
def test_the_bar_is_the_largest_loss_that_a_selection_over_all_keeps(rate: float, expected: float) -> None:
    losses = torch.tensor([5.0, 0.5, 9, 2, 1])
    assert keeps(losses, rate) == expected
    assert float(losses[smallest(losses, rate)].max()) == expected


def test_doubt_is_a_half_at_the_bar_and_ranks_as_losses_do() -> None:
    losses = torch.tensor([0.0, 1, 2, 6, 1000])
    noise_scores, kept = noise_score_by_loss(losses, 2.0)
    assert noise_scores.tolist() == pytest.approx([0, 1 / 3, 1 / 2, 3 / 4, 1000 / 1002])
    assert kept.tolist() == [True, True, True, False, False]
    noise_scores, kept = noise_score_by_loss(losses, math.inf)
    assert kept.all()
    assert noise_scores.isfinite().all()
    assert (noise_scores.diff() > 0).all()
    assert noise_score_by_loss(torch.zeros(2), 0.0)[0].tolist() == [0, 0]


# --- co-teaching --------------------------------------------------------------------------------------------


def _one_step(exchange: str, rate: float) -> tuple[list[Tensor], list[Tensor], list[set[int]]]:
    """Both networks before and after one plain gradient step on all 48 items, and the items whose loss is
    small for each.
    """
    context, stage = lent(epochs=1, batch_size=48), noisy_stage()
    items = as_items(stage)
    networks = [fresh(context, stage, place) for place in range(2)]
    each = [cross_entropy(network(items.inputs), items.labels, reduction="none") for network in networks]
    easy = [losses.argsort()[: round((1 - rate) * 48)] for losses in each]
    learns = easy[::-1] if exchange == "cross" else easy
    expected = []
    for network, losses, rows in zip(networks, each, learns, strict=True):
        gradients = torch.autograd.grad(losses[rows].mean(), list(network.parameters()))
        moved = [
            weights - 0.1 * gradient
            for weights, gradient in zip(network.parameters(), gradients, strict=True)
        ]
        expected.append(torch.cat([weights.detach().flatten() for weights in moved]))
    strategy = started(
        "co-teaching",
        context,
        exchange=exchange,
        ramp=0,
        forget_rate=rate,
        lr=0.1,
        momentum=0.0,
        weight_decay=0.0,
    )
    strategy.learn(stage)
    return [weights_of(model) for model in strategy.models], expected, [set(rows.tolist()) for rows in easy]


@pytest.mark.parametrize("exchange", ["cross", "self"])
def test_each_network_learns_what_is_easy_for_the_other_one_or_for_itself(exchange: str) -> None:
    ours, expected, easy = _one_step(exchange, 0.5)
    assert easy[0] != easy[1]
    for own, wanted in zip(ours, expected, strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(_one_step("cross", 0.5)[0][0], _one_step("self", 0.5)[0][0], atol=1e-5)


def test_the_two_networks_start_apart_and_who_is_forgotten_by_none_trains_as_if_alone() -> None:
    """With nothing forgotten, the first network of the pair is cross-entropy's."""
    pair = learned("co-teaching", forget_rate=0.0, stages=2)
    alone = learned("cross-entropy", stages=2)
    torch.testing.assert_close(pair.logits[0], alone.logits[0], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(pair.logits[0], pair.logits[1], atol=0.1)


@pytest.mark.parametrize("name", ["co-teaching", "nested-co-teaching"])
def test_a_negative_rate_is_the_one_told_and_unsuitable_where_none_is(name: str) -> None:
    assert torch.equal(learned(name).weights, learned(name, forget_rate=0.3).weights)
    assert not torch.equal(learned(name).weights, learned(name, forget_rate=0.6, ramp=0).weights)
    with pytest.raises(Unsuitable, match="needs the share of wrong labels"):
        started(name).learn(noisy_stage(told=False))
    started(name, forget_rate=0.3).learn(noisy_stage(told=False))


@pytest.mark.parametrize("epochs", [12, 49, 100])
def test_every_epoch_forgets_by_its_own_number(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where (e / E) E is rounded to a little less than e."""
    seen: list[int] = []

    def note(rate: float, epoch: int, *_: Any) -> float:
        seen.append(epoch)
        return rate

    monkeypatch.setattr(co_teaching, "forget_rate", note)
    started("co-teaching", lent(epochs=epochs, batch_size=24)).learn(noisy_stage())
    assert seen == [epoch for epoch in range(epochs) for _ in range(2)]


def test_labels_are_kept_up_to_the_share_of_the_last_stage() -> None:
    strategy, stage = started("co-teaching", lent(epochs=10)), noisy_stage()
    query = Query(ids=stage.ids, inputs=stage.inputs)
    strategy.learn(stage)
    answer = strategy.predict(query)
    items = as_items(stage)
    each = torch.stack(
        [
            cross_entropy(model.evaluated(items.inputs), items.labels, reduction="none")
            for model in strategy.models
        ]
    )
    ranks = each.mean(dim=0).argsort().argsort().numpy()
    np.testing.assert_array_equal(np.asarray(answer.kept), ranks < int(0.7 * 48))
    np.testing.assert_array_equal(np.argsort(np.asarray(answer.suspicion)).argsort(), ranks)
