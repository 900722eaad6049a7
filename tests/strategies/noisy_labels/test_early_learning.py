"""ELR and ELR+ against the formulas of their card: targets by hand, the gradient in closed form, and whole
trainings by plain loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import pytest
import torch
from noisy_problem import (
    QUERY,
    as_items,
    fresh,
    learned,
    lent,
    noisy_stage,
    passes,
    plain_sgd,
    started,
    weights_of,
)
from torch import Tensor
from torch.nn.functional import cross_entropy

import strategies.noisy_labels.elr as module
from harness.contracts import Query, Stage
from strategies.toolkit.augmentations import augmenting
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.losses.early_learning import (
    Regulariser,
    Targets,
    agreement,
    clamped,
    early_learning_loss,
    mixed_labels,
    ramp,
)

# --- targets ------------------------------------------------------------------------------------------------


def test_targets_move_over_three_visits_as_by_hand() -> None:
    """From zero, beta 0.7: rows sum to 0.3, 0.51 and 0.657; items that are not visited stay."""
    targets = Targets(0.7, "zero")
    targets.make_room(3, 2, "cpu")
    rows = torch.tensor([2, 0])
    first = targets.update(rows, torch.tensor([[0.8, 0.2], [0.5, 0.5]]))
    torch.testing.assert_close(first, torch.tensor([[0.24, 0.06], [0.15, 0.15]]))
    second = targets.update(rows, torch.tensor([[0.6, 0.4], [1.0, 0.0]]))
    torch.testing.assert_close(second, torch.tensor([[0.348, 0.162], [0.405, 0.105]]))
    third = targets.update(torch.tensor([2]), torch.tensor([[0.1, 0.9]]))
    torch.testing.assert_close(third, torch.tensor([[0.2736, 0.3834]]))
    torch.testing.assert_close(targets.table, torch.tensor([[0.405, 0.105], [0, 0], [0.2736, 0.3834]]))
    assert targets.table.sum(dim=1).tolist() == pytest.approx([1 - 0.7**2, 0, 1 - 0.7**3])


@pytest.mark.parametrize(("start", "filled"), [("zero", 0.0), ("uniform", 0.2)])
def test_the_table_grows_by_rows_for_items_and_by_empty_columns_for_classes(
    start: Literal["zero", "uniform"], filled: float
) -> None:
    targets = Targets(0.5, start)
    targets.make_room(2, 3, "cpu")
    assert (targets.table == {"zero": 0.0, "uniform": 1 / 3}[start]).all()
    targets.update(torch.tensor([1]), torch.tensor([[1.0, 0, 0]]))
    known = targets.table.clone()
    targets.make_room(4, 5, "cpu")
    assert targets.table.shape == (4, 5)
    assert torch.equal(targets.table[:2, :3], known)
    assert not targets.table[:2, 3:].any()
    assert (targets.table[2:] == filled).all()


# --- regularisers, ramps and mixed labels by hand -----------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("log", [math.log(1 - 0.38), math.log(1)]),
        ("kl", [0.5 * math.log(0.5 / 0.6) + 0.2 * math.log(0.2 / 0.4), 0]),
        ("squared", [0.01 + 0.04, 0.36 + 0.16]),
    ],
)
def test_regularisers_by_hand(kind: Regulariser, expected: list[float]) -> None:
    p = torch.tensor([[0.6, 0.4], [0.6, 0.4]], dtype=torch.float64)
    targets = torch.tensor([[0.5, 0.2], [0, 0]], dtype=torch.float64)
    assert agreement(p, targets, kind).tolist() == pytest.approx(expected)


def test_probabilities_are_clamped_and_not_normalised_again() -> None:
    torch.testing.assert_close(
        clamped(torch.tensor([[1.0, 0.0], [0.3, 0.7]]), 0.01), torch.tensor([[0.99, 0.01], [0.3, 0.7]])
    )


@pytest.mark.parametrize(
    ("done", "length", "expected"),
    [
        (0.0, 0.4, math.exp(-5)),
        (0.2, 0.4, math.exp(-1.25)),
        (0.4, 0.4, 1),
        (0.9, 0.4, 1),
        (0.0, 0.0, 1),
        (0.5, 1.0, math.exp(-1.25)),
    ],
)
def test_the_ramp_by_hand(done: float, length: float, expected: float) -> None:
    assert ramp(done, length) == pytest.approx(expected)


def test_mixed_labels_by_hand() -> None:
    mixed = mixed_labels(torch.tensor([0, 2, 1]), torch.tensor([1, 0, 2]), 0.75, 3)
    torch.testing.assert_close(mixed, torch.tensor([[0.75, 0, 0.25], [0.25, 0, 0.75], [0, 1, 0]]))


# --- the loss and its gradient ------------------------------------------------------------------------------


def _card(logits: Tensor, labels: Tensor, targets: Tensor, weight: float, clamp: float = 1e-4) -> Tensor:
    """Section 2 of the card, for autograd."""
    p = torch.softmax(logits, dim=1).clamp(clamp, 1 - clamp)
    return cross_entropy(logits, labels) + weight * torch.log(1 - (targets * p).sum(dim=1)).mean()


def _ours(logits: Tensor, labels: Tensor, targets: Tensor, weight: float, clamp: float = 1e-4) -> Tensor:
    p = logits.detach().softmax(dim=1)
    return early_learning_loss(logits, labels, p, clamped(p, clamp), targets, weight)


def _drawn(rows: int, classes: int, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(int(10 * scale))
    targets = torch.from_numpy(rng.dirichlet(np.ones(classes), rows) * rng.random((rows, 1)))
    return (
        torch.from_numpy(scale * rng.normal(size=(rows, classes))),
        torch.from_numpy(rng.integers(classes, size=rows)),
        targets,
    )


@pytest.mark.parametrize("weight", [0.0, 1.0, 7.0])
@pytest.mark.parametrize("scale", [0.0, 1.0, 4.0, 12.0])
def test_value_and_gradient_are_those_of_the_card_by_autograd(scale: float, weight: float) -> None:
    """In float64, over logits so small that the clamp sleeps and so large that it bites everywhere."""
    start, labels, targets = _drawn(40, 5, scale)
    ours, card = start.clone().requires_grad_(), start.clone().requires_grad_()
    value, expected = _ours(ours, labels, targets, weight), _card(card, labels, targets, weight)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)
    (own,), (wanted,) = torch.autograd.grad(3 * value, ours), torch.autograd.grad(3 * expected, card)
    torch.testing.assert_close(own, wanted, rtol=1e-9, atol=1e-12)


def test_the_loss_is_shown_in_full_where_a_probability_is_too_small_for_float32() -> None:
    """A gap of 200 between logits is a cross-entropy of 200; with it 3 log(1 - 0.6 (1 - 1e-4)) = -2.7484."""
    logits, labels, targets = torch.tensor([[200.0, 0.0]]), torch.tensor([1]), torch.tensor([[0.6, 0.0]])
    assert float(_ours(logits, labels, targets, 3.0)) == pytest.approx(200 - 2.7484, abs=1e-4)


def test_the_gradient_is_the_closed_form_of_the_paper_where_no_clamp_bites() -> None:
    """(p_c - y_c) - lambda p_c (t_c - s) / (1 - s), s = <t, p>, over the size of the batch."""
    logits, labels, targets = _drawn(6, 4, 1.0)
    p, y, t = logits.softmax(dim=1).numpy(), np.eye(4)[labels.numpy()], targets.numpy()
    s = (t * p).sum(axis=1, keepdims=True)
    expected = ((p - y) - 3 * p * (t - s) / (1 - s)) / 6
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(_ours(logits, labels, targets, 3.0), logits)
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-9, atol=1e-14)


def test_where_the_clamp_bites_the_regulariser_pulls_nowhere() -> None:
    """Both of two classes beyond the clamp: what is left is the gradient of cross-entropy; one of three: by
    hand from the other two.
    """
    logits = torch.tensor([[20.0, -20]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        _ours(logits, torch.tensor([1]), torch.tensor([[0.9, 0.05]], dtype=torch.float64), 7.0), logits
    )
    (plain,) = torch.autograd.grad(cross_entropy(logits, torch.tensor([1])), logits)
    torch.testing.assert_close(gradient, plain, rtol=1e-12, atol=1e-12)
    p = np.array([0.6, 0.4 - 1e-6, 1e-6])
    t = np.array([0.2, 0.1, 0.5])
    logits = torch.from_numpy(np.log(p))[None].requires_grad_()
    (gradient,) = torch.autograd.grad(
        _ours(logits, torch.tensor([0]), torch.from_numpy(t)[None], 2.0), logits
    )
    slope = -np.array([0.2, 0.1, 0.0]) / (1 - 0.2 * p[0] - 0.1 * p[1] - 0.5e-4)
    expected = p - np.eye(3)[0] + 2 * p * (slope - (slope * p).sum())
    np.testing.assert_allclose(gradient[0].numpy(), expected, rtol=1e-9)


def test_the_regulariser_has_a_floor_and_nothing_is_infinite_in_float32() -> None:
    """<t, p> is at most 1 - clamp, so the term is at least log(1e-4) = -9.21 times the weight."""
    logits = torch.tensor([[300.0, -300, 0], [-300, 300, 0]], requires_grad=True)
    targets = torch.tensor([[1.0, 0, 0], [0, 1, 0]])
    value = _ours(logits, torch.tensor([0, 1]), targets, 3.0)
    assert float(value.detach()) == pytest.approx(3 * math.log(1e-4), rel=1e-3)
    wrong = _ours(logits, torch.tensor([1, 0]), targets, 3.0)
    (gradient,) = torch.autograd.grad(wrong, logits)
    assert wrong.isfinite()
    torch.testing.assert_close(gradient, torch.tensor([[0.5, -0.5, 0], [-0.5, 0.5, 0]]))


def test_the_targets_of_wrong_labels_cancel_their_pull() -> None:
    """A wrongly labelled item with its target on the true class, as p there grows: cross-entropy pulls to the
    label, ELR does not.
    """
    logits = torch.tensor([[3.0, 0, 0]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[0.95, 0.02, 0.02]], dtype=torch.float64)
    (plain,) = torch.autograd.grad(_ours(logits, torch.tensor([1]), target, 0.0), logits)
    (regularised,) = torch.autograd.grad(_ours(logits, torch.tensor([1]), target, 7.0), logits)
    assert plain[0, 0] > 0.9
    assert regularised[0, 0] < 0.1


# --- ELR ----------------------------------------------------------------------------------------------------


def _elr_by_hand(
    context: Any,
    stages: list[Stage],
    *,
    weight: float = 3.0,
    beta: float = 0.7,
    clamp: float = 1e-4,
    start: float = 0.0,
    update_first: bool = True,
    kind: str = "log",
) -> tuple[Classifier, dict[int, Tensor]]:
    """The card's steps, item by item, with targets kept by id."""
    network, table = Classifier(context), dict[int, Tensor]()
    for stage in stages:
        network.grow(stage)
        items, classes, optimiser = as_items(stage), stage.named_classes, plain_sgd(network)
        for _, rows in passes(context, len(items), context.epochs):
            logits = network(items.inputs[rows])
            p = logits.softmax(dim=1).clamp(clamp, 1 - clamp)
            used = []
            for place, item in enumerate(stage.ids[rows.numpy()].tolist()):
                before = table.get(item, torch.full((classes,), start / classes))
                own = p[place].detach()
                table[item] = beta * before + (1 - beta) * own / own.sum()
                used.append(table[item] if update_first else before)
            t = torch.stack(used)
            if kind == "log":
                pull = torch.log(1 - (t * p).sum(dim=1))
            else:
                pull = (
                    ((t - p) ** 2).sum(dim=1)
                    if kind == "squared"
                    else (t * (torch.log(t + 1e-30) - p.log())).sum(dim=1)
                )
            optimiser.zero_grad()
            torch.autograd.backward(cross_entropy(logits, items.labels[rows]) + weight * pull.mean())
            optimiser.step()
    return network, table


