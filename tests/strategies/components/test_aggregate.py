"""Losses of bags by loops, batches of whole bags, shares with noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from component_steps import begun, learner_with
from noisy_problem import noisy_stage

from harness.errors import Unsuitable
from harness.selection import configured
from strategies.components.aggregate import bag_loss, instance_loss
from strategies.components.contract import Component
from strategies.ood_scores import Seen
from strategies.toolkit.losses.robust import soft_cross_entropy
from strategies.toolkit.training.loop import Batch
from strategies.toolkit.training.tensors import items_of


class Reversed(Component):
    """Show every pass backwards."""

    def order(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.flip(0)


BAGS = torch.tensor([4, 4, 4, 0, 0, 0, 7, 7])


def _problem() -> tuple[torch.Tensor, torch.Tensor, np.ndarray, np.ndarray]:
    """Logits and shares (8, 3), the last bag smaller; probabilities and shares as arrays."""
    rng = np.random.default_rng(0)
    logits, shares = rng.normal(size=(8, 3)), rng.dirichlet([1, 1, 1], size=10)[BAGS.numpy()]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return torch.from_numpy(logits), torch.from_numpy(shares), p, shares


def test_bags_lose_by_their_mean_probability_and_count_by_their_items() -> None:
    logits, shares, p, y = _problem()
    entropy = squares = instances = squared_instances = 0.0
    for bag in (4, 0, 7):
        rows = np.flatnonzero(BAGS.numpy() == bag)
        mean = p[rows].mean(axis=0)
        entropy -= len(rows) * (y[rows[0]] * np.log(mean)).sum() / 8
        squares += len(rows) * ((y[rows[0]] - mean) ** 2).sum() / 8
        for row in rows:
            instances -= (y[row] * np.log(p[row])).sum() / 8
            squared_instances += ((y[row] - p[row]) ** 2).sum() / 8
    assert float(bag_loss(logits, shares, 3, "cross-entropy")) == pytest.approx(entropy, abs=1e-12)
    assert float(bag_loss(logits, shares, 3, "squared")) == pytest.approx(squares, abs=1e-12)
    assert float(instance_loss(logits, shares, "cross-entropy")) == pytest.approx(instances, abs=1e-12)
    assert float(instance_loss(logits, shares, "squared")) == pytest.approx(squared_instances, abs=1e-12)
    spread = sum((own := p[BAGS.numpy() == bag]).var(axis=0).sum() * len(own) / 8 for bag in (4, 0, 7))
    assert torch.equal(bag_loss(logits, shares, 9, "squared"), bag_loss(logits, shares, 8, "squared"))
    assert squared_instances == pytest.approx(float(squares + spread), abs=1e-12)  # an identity
    assert instances > entropy  # Jensen


def test_a_probability_of_nothing_has_a_log() -> None:
    logits = torch.tensor([[0.0, -400.0], [0.0, -300.0], [0.0, 1.0], [2.0, 0.0]], requires_grad=True)
    shares = torch.tensor([[0.5, 0.5]]).expand(4, 2)
    loss = bag_loss(logits, shares, 2, "cross-entropy")
    by_hand = 0.25 * (300 + np.log(2))
    p = torch.tensor([[0.0, 1.0], [2.0, 0.0]]).softmax(dim=1).mean(dim=0)
    assert float(loss) == pytest.approx(by_hand - 0.25 * float(p.log().sum()), rel=1e-5)
    loss.backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


def test_equal_predictions_of_a_bag_close_the_gap_and_its_gradient_is_finite() -> None:
    logits = torch.randn(1, 3, dtype=torch.float64).expand(6, 3)
    shares = torch.full((6, 3), 1 / 3, dtype=torch.float64)
    for kind in ("cross-entropy", "squared"):
        assert torch.allclose(bag_loss(logits, shares, 3, kind), instance_loss(logits, shares, kind))


@pytest.mark.parametrize(("items", "size"), [(48, 4), (46, 4), (41, 8)])
def test_batches_are_made_of_whole_bags_in_an_order_of_their_own(items: int, size: int) -> None:
    stage = noisy_stage(items=items)
    one, _ = begun(learner_with(f"aggregate[size={size}]"), stage)
    assert torch.equal(torch.bincount(one.bag_of)[:-1], torch.full((-(-items // size) - 1,), size))
    drawn = [torch.from_numpy(np.random.default_rng(seed).permutation(items)) for seed in (0, 1)]
    shown = [one.order(rows) for rows in drawn]
    assert not torch.equal(*(one.bag_of[rows] for rows in shown))
    for rows, first in zip(shown, drawn, strict=True):
        assert torch.equal(rows.sort().values, torch.arange(items))
        for bag in torch.split(one.bag_of[rows], size):
            assert len(bag.unique()) == 1
        if items % size:
            assert int(one.bag_of[rows[-1]]) == items // size
        elif items == 48:
            assert int(one.bag_of[rows[0]]) == int(one.bag_of[first[0]])
    labels = torch.from_numpy(stage.labels)
    for bag in range(len(one.shares)):
        counts = torch.bincount(labels[one.bag_of == bag], minlength=3)
        assert torch.allclose(one.shares[bag], counts / counts.sum())


@pytest.mark.parametrize("kind", ["cross-entropy", "squared"])
def test_with_the_term_a_learner_minimises_the_loss_between_bags_and_instances(kind: str) -> None:
    stage = noisy_stage()
    one, network = begun(learner_with(f"aggregate[size=4,rho=0.25,kind={kind}]"), stage)
    rows = one.order(torch.arange(48))[:16]
    batch = one.change(network, Batch(torch.rand(16, 5), torch.zeros(16, dtype=torch.long), rows))
    logits = torch.randn(16, 3)
    total = soft_cross_entropy(logits, batch.targets).mean() + one.term(network, batch, Seen(logits, logits))
    given: Any = (logits, one.shares[one.bag_of[rows]])
    by_hand = 0.75 * bag_loss(*given, 4, kind) + 0.25 * instance_loss(*given, kind)
    assert float(total) == pytest.approx(float(by_hand), rel=1e-5)


def test_noise_on_shares_has_the_scale_that_is_private_and_is_drawn_once() -> None:
    stage = noisy_stage(items=4000)
    plain, _ = begun(learner_with("aggregate[size=8]"), stage)
    found = {}
    for epsilon in (0.5, 2000.0):
        one, _ = begun(learner_with(f"aggregate[size=8,privacy={epsilon}]"), stage)
        again, _ = begun(learner_with(f"aggregate[size=8,privacy={epsilon}]"), stage)
        assert torch.equal(one.shares, again.shares)
        assert torch.allclose(one.shares.sum(dim=1), torch.ones(500))
        assert float(one.shares.min()) >= 0
        found[epsilon] = float((one.shares - plain.shares).abs().mean())
    assert found[2000.0] == pytest.approx(
        2 / (8 * 2000), rel=0.6
    )  # the mean size of Laplace's law is its scale
    assert found[0.5] > 0.2
    all_lost = replace(stage, labels=np.zeros_like(stage.labels))
    one, _ = begun(learner_with("aggregate[size=8,privacy=0.01]"), all_lost)
    assert bool(one.shares.isfinite().all())


def test_the_loop_shows_rows_as_they_are_arranged() -> None:
    shown: list[torch.Tensor] = []
    for component in (f"{__file__}:Reversed", "rate[factor=1]"):
        learner = learner_with(component, epochs=1)
        stage = noisy_stage()
        network = learner.models[0].grow(stage)
        rows: list[torch.Tensor] = []
        own = learner.loss_with(network)
        learner.spent = 0
        learner.minimise(
            items_of(stage, learner.context),
            lambda batch, own=own, rows=rows: rows.append(batch.rows) or own(batch),
        )
        shown.append(torch.cat(rows))
    assert torch.equal(shown[0], shown[1].flip(0))


def test_a_batch_that_bags_do_not_fill_is_refused_and_so_are_two_orders() -> None:
    with pytest.raises(
        Unsuitable,
        match="has batches of 8 in this protocol, which bags of 3 of component aggregate do not fill",
    ):
        begun(learner_with("aggregate[size=3]"), noisy_stage())
    second = f"{__file__}:Reversed"
    with pytest.raises(
        Unsuitable, match=f"has one order of items, which aggregate and {second} would change"
    ):
        learner_with(f"aggregate+{second}").learn(noisy_stage())
    learner = configured("strategy", f"elr[components={second}]")
    with pytest.raises(Unsuitable, match="does not offer order, which component"):
        learner.start(learner_with("").context)
