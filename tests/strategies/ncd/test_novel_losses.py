"""The losses of UNO and Cr-KD against loops, closed forms and differentiation by hand; the heads against
plain matrix products.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, get_args

import numpy as np
import pytest
import torch
from fakes import FakeContext
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from strategies.assignment.rules import sinkhorn
from strategies.ncd import losses
from strategies.ncd.network import HeadSizes, NovelHead, NovelNetwork, Prototypes

Array = NDArray[np.float64]

LARGE, VIEWS, HEADS, ITEMS, KNOWN, NOVEL = 2, 3, 2, 7, 4, 3
LABELS = torch.tensor([2, -1, 0, -1, -1, 3, -1])


def _drawn(*shape: int, seed: int = 0) -> Tensor:
    """Scores in [-1, 1], as cosines are."""
    return 2 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) - 1


# --- targets ------------------------------------------------------------------------------------------------


def test_labelled_items_get_their_label_and_the_others_sinkhorns_row_of_their_view_and_head() -> None:
    novel = _drawn(LARGE, HEADS, ITEMS, NOVEL)
    targets = losses.joint_targets(novel, LABELS, KNOWN, sinkhorn)
    assert targets.shape == (LARGE, HEADS, ITEMS, KNOWN + NOVEL)
    hidden = [place for place, label in enumerate(LABELS.tolist()) if label < 0]
    for view, head in itertools.product(range(LARGE), range(HEADS)):
        assigned = sinkhorn(novel[view, head][hidden])
        for place, label in enumerate(LABELS.tolist()):
            row = torch.zeros(KNOWN + NOVEL)
            if label >= 0:
                row[label] = 1
            else:
                row[KNOWN:] = assigned[hidden.index(place)]
            torch.testing.assert_close(targets[view, head, place], row)


def test_in_the_generalised_form_unlabelled_items_may_get_any_row() -> None:
    everything = _drawn(LARGE, HEADS, ITEMS, KNOWN + NOVEL)
    targets = losses.joint_targets(everything[..., KNOWN:], LABELS, KNOWN, sinkhorn, among_all=everything)
    hidden = LABELS < 0
    torch.testing.assert_close(targets[:, :, hidden], sinkhorn(everything[:, :, hidden]))
    assert targets[:, :, hidden, :KNOWN].sum() > 1
    torch.testing.assert_close(targets[0, 0, ~hidden].argmax(dim=1), LABELS[~hidden])


def test_a_queue_stands_beside_and_only_fresh_rows_come_back() -> None:
    novel, queue = _drawn(LARGE, HEADS, ITEMS, NOVEL), _drawn(LARGE, HEADS, 11, NOVEL, seed=1)
    hidden = LABELS < 0
    targets = losses.joint_targets(novel, LABELS, KNOWN, sinkhorn, queue=queue)
    expected = sinkhorn(torch.cat([novel[:, :, hidden], queue], dim=2))[:, :, : int(hidden.sum())]
    torch.testing.assert_close(targets[:, :, hidden, KNOWN:], expected)
    alone = losses.joint_targets(novel, LABELS, KNOWN, sinkhorn)
    assert not torch.allclose(targets, alone, atol=1e-3)


@pytest.mark.parametrize("labels", [[0, 3], [-1, -1]])
def test_batches_of_one_kind_have_targets_too(labels: list[int]) -> None:
    targets = losses.joint_targets(_drawn(LARGE, HEADS, 2, NOVEL), torch.tensor(labels), KNOWN, sinkhorn)
    torch.testing.assert_close(targets.sum(dim=-1), torch.ones(LARGE, HEADS, 2))


# --- swapped prediction -------------------------------------------------------------------------------------


@pytest.mark.parametrize("views", [2, 3, 4])
def test_swapped_prediction_by_loops_over_views_heads_and_items(views: int) -> None:
    """L = 1 / (L (V - 1)) sum over large v, sum over o != v of the mean over items of - sum_c t(v)_c log
    p(o)_c (card, 5.3).
    """
    logits = 5 * _drawn(views, HEADS, ITEMS, KNOWN + NOVEL)
    targets = _drawn(LARGE, HEADS, ITEMS, KNOWN + NOVEL, seed=1).softmax(dim=-1)
    for head, found in enumerate(losses.swapped_prediction(logits, targets).tolist()):
        total = 0.0
        for view in range(LARGE):
            for other in range(views):
                if other == view:
                    continue
                for item in range(ITEMS):
                    row = logits[other, head, item].double().numpy()
                    log_p = row - math.log(sum(math.exp(value) for value in row))
                    total -= float(targets[view, head, item].double().numpy() @ log_p) / ITEMS
        assert found == pytest.approx(total / (LARGE * (views - 1)), rel=1e-5)


def test_the_right_answer_in_all_views_costs_nothing_and_views_are_alike() -> None:
    targets = losses.joint_targets(_drawn(LARGE, 1, 3, NOVEL), torch.tensor([0, 1, 2]), KNOWN, sinkhorn)
    assert float(losses.swapped_prediction(1e4 * targets, targets)) == pytest.approx(0, abs=1e-6)
    logits, soft = 5 * _drawn(LARGE, HEADS, ITEMS, 5), _drawn(LARGE, HEADS, ITEMS, 5, seed=1).softmax(dim=-1)
    torch.testing.assert_close(
        losses.swapped_prediction(logits.flip(0), soft.flip(0)), losses.swapped_prediction(logits, soft)
    )


# --- the relation loss --------------------------------------------------------------------------------------

TAU, TEMPERATURE = 0.1, 4.0


def _scores() -> tuple[Tensor, Tensor, Tensor]:
    return (
        _drawn(VIEWS, ITEMS, KNOWN),
        _drawn(VIEWS, HEADS, ITEMS, NOVEL, seed=1),
        _drawn(VIEWS, ITEMS, KNOWN, seed=2),
    )


def _softmax(row: Array) -> Array:
    powers: Array = np.exp(row - row.max())
    shares: Array = powers / powers.sum()
    return shares


def _terms(
    known: Tensor, novel: Tensor, teacher: Tensor, divergence: str = "cross-entropy"
) -> tuple[Array, Array, Array]:
    """Return a and eta, both (V, H, B), and the largest entry of q, (V, B), item by item as in section 5.4 of
    the card.
    """
    views, heads, items, _ = novel.shape
    divergences, masses, surest = (
        np.zeros((views, heads, items)),
        np.zeros((views, heads, items)),
        np.zeros((views, items)),
    )
    scale = TAU * TEMPERATURE
    for view, item in itertools.product(range(views), range(items)):
        q, p = (_softmax(scores[view, item].double().numpy() / scale) for scores in (teacher, known))
        surest[view, item] = q.max()
        for head in range(heads):
            joint = _softmax(torch.cat([known[view, item], novel[view, head, item]]).double().numpy() / scale)
            masses[view, head, item] = joint[: known.shape[-1]].sum()
            log = np.log(p) if divergence == "cross-entropy" else np.log(p / q)
            divergences[view, head, item] = TEMPERATURE**2 * -float(q @ log)
    return divergences, masses, surest


@pytest.mark.parametrize("per_head", [False, True])
@pytest.mark.parametrize("divergence", get_args(losses.Divergence))
@pytest.mark.parametrize("weighting", get_args(losses.Weighting))
def test_the_relation_loss_by_loops(
    weighting: losses.Weighting, divergence: losses.Divergence, per_head: bool
) -> None:
    known, novel, teacher = _scores()
    a, eta, surest = _terms(known, novel, teacher, divergence)
    mean = eta.mean(axis=(0, 2), keepdims=True) if per_head else eta.mean()
    weights = {
        "none": np.ones_like(eta),
        "mass-unscaled": eta,
        "teacher-confidence": (surest / surest.mean())[:, None],
    }
    expected = [(weights.get(weighting, eta / mean) * a)[:, head].mean() for head in range(HEADS)]
    found = losses.relation_loss(
        known, novel, teacher, weighting=weighting, divergence=divergence, per_head=per_head
    )
    assert float(found) == pytest.approx(float(np.mean(expected)), rel=1e-5)


def test_temperature_and_tau_both_divide_and_the_square_of_the_temperature_multiplies() -> None:
    known, novel, teacher = _scores()
    found = losses.relation_loss(known, novel, teacher, tau=0.5, temperature=2.0, weighting="none")
    log_p, q = (known / 1.0).log_softmax(dim=-1), (teacher / 1.0).softmax(dim=-1)
    torch.testing.assert_close(found, 4 * -(q * log_p).sum(dim=-1).mean())


def test_the_weighted_mean_is_the_sum_of_mass_times_divergence_over_the_sum_of_masses() -> None:
    known, novel, teacher = _scores()
    a, eta, _ = _terms(known, novel, teacher)
    assert float(losses.relation_loss(known, novel, teacher)) == pytest.approx(
        float((eta * a).sum() / eta.sum()), rel=1e-5
    )


def test_the_mass_learns_which_items_fit_worse_than_average() -> None:
    """dL / d eta_k = (a_k - L) / (N mean(eta)); novel scores act through eta alone, and d eta / d s_c = -eta
    p_c / (tau T).
    """
    known, novel, teacher = _scores()
    a, eta, _ = _terms(known, novel, teacher)
    slope = (a - (eta * a).sum() / eta.sum()) / eta.sum()
    novel.requires_grad_()
    losses.relation_loss(known, novel, teacher).backward()  # type: ignore[no-untyped-call]
    joint = torch.cat([known[:, None].expand(-1, HEADS, -1, -1), novel.detach()], dim=-1).double() / (
        TAU * TEMPERATURE
    )
    p = joint.softmax(dim=-1)[..., KNOWN:].numpy()
    expected = slope[..., None] * -(eta[..., None] * p) / (TAU * TEMPERATURE)
    assert novel.grad is not None
    np.testing.assert_allclose(novel.grad, expected, rtol=1e-3, atol=1e-6)


def test_a_gradient_descent_step_takes_known_mass_from_the_items_that_fit_worst() -> None:
    known, novel, teacher = _scores()
    a, eta, _ = _terms(known, novel, teacher)
    worst, best = (np.unravel_index(place, a.shape) for place in (a.argmax(), a.argmin()))
    novel.requires_grad_()
    losses.relation_loss(known, novel, teacher).backward()  # type: ignore[no-untyped-call]
    assert novel.grad is not None
    moved = _terms(known, novel.detach() - 0.1 * novel.grad, teacher)[1]
    assert moved[worst] < eta[worst]
    assert moved[best] > eta[best]


def _gradients(
    weighting: losses.Weighting, divergence: losses.Divergence
) -> tuple[float, Tensor, Tensor | None]:
    known, novel, teacher = _scores()
    known.requires_grad_()
    novel.requires_grad_()
    value = losses.relation_loss(known, novel, teacher, weighting=weighting, divergence=divergence)
    value.backward()  # type: ignore[no-untyped-call]
    assert known.grad is not None
    return float(value.detach()), known.grad, novel.grad


def test_constant_weights_leave_the_novel_scores_alone() -> None:
    moving, constant = _gradients("mass", "cross-entropy"), _gradients("mass-constant", "cross-entropy")
    assert moving[0] == constant[0]
    assert moving[2] is not None
    assert moving[2].any()
    assert constant[2] is None or not constant[2].any()
    assert not torch.allclose(moving[1], constant[1], rtol=0.01)


def test_divergence_and_cross_entropy_differ_by_the_teachers_entropy_and_in_their_gradient() -> None:
    known, novel, teacher = _scores()
    eta = _terms(known, novel, teacher)[1]
    q = (teacher.double() / (TAU * TEMPERATURE)).softmax(dim=-1)
    entropy = TEMPERATURE**2 * -(q * q.log()).sum(dim=-1).numpy()[:, None]
    (coded, by_code, _), (written, by_paper, _) = (
        _gradients("mass", kind) for kind in get_args(losses.Divergence)
    )
    assert coded - written == pytest.approx(float((eta * entropy).sum() / eta.sum()), rel=1e-5)
    assert not torch.allclose(by_code, by_paper, rtol=0.01)
    (_, by_code, _), (_, by_paper, _) = (_gradients("none", kind) for kind in get_args(losses.Divergence))
    torch.testing.assert_close(by_code, by_paper)


def test_no_items_cost_nothing_and_the_teacher_itself_has_no_divergence() -> None:
    assert losses.relation_loss(torch.zeros(2, 0, 3), torch.zeros(2, 1, 0, 4), torch.zeros(2, 0, 3)) == 0
    known, novel, _ = _scores()
    assert float(losses.relation_loss(known, novel, known, divergence="kl")) == pytest.approx(0, abs=1e-5)


def test_a_certain_teacher_and_a_student_that_contradicts_it_stay_finite() -> None:
    known, teacher = torch.tensor([[[60.0, -60.0]]]), torch.tensor([[[-60.0, 60.0]]])
    for divergence in get_args(losses.Divergence):
        value = losses.relation_loss(known, torch.zeros(1, 1, 1, 2), teacher, divergence=divergence)
        assert float(value) == pytest.approx(16 * 120 / 0.4)


def test_the_shift_of_relations_by_loops() -> None:
    known, teacher = _drawn(5, 3), _drawn(5, 3, seed=1)
    expected = []
    for ours, theirs in zip(known.double().numpy(), teacher.double().numpy(), strict=True):
        p, q = _softmax(ours / 0.4), _softmax(theirs / 0.4)
        expected.append(sum(q[c] * math.log(q[c] / p[c]) for c in range(3)))
    assert losses.relation_shift(known, teacher).tolist() == pytest.approx(expected, rel=1e-4)
    assert losses.relation_shift(known, known).tolist() == [0] * 5


# --- the learning rate --------------------------------------------------------------------------------------


def test_the_learning_rate_is_the_one_of_the_epochs_in_the_released_code() -> None:
    """e < W: low + (high - low) e / (W - 1); then low + (high - low) (1 + cos(pi (e - W) / (E - W))) / 2
    (card, 5.6).
    """
    low, high, warm, epochs, share = 0.001, 0.4, 10, 200, 0.05
    for epoch in range(epochs + 1):
        if epoch < warm:
            expected, done = low + (high - low) * epoch / (warm - 1), share * epoch / (warm - 1)
        else:
            along = (epoch - warm) / (epochs - warm)
            expected, done = (
                low + (high - low) * (1 + math.cos(math.pi * along)) / 2,
                share + (1 - share) * along,
            )
        assert high * losses.warm_cosine(done, warmup=share, floor=low / high) == pytest.approx(expected)


def test_without_warm_up_it_starts_at_the_top() -> None:
    assert [losses.warm_cosine(done, warmup=0.0, floor=0.1) for done in (0.0, 0.5, 1.0)] == pytest.approx(
        [1.0, 0.55, 0.1]
    )


# --- prototypes and heads -----------------------------------------------------------------------------------


def _empty() -> NovelNetwork:
    context: Any = FakeContext(backbone="mlp[width=6,depth=1]")
    return NovelNetwork(context)


def _network(overcluster: int = 0) -> NovelNetwork:
    return _empty().build((5,), KNOWN).grow(HeadSizes(HEADS, 8, 4, NOVEL, overcluster))


def _plain_layers(network: NovelNetwork) -> list[Tensor]:
    return [layer.weight for layer in network.modules() if type(layer) is torch.nn.Linear]


def test_prototypes_are_of_unit_length_before_a_step_and_drift_by_one() -> None:
    prototypes = Prototypes(4, 3)
    assert not torch.allclose(prototypes.weight.norm(dim=1), torch.ones(3))
    inputs = 9 * _drawn(5, 4)
    prototypes.at_unit_length()
    torch.testing.assert_close(
        prototypes(inputs), torch.cosine_similarity(inputs[:, None], prototypes.weight[None], dim=2)
    )
    optimiser = torch.optim.SGD(prototypes.parameters(), lr=1.0)
    prototypes(inputs).square().sum().backward()
    optimiser.step()
    drifted = prototypes.weight.detach().clone()
    assert (drifted.norm(dim=1) - 1).abs().min() > 1e-3
    torch.testing.assert_close(prototypes(inputs), normalize(inputs, dim=1) @ drifted.T)


def test_all_prototypes_of_a_network_are_brought_to_unit_length_and_fresh_novel_ones_are() -> None:
    network = _network(overcluster=2)
    heads: list[Any] = [*network.novel, *network.over]
    rows = [head[-1].weight for head in heads]
    assert [len(weight) for weight in rows] == [NOVEL] * HEADS + [2 * NOVEL] * HEADS
    for weight in rows:
        torch.testing.assert_close(weight.norm(dim=1), torch.ones(len(weight)))
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(3)
    before = [weight.clone() for weight in _plain_layers(network)]
    network.at_unit_length()
    assert network.known is not None
    for weight in [*rows, network.known.weight]:
        torch.testing.assert_close(weight.norm(dim=1), torch.ones(len(weight)))
    assert all(torch.equal(old, new) for old, new in zip(before, _plain_layers(network), strict=True))


def test_known_scores_use_the_unit_feature_and_novel_ones_the_unit_projection_of_the_raw_feature() -> None:
    network = _network(overcluster=3).eval()
    features = 5 * _drawn(9, 6)
    scores = network.scores(features)
    assert network.known is not None
    torch.testing.assert_close(scores.known, normalize(features, dim=1) @ network.known.weight.T)
    for head, found in zip(network.novel, scores.novel, strict=True):
        assert isinstance(head, NovelHead)
        layers: list[Any] = list(head)
        into, norm, _, out, prototypes = layers
        hidden = features @ into.weight.T + into.bias
        hidden = (hidden - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
        projected = hidden.clamp_min(0) @ out.weight.T + out.bias
        torch.testing.assert_close(found, normalize(projected, dim=1) @ prototypes.weight.T)
    assert scores.over is not None
    assert scores.over.shape == (HEADS, 9, 3 * NOVEL)
    longer = network.scores(7 * features)
    torch.testing.assert_close(longer.known, scores.known)
    assert not torch.allclose(longer.novel, scores.novel, atol=0.01), (
        "the raw feature goes in, and its length matters"
    )


def test_batch_norm_sees_one_view_at_a_time() -> None:
    network = _network()
    first, second = _drawn(9, 6), 3 + _drawn(9, 6, seed=1)
    head = network.novel[0]
    assert isinstance(head, NovelHead)
    hidden = head[0](first).detach()
    network.scores(first)
    norm = head[1]
    assert isinstance(norm, torch.nn.BatchNorm1d)
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, 0.1 * hidden.mean(dim=0))
    apart = torch.cat([network.scores(first).novel, network.scores(second).novel], dim=1)
    assert not torch.allclose(apart, network.scores(torch.cat([first, second])).novel, atol=0.01)


def test_a_network_without_novel_heads_has_no_novel_rows() -> None:
    scores = _empty().build((5,), KNOWN).scores(_drawn(3, 6))
    assert scores.novel.shape == (1, 3, 0)
    assert scores.over is None


def test_wider_prototypes_keep_the_rows_that_were_there() -> None:
    network = _empty().build((5,), KNOWN)
    assert network.known is not None
    before = network.known.weight.detach().clone()
    assert network.widen(KNOWN + 2).classes == KNOWN + 2
    torch.testing.assert_close(network.known.weight[:KNOWN], before)


@pytest.mark.parametrize("grown", [False, True])
def test_a_network_is_rebuilt_from_its_state_with_heads_of_the_same_size(grown: bool) -> None:
    network = _network(overcluster=2) if grown else _empty().build((5,), KNOWN)
    network.freeze("head")
    other = _empty()
    other.load_state_dict(network.state_dict())
    inputs = _drawn(4, 5)
    first, second = (each.eval().scores(each(inputs)) for each in (network, other))
    assert torch.equal(first.known, second.known)
    assert torch.equal(first.novel, second.novel)
    assert other.sizes == network.sizes
    assert other.frozen == network.frozen
    assert [weight.requires_grad for weight in other.parameters()] == [
        weight.requires_grad for weight in network.parameters()
    ]


def test_the_teacher_is_a_frozen_copy_of_what_trains() -> None:
    network = _network().freeze("head")
    teacher, inputs = network.teacher(), _drawn(4, 5)
    before = teacher.head(teacher(network.hidden(inputs)))
    assert network.known is not None
    torch.testing.assert_close(before, network.known(network(inputs)))
    with torch.no_grad():
        network.known.weight += 1
    assert torch.equal(teacher.head(teacher(network.hidden(inputs))), before)
    assert not any(weight.requires_grad for weight in teacher.parameters())