@pytest.mark.parametrize(
    ("values", "written_out"),
    [
        ({}, {}),
        ({"weight": 7.0, "beta": 0.9, "clamp": 0.05}, {"weight": 7.0, "beta": 0.9, "clamp": 0.05}),
        ({"target_init": "uniform"}, {"start": 1.0}),
        ({"update_first": False}, {"update_first": False}),
        ({"regulariser": "squared"}, {"kind": "squared"}),
        ({"regulariser": "kl", "weight": 0.5}, {"kind": "kl", "weight": 0.5}),
    ],
    ids=str,
)
def test_elr_trains_as_its_card_over_two_stages(values: dict[str, Any], written_out: dict[str, Any]) -> None:
    context, stages = lent(), [noisy_stage(0), noisy_stage(1)]
    strategy = started("elr", context, **values)
    for stage in stages:
        strategy.learn(stage)
    network, table = _elr_by_hand(context, stages, **written_out)
    torch.testing.assert_close(weights_of(*strategy.models), weights_of(network), rtol=1e-3, atol=1e-4)
    for row, item in enumerate(strategy.handed.ids.tolist()):
        own = strategy.targets.table[row]
        torch.testing.assert_close(own[: len(table[item])], table[item], rtol=1e-3, atol=1e-4)
        assert not own[len(table[item]) :].any(), "classes that came after the item"


