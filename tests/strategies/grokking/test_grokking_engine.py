"""The grokking engine: closed-form gradients against automatic differentiation, and networks that do not see
each other.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from fakes import FakeContext
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, one_hot

from harness.errors import Diverged
from strategies.grokking.dropout import Dropout, dropout_of
from strategies.grokking.engine import Ensemble, fit, flushing
from strategies.grokking.networks import Network, Objective, Weights, place, stacked
from strategies.grokking.normalised import Normalised
from strategies.grokking.optimisers import SGD, AdamW
from strategies.grokking.quadratic import Quadratic
from strategies.grokking.relu import Relu

K, P, WIDTH, ROWS = 3, 7, 12, 33
ROOMS = [
    WIDTH * 10,
    WIDTH * ROWS * 2,
    2**18,
]  # several tiles to a network, two networks to a tile, all in one tile
OBJECTIVES = [Objective(), Objective(loss="cross-entropy", bits=64), Objective(loss="stable")]


def _rows(networks: int = K, modulus: int = P, rows: int = ROWS) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(5)
    return torch.from_numpy(rng.integers(modulus, size=(networks, rows, 2))), torch.from_numpy(
        rng.integers(modulus, size=(networks, rows))
    )


def _weights(network: Network, networks: int = K, *, scale: float = 3.0) -> Weights:
    """Float64 weights, larger than at the start, so that the loss is not all labels."""
    each = [network.initial(np.random.default_rng(seed)) for seed in range(networks)]
    return {
        name: values.double() * (scale if "running" not in name else 1)
        for name, values in stacked(each).items()
    }


def _loss(logits: Tensor, labels: Tensor, objective: Objective) -> Tensor:
    """The mean loss of one network, (n, C) and (n,), by other code."""
    if objective.loss == "mse":
        return mse_loss(logits, one_hot(labels, logits.shape[1]).to(logits.dtype))
    if objective.loss == "cross-entropy":
        return cross_entropy(logits, labels)
    return cross_entropy(
        logits.sign() * logits.abs().log1p(), labels
    )  # StableMax is the softmax of sign(x) log(1 + |x|)


def _assert_close(found: Weights, leaves: Weights, losses: Tensor, expected: list[Tensor]) -> None:
    torch.stack(expected).sum().backward()  # type: ignore[no-untyped-call]
    assert set(found) == {name for name, leaf in leaves.items() if leaf.requires_grad}
    for name, gradient in found.items():
        wanted = leaves[name].grad
        assert wanted is not None
        assert float((gradient - wanted).abs().max() / wanted.abs().max()) < 1e-12, name
    assert torch.allclose(losses, torch.stack(expected).detach(), rtol=1e-12, atol=0)


def _masks(rates: list[float], room: int, width: int) -> Tensor:
    """The masks that networks draw, tile by tile, (K, n, width)."""
    dropout = Dropout(rates, [np.random.default_rng(90 + place) for place in range(K)])
    height = min(ROWS, room // width)
    masks = torch.ones(K, ROWS, width, dtype=torch.float64)
    for first in range(K):
        for start in range(0, ROWS, height):
            dropout.fill(masks[first : first + 1, start : start + height], first)
    return masks


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.loss)
@pytest.mark.parametrize("activation", ["square", "relu"])
@pytest.mark.parametrize("rates", [[0.0, 0.0, 0.0], [0.5, 0.0, 0.25]], ids=["whole", "dropout"])
def test_the_quadratic_slope_is_that_of_automatic_differentiation(
    room: int, objective: Objective, activation: Any, rates: list[float]
) -> None:
    network = Quadratic(modulus=P, width=WIDTH, activation=activation, room=room)
    weights, (items, labels) = _weights(network), _rows()
    dropout = dropout_of(rates, [np.random.default_rng(90 + place) for place in range(K)])
    losses, gradients = network.slope(weights, network.batch(items, labels), objective, dropout)
    masks = _masks(rates, room, WIDTH)
    leaves = {name: values.clone().requires_grad_() for name, values in weights.items()}
    expected = []
    for k in range(K):
        encoded = torch.cat([one_hot(items[k, :, 0], P), one_hot(items[k, :, 1], P)], dim=1).double()
        hidden = (encoded @ leaves["table"][k]) * masks[k]
        logits = (hidden.square() if activation == "square" else hidden.relu()) @ leaves["W"][k].T
        expected.append(_loss(logits, labels[k], objective))
    _assert_close(gradients, leaves, losses, expected)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.loss)
@pytest.mark.parametrize("activation", ["square", "relu"])
def test_batch_norm_after_the_square_is_that_of_torch(objective: Objective, activation: Any) -> None:
    network = Normalised(modulus=P, width=WIDTH, activation=activation)
    weights, (items, labels) = _weights(network), _rows()
    norms = [nn.BatchNorm1d(WIDTH).double() for _ in range(K)]
    leaves = {
        name: values.clone().requires_grad_(name not in network.statistics)
        for name, values in weights.items()
    }
    expected = []
    for k, norm in enumerate(norms):
        hidden = leaves["table"][k][items[k, :, 0]] + leaves["table"][k][P + items[k, :, 1]]
        active = hidden.square() if activation == "square" else hidden.relu()
        plain = torch.nn.functional.batch_norm(
            active, norm.running_mean, norm.running_var, leaves["gamma"][k], leaves["beta"][k], training=True
        )
        expected.append(_loss(plain @ leaves["W"][k].T, labels[k], objective))
    losses, gradients = network.slope(weights, network.batch(items, labels), objective)
    _assert_close(gradients, leaves, losses, expected)
    for k, norm in enumerate(norms):
        assert torch.allclose(weights["running_mean"][k], norm.running_mean, rtol=1e-12)
        assert torch.allclose(weights["running_variance"][k], norm.running_var, rtol=1e-12)
        norm.eval()
        with torch.no_grad():
            norm.weight.copy_(weights["gamma"][k]), norm.bias.copy_(weights["beta"][k])
            hidden = weights["table"][k][items[k, :, 0]] + weights["table"][k][P + items[k, :, 1]]
            logits = norm(hidden.square() if activation == "square" else hidden.relu()) @ weights["W"][k].T
        assert torch.allclose(network.forward(weights, items)[k], logits, rtol=1e-12)


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.loss)
def test_the_relu_slope_is_that_of_dense_layers_on_one_hot_pairs(
    room: int, bias: bool, objective: Objective
) -> None:
    network = Relu(modulus=P, hidden="12+10", bias=bias, room=room)
    weights, (items, labels) = _weights(network), _rows()
    losses, gradients = network.slope(weights, network.batch(items, labels), objective)
    leaves = {name: values.clone().requires_grad_() for name, values in weights.items()}
    expected = []
    for k in range(K):
        encoded = torch.cat([one_hot(items[k, :, 0], P), one_hot(items[k, :, 1], P)], dim=1).double()
        level = encoded @ leaves["table"][k]
        for number, layer in enumerate(network.layers):
            level = (level + leaves[f"bias-{number}"][k] if bias else level).relu() @ leaves[layer][k].T
        level = level + leaves["bias-2"][k] if bias else level
        expected.append(_loss(level, labels[k], objective))
        assert torch.allclose(network.forward(weights, items)[k], level, rtol=1e-12)
    _assert_close(gradients, leaves, losses, expected)


@pytest.mark.parametrize("room", ROOMS)
def test_residues_that_are_never_shown_have_no_gradient(room: int) -> None:
    network = Quadratic(modulus=P, width=WIDTH, room=room)
    rng = np.random.default_rng(5)
    items, labels = (
        torch.from_numpy(rng.integers(1, P - 1, size=(K, ROWS, 2))),
        torch.from_numpy(rng.integers(P, size=(K, ROWS))),
    )
    gradient = (
        network.slope(_weights(network), network.batch(items, labels), Objective())
        .gradients["table"]
        .view(K, 2, P, WIDTH)
    )
    unseen = (gradient == 0).all(dim=3)
    for k in range(K):
        for operand in (0, 1):
            assert set(unseen[k, operand].nonzero()[:, 0].tolist()) == set(range(P)) - set(
                items[k, :, operand].tolist()
            )


def test_dropout_in_the_relu_network_leaves_out_hidden_units_of_every_layer() -> None:
    network = Relu(modulus=P, hidden="12+10")
    weights, (items, labels) = _weights(network), _rows()
    slope = network.slope(
        weights,
        network.batch(items, labels),
        Objective(),
        Dropout([0.5] * K, [np.random.default_rng(k) for k in range(K)]),
    )
    again = Dropout([0.5] * K, [np.random.default_rng(k) for k in range(K)])
    masks = [again.fill(torch.empty(K, ROWS, size, dtype=torch.float64), 0) for size in (12, 10)]
    leaves = {name: values.clone().requires_grad_() for name, values in weights.items()}
    expected = []
    for k in range(K):
        level = (leaves["table"][k][items[k, :, 0]] + leaves["table"][k][P + items[k, :, 1]]).relu() * masks[
            0
        ][k]
        level = (level @ leaves["layer-1"][k].T).relu() * masks[1][k]
        expected.append(_loss(level @ leaves["layer-2"][k].T, labels[k], Objective()))
    _assert_close(slope.gradients, leaves, slope.losses, expected)


def test_the_slope_by_automatic_differentiation_of_any_forward_pass_is_the_closed_form() -> None:
    network = Quadratic(modulus=P, width=WIDTH)
    weights, (items, labels) = _weights(network), _rows()
    for objective in OBJECTIVES:
        closed = network.slope(weights, network.batch(items, labels), objective)
        general = Network.slope(_Plain(), weights, (items, labels), objective)
        assert torch.allclose(general.losses, closed.losses, rtol=1e-12)
        for name, gradient in closed.gradients.items():
            assert torch.allclose(general.gradients[name], gradient, rtol=1e-9, atol=1e-15)


class _Plain(Network):
    """The quadratic network, forward only."""

    classes = vocabulary = P

    def initial(self, rng: np.random.Generator) -> Weights:
        raise NotImplementedError

    def forward(self, weights: Weights, items: Tensor) -> Tensor:
        both = zip(weights["table"], items, strict=True)
        hidden = torch.stack([table[rows[:, 0]] + table[P + rows[:, 1]] for table, rows in both])
        return hidden.square() @ weights["W"].mT


def test_initial_weights_have_the_published_spread() -> None:
    weights = Quadratic(modulus=97).initial(np.random.default_rng(0))
    for values in weights.values():
        assert math.isclose(float(values.std()), 0.05, rel_tol=0.02)  # (16 * 500)^(-1/3)
        assert abs(float(values.mean())) < 0.001
    for name, values in Relu(modulus=113, bias=True).initial(np.random.default_rng(0)).items():
        reach = 226**-0.5 if name in ("table", "bias-0") else 200**-0.5  # torch.nn.Linear's, by inputs
        assert 0.95 * reach < float(values.abs().max()) <= reach


@pytest.mark.parametrize(("modulus", "width", "rows"), [(11, 32, 60), (31, 128, 480), (43, 215, 1300)])
@pytest.mark.parametrize("make", [Quadratic, Normalised, Relu])
@pytest.mark.parametrize(
    "objective",
    [Objective(), Objective(loss="cross-entropy"), Objective(loss="stable")],
    ids=lambda each: each.loss,
)
def test_a_network_computes_the_same_bytes_however_many_others_there_are(
    modulus: int, width: int, rows: int, make: Any, objective: Objective
) -> None:
    """Holds bitwise with MKL's batched products, whose kernels look at the shape of one matrix; with its own
    rates and masks too.
    """
    network = make(modulus=modulus, hidden=width) if make is Relu else make(modulus=modulus, width=width)
    items, labels = _rows(5, modulus, rows)
    lr, decay = (
        torch.tensor([0.01, 0.01, 0.003, 0.01, 0.02]).double(),
        torch.tensor([0.0, 5.0, 5.0, 0.0, 1.0]).double(),
    )
    rates = [0.0, 0.3, 0.0, 0.6, 0.3]

    def trained(members: list[int]) -> list[Weights]:
        weights = stacked([network.initial(np.random.default_rng(k)) for k in members])
        optimiser = AdamW(network.trained(weights), lr=lr[members], weight_decay=decay[members])
        dropout = dropout_of([rates[k] for k in members], [np.random.default_rng(70 + k) for k in members])
        ensemble = Ensemble(network, weights, optimiser, objective=objective, dropout=dropout)
        batch = network.batch(items[members], labels[members])
        for _ in range(6):
            ensemble.step(batch)
        return [place(weights, index) for index in range(len(members))]

    together = trained([0, 1, 2, 3, 4])
    for member, weights in enumerate(together):
        (alone,) = trained([member])
        for name, values in weights.items():
            assert torch.equal(values, alone[name]), (member, name)


def test_reduced_products_are_near_and_not_the_same() -> None:
    items, labels = _rows(1, 43, 1300)
    exact, reduced = Quadratic(modulus=43, width=215), Quadratic(modulus=43, width=215, products="reduced")
    weights = exact.initial(np.random.default_rng(0))
    first, second = (
        network.slope(weights, network.batch(items, labels), Objective()) for network in (exact, reduced)
    )
    assert math.isclose(float(first.losses), float(second.losses), rel_tol=0.01)
    for name, gradient in first.gradients.items():
        error = torch.linalg.vector_norm(gradient - second.gradients[name]) / torch.linalg.vector_norm(
            gradient
        )
        assert 0 < float(error) < 0.02


def test_dropout_keeps_the_share_it_says_and_the_mean() -> None:
    mask = Dropout([0.3, 0.0, 0.9], [np.random.default_rng(k) for k in range(3)]).fill(
        torch.empty(3, 400, 250), 0
    )
    for part, rate in zip(mask, (0.3, 0.0, 0.9), strict=True):
        assert abs(float((part == 0).double().mean()) - rate) < 4 * math.sqrt(0.25 / 1e5)
        assert sorted(part.unique().tolist()) == pytest.approx(
            sorted({0.0, 1 / (1 - rate)}) if rate else [1.0], rel=1e-4
        )
    assert dropout_of([0.0, 0.0], []) is None


def test_the_last_step_is_looked_back_at() -> None:
    """With a plain gradient step the update is -lr g, so its cosine with -w is that of g and w."""
    network = Quadratic(modulus=P, width=WIDTH)
    items, labels = _rows()
    weights = stacked([network.initial(np.random.default_rng(k)) for k in range(K)])
    weights["table"][1] = 0  # no hidden unit is on: all gradients of this network are 0 but those of nothing
    before = {name: values.clone() for name, values in weights.items()}
    optimiser = SGD(weights, lr=torch.full((K,), 0.1).double(), weight_decay=torch.zeros(K).double())
    ensemble = Ensemble(network, weights, optimiser, objective=Objective())
    assert all(map(math.isnan, ensemble.last_step(0)))
    ensemble.step(network.batch(items, labels))
    for k in (0, 2):
        g, w = (
            torch.cat([part[name][k].flatten() for name in weights]).double()
            for part in (ensemble.gradients, before)
        )
        along, zeros = ensemble.last_step(k)
        assert along == pytest.approx(float(g @ w / (g.norm() * w.norm())), abs=1e-4)
        assert zeros == float((g == 0).double().mean())
    along, zeros = ensemble.last_step(1)
    assert math.isnan(along) and zeros == 1.0


class _Recorder(Network):
    """Counts, and remembers what it was given."""

    classes = vocabulary = P

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor]] = []

    def initial(self, rng: np.random.Generator) -> Weights:
        return {"w": torch.zeros(1, 1)}

    def forward(self, weights: Weights, items: Tensor) -> Tensor:
        self.seen.append(items)
        return (weights["w"] * torch.ones(P))[:, None].expand(*items.shape[:2], P)


def _fitted(network: Network, context: FakeContext, items: Tensor, labels: Tensor) -> None:
    weights = network.initial(np.random.default_rng(0))
    optimiser = SGD(weights, lr=torch.ones(1).double(), weight_decay=torch.zeros(1).double())
    fit(Ensemble(network, weights, optimiser, objective=Objective()), items, labels, [context])


def test_mini_batches_follow_the_stream_and_leave_an_incomplete_last_one_out() -> None:
    network, context = _Recorder(), FakeContext(batch_size=10, epochs=2)
    items, labels = _rows(1)
    _fitted(network, context, items, labels)
    rng = context.stream("batches")
    expected = [
        items[0, order[start : start + 10]]
        for order in (rng.permutation(ROWS) for _ in range(2))
        for start in (0, 10, 20)
    ]
    assert len(network.seen) == 6  # 33 rows give three batches of ten a pass
    assert all(torch.equal(seen[0], wanted) for seen, wanted in zip(network.seen, expected, strict=True))
    assert context.probes == [1, 2, 3, 4, 5, 6]
    assert context.ended == [1, 2]
    assert [(step, total) for step, total, _ in context.steps] == [(step, 6) for step in range(1, 7)]


def test_the_protocol_may_count_gradient_steps_and_a_batch_may_be_all_there_is() -> None:
    network, context = _Recorder(), FakeContext(batch_size=1000, epochs=2, gradient_steps=5)
    items, labels = _rows(1)
    _fitted(network, context, items, labels)
    assert len(network.seen) == 5
    assert all(torch.equal(seen, items) for seen in network.seen)
    assert context.ended == [1, 2, 3, 4, 5]


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    network = Quadratic(modulus=P, width=WIDTH)
    items, labels = _rows(1)
    weights = {name: values * 1e20 for name, values in network.initial(np.random.default_rng(0)).items()}
    optimiser = SGD(weights, lr=torch.ones(1).double(), weight_decay=torch.zeros(1).double())
    with pytest.raises(Diverged, match="in step 1 of 3"):
        fit(
            Ensemble(network, weights, optimiser, objective=Objective()),
            items,
            labels,
            [FakeContext(batch_size=100, epochs=3)],
        )


def test_tiny_numbers_are_flushed_inside_only() -> None:
    tiny = torch.full((8,), 1e-39)
    assert bool((tiny * 0.5 > 0).all())
    with flushing():
        assert bool((tiny * 0.5 == 0).all())
        with flushing():
            pass
        assert bool((tiny * 0.5 == 0).all())
    assert bool((tiny * 0.5 > 0).all())