def test_elr_of_weight_zero_is_cross_entropy() -> None:
    elr, plain = (
        started(name, lent(epochs=6), **values)
        for name, values in (("elr", {"weight": 0.0}), ("cross-entropy", {}))
    )
    for index in range(2):
        for strategy in (elr, plain):
            strategy.learn(noisy_stage(index))
        np.testing.assert_array_equal(elr.predict(QUERY).classes, plain.predict(QUERY).classes)
        torch.testing.assert_close(weights_of(*elr.models), weights_of(*plain.models), rtol=1e-4, atol=1e-5)


def test_the_closed_form_and_the_general_road_of_elr_agree() -> None:
    """comp-sum at tau = 1 is cross-entropy by another name, so autograd does what the closed form did."""
    closed, general = learned("elr", stages=2), learned("elr", stages=2, loss="comp-sum[tau=1.0]")
    torch.testing.assert_close(closed.weights, general.weights, rtol=1e-3, atol=1e-4)


def test_elr_flags_labels_whose_target_lies_elsewhere() -> None:
    strategy, stage = started("elr"), noisy_stage(items=8)
    strategy.learn(stage)
    strategy.targets.table[:3] = torch.tensor([[0.2, 0.5, 0.1], [0.0, 0.0, 0.0], [0.3, 0.3, 0.0]])
    noise_scores, kept = strategy.judge_labels(torch.zeros(1, 3, 3), torch.tensor([0, 2, 1]), np.arange(3))
    assert noise_scores.tolist() == pytest.approx([0.5 / 0.7, 0, 0.5])
    assert kept.tolist() == [False, True, True]
    answer = strategy.predict(Query(ids=stage.ids, inputs=stage.inputs))
    own = strategy.targets.table[torch.arange(8), strategy.handed.labels]
    np.testing.assert_array_equal(
        np.asarray(answer.kept), (own >= strategy.targets.table.amax(dim=1)).numpy()
    )


# --- ELR+ ---------------------------------------------------------------------------------------------------


def _plus_by_hand(
    context: Any,
    stage: Stage,
    *,
    networks: int = 2,
    source: str = "average-of-peer",
    decay: float = 0.99,
    average_ramp: float = 0,
    mixup: float = 1.0,
    weight_ramp: float = 0.0,
    reweighted: bool = False,
    weight: float = 3.0,
    beta: float = 0.7,
    shows: Sequence[Callable[[Tensor], Tensor]] | None = None,
) -> tuple[list[Classifier], list[Classifier], list[Tensor]]:
    """Section 3 of the card, both networks one after the other on batches of their own; targets are constants
    throughout.
    """
    rng, orders = context.stream("mixup"), context.stream("peer-batches")
    items, classes, n = as_items(stage), stage.named_classes, len(stage.labels)
    onehot = torch.eye(classes)[items.labels]
    models = [fresh(context, stage, place) for place in range(networks)]
    averages = [fresh(context, stage, place) for place in range(networks)]
    tables = [torch.zeros(n, classes) for _ in models]
    optimisers = [plain_sgd(model) for model in models]
    elsewhere, at = torch.arange(n), -1
    total = context.epochs * n // context.batch_size
    for step, (epoch, batch) in enumerate(passes(context, n, context.epochs)):
        if epoch != at and networks == 2:
            elsewhere = torch.from_numpy(orders.permutation(n))
        at = epoch
        values = []
        for place, model in enumerate(models):
            rows = batch if place == 0 else elsewhere[batch]
            x = items.inputs[rows] if shows is None else shows[place](items.inputs[rows])
            teacher = (averages if "average" in source else models)[
                (networks - 1 - place) if "peer" in source else place
            ]
            with torch.no_grad():
                tables[place][rows] = beta * tables[place][rows] + (1 - beta) * teacher(x).softmax(dim=1)
            w = float(rng.beta(mixup, mixup)) if mixup else 1.0
            w = max(w, 1 - w)
            order = torch.from_numpy(rng.permutation(len(rows)))
            other = rows[order]
            y = w * onehot[rows] + (1 - w) * onehot[other]
            q = w * tables[place][rows] + (1 - w) * tables[place][other]
            if reweighted:
                y = y * q / (y * q).sum(dim=1, keepdim=True)
            z = model(w * x + (1 - w) * x[order])
            p = z.softmax(dim=1).clamp(1e-4, 1 - 1e-4)
            rise = math.exp(-5 * (1 - min((step + 1) / total / weight_ramp, 1)) ** 2) if weight_ramp else 1
            values.append(
                -(y * z.log_softmax(dim=1)).sum(dim=1).mean()
                + rise * weight * torch.log(1 - (q * p).sum(dim=1)).mean()
            )
        for optimiser, value in zip(optimisers, values, strict=True):
            optimiser.zero_grad()
            torch.autograd.backward(value)
        for optimiser in optimisers:
            optimiser.step()
        done = step + 1
        rise = math.exp(-5 * (1 - min((done + 1) / total / average_ramp, 1)) ** 2) if average_ramp else 1
        a = rise * decay if average_ramp else min(1 - 1 / (done + 1), decay)
        with torch.no_grad():
            for average, model in zip(averages, models, strict=True):
                for mean, own in zip(average.parameters(), model.parameters(), strict=True):
                    mean.copy_(a * mean + (1 - a) * own)
    return models, averages, tables


@pytest.mark.parametrize(
    ("values", "written_out"),
    [
        ({}, {}),
        ({"average_decay": 0.6, "mixup": 0.0}, {"decay": 0.6, "mixup": 0.0}),
        ({"average_ramp": 0.5, "weight_ramp": 0.7}, {"average_ramp": 0.5, "weight_ramp": 0.7}),
        ({"reweighting": "on", "beta": 0.5}, {"reweighted": True, "beta": 0.5}),
        ({"target_source": "peer"}, {"source": "peer"}),
        ({"target_source": "average-of-self"}, {"source": "average-of-self"}),
        ({"target_source": "self"}, {"source": "self"}),
        ({"networks": 1, "weight": 1.0}, {"networks": 1, "weight": 1.0}),
    ],
    ids=str,
)
def test_elr_plus_trains_as_its_card(values: dict[str, Any], written_out: dict[str, Any]) -> None:
    context, stage = lent(), noisy_stage()
    strategy = started("elr-plus", context, **values)
    strategy.learn(stage)
    models, averages, tables = _plus_by_hand(context, stage, **written_out)
    torch.testing.assert_close(weights_of(*strategy.models), weights_of(*models), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(weights_of(*strategy.averages), weights_of(*averages), rtol=1e-3, atol=1e-4)
    for own, wanted in zip(strategy.targets, tables, strict=True):
        torch.testing.assert_close(own.table, wanted, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(weights_of(*models), weights_of(*averages), atol=1e-2)


def test_both_networks_of_elr_plus_see_views_of_their_own() -> None:
    """Teacher and network are shown the same view of an item, which is mixed only afterwards."""
    context, stage = lent(augmentations="noise[std=0.5]"), noisy_stage()
    strategy = started("elr-plus", context)
    strategy.learn(stage)
    models, _, tables = _plus_by_hand(
        context, stage, shows=[augmenting(context), augmenting(context, "peer-views")]
    )
    torch.testing.assert_close(weights_of(*strategy.models), weights_of(*models), rtol=1e-3, atol=1e-4)
    for own, wanted in zip(strategy.targets, tables, strict=True):
        torch.testing.assert_close(own.table, wanted, rtol=1e-3, atol=1e-4)


def test_targets_of_elr_plus_stay_with_their_items_when_a_stage_follows() -> None:
    """Rows of stage one stand still with empty columns for new classes; those of stage two are visited once
    an epoch.
    """
    strategy = started("elr-plus")
    strategy.learn(noisy_stage(0))
    before = [targets.table.clone() for targets in strategy.targets]
    strategy.learn(noisy_stage(1))
    for targets, then in zip(strategy.targets, before, strict=True):
        assert torch.equal(targets.table[:48], torch.cat([then, torch.zeros(48, 3)], dim=1))
        assert targets.table[48:].sum(dim=1).tolist() == pytest.approx([1 - 0.7**3] * 48)


def test_both_networks_of_elr_plus_are_taught_the_same_labels_in_another_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context, stage = lent(epochs=2), noisy_stage()
    taught: list[list[tuple[tuple[float, ...], int]]] = []
    original = Classifier.forward

    def seen(self: Classifier, inputs: Tensor) -> Tensor:
        shown.append([tuple(row) for row in inputs.tolist()])
        return original(self, inputs)

    def note(logits: Tensor, targets: Tensor) -> Tensor:
        taught.append(list(zip(shown[-1], targets.argmax(dim=1).tolist(), strict=True)))
        return -(targets * logits.log_softmax(dim=1)).sum(dim=1)

    shown: list[list[tuple[float, ...]]] = []
    monkeypatch.setattr(Classifier, "forward", seen)
    monkeypatch.setattr(module, "soft_cross_entropy", note)
    started("elr-plus", context, mixup=0.0).learn(stage)
    first, second = ([pair for step in taught[place::2] for pair in step] for place in range(2))
    handed = sorted(
        zip([tuple(row) for row in np.asarray(stage.inputs).tolist()], stage.labels.tolist(), strict=True)
    )
    for epoch in range(2):
        part = slice(48 * epoch, 48 * (epoch + 1))
        assert sorted(first[part]) == sorted(second[part]) == handed
        assert first[part] != second[part]


def test_labels_are_reweighted_of_its_own_accord_with_a_hundred_classes_alone() -> None:
    few = [learned("elr-plus", reweighting=way).weights for way in ("auto", "off", "on")]
    assert torch.equal(few[0], few[1])
    assert not torch.equal(few[0], few[2])
    many = []
    for way in ("auto", "off", "on"):
        strategy = started("elr-plus", reweighting=way)
        strategy.learn(noisy_stage(items=100, classes=100))
        many.append(weights_of(*strategy.models))
    assert torch.equal(many[0], many[2])
    assert not torch.equal(many[0], many[1])


def test_decays_of_the_average_part_only_after_as_many_steps_as_they_span() -> None:
    """min(1 - 1/(s + 1), decay) is the same for 0.99 and 0.997 up to step 98; at step 200 they differ."""
    short = [started("elr-plus", lent(epochs=16), average_decay=decay) for decay in (0.99, 0.997)]
    long = [started("elr-plus", lent(epochs=33), average_decay=decay) for decay in (0.99, 0.997)]
    for strategy in (*short, *long):
        strategy.learn(noisy_stage())
    assert torch.equal(weights_of(*short[0].averages), weights_of(*short[1].averages))
    assert not torch.allclose(weights_of(*long[0].averages), weights_of(*long[1].averages), atol=1e-3)


def test_who_answers_for_elr_plus() -> None:
    inputs = torch.from_numpy(np.asarray(QUERY.inputs))
    strategy = started("elr-plus")
    strategy.learn(noisy_stage())
    for way, expected in (
        ("networks", strategy.models),
        ("averages", strategy.averages),
        ("first", list(strategy.models)[:1]),
    ):
        strategy.evaluate = way
        torch.testing.assert_close(
            strategy.logits(inputs), torch.stack([one.evaluated(inputs) for one in expected])
        )


def test_elr_plus_judges_labels_by_the_mean_of_both_tables() -> None:
    strategy = started("elr-plus")
    strategy.learn(noisy_stage(items=8))
    strategy.targets[0].table[0], strategy.targets[1].table[0] = (
        torch.tensor([0.6, 0.1, 0]),
        torch.tensor([0.0, 0.3, 0.2]),
    )
    noise_scores, kept = strategy.judge_labels(torch.zeros(2, 2, 3), torch.tensor([0, 1]), np.array([0, 0]))
    assert noise_scores.tolist() == pytest.approx([0.2 / 0.5, 0.3 / 0.5])
    assert kept.tolist() == [True, False]
