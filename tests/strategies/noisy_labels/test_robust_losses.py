"""Robust losses against their formulas in terms of probabilities, their limits and invariances, and the
strategies that minimise them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from noisy_problem import learned
from torch import Tensor

from harness.errors import UserError
from strategies.toolkit.losses import robust as losses

P = np.array([[0.2, 0.3, 0.5], [0.7, 0.1, 0.2], [0.05, 0.9, 0.05], [0.3, 0.3, 0.4]])
Y = np.array([0, 0, 2, 1])
OWN = P[np.arange(4), Y]
ONEHOT = np.eye(3)[Y]
CE = -np.log(OWN)
LABELS = torch.from_numpy(Y)


def _logits(*, gradient: bool = False) -> Tensor:
    """Logits whose softmax is P, each row shifted by another amount."""
    return torch.from_numpy(np.log(P) + np.array([[0.0], [3.0], [-7.0], [40.0]])).requires_grad_(gradient)


def _comp_sum(tau: float) -> Any:
    u = 1 / OWN - 1
    return np.log(1 + u) if tau == 1 else ((1 + u) ** (1 - tau) - 1) / (1 - tau)


FORMULAS: list[tuple[str, np.ndarray]] = [
    ("cross-entropy", CE),
    ("label-smoothing", 0.9 * CE + 0.1 * -np.log(P).mean(axis=1)),
    ("label-smoothing[smoothing=0.3]", 0.7 * CE + 0.3 * -np.log(P).mean(axis=1)),
    ("bootstrapping", 0.95 * CE - 0.05 * (P * np.log(P)).sum(axis=1)),
    ("bootstrapping[trust=0.6,detach=false]", 0.6 * CE - 0.4 * (P * np.log(P)).sum(axis=1)),
    ("bootstrapping[trust=0.8,hard=true]", 0.8 * CE - 0.2 * np.log(P.max(axis=1))),
    ("gce", (1 - OWN**0.7) / 0.7),
    ("gce[q=1]", 1 - OWN),
    ("gce[q=1e-9]", CE),
    ("sce", 0.1 * CE + 9.210340372 * (1 - OWN)),
    ("sce[alpha=6,beta=0.1]", 6 * CE - 0.1 * (P * np.log(np.maximum(ONEHOT, 1e-4))).sum(axis=1)),
    ("sce[alpha=0,beta=2,floor=0.01]", -2 * (P * np.log(np.maximum(ONEHOT, 0.01))).sum(axis=1)),
    ("comp-sum", CE),
    ("comp-sum[tau=0]", 1 / OWN - 1),
    ("comp-sum[tau=0.5]", _comp_sum(0.5)),
    ("comp-sum[tau=1.000000001]", CE),
    ("comp-sum[tau=1.5]", (1 - OWN**0.5) / 0.5),
    ("comp-sum[tau=2]", 1 - OWN),
]


@pytest.mark.parametrize(("text", "expected"), FORMULAS, ids=[text for text, _ in FORMULAS])
def test_losses_are_their_formulas_in_the_probabilities(text: str, expected: np.ndarray) -> None:
    np.testing.assert_allclose(losses.loss_of(text)(_logits(), LABELS).numpy(), expected, rtol=1e-7)


def test_sum_exponential_is_the_sum_over_the_other_classes() -> None:
    logits = _logits()
    expected = [
        sum(math.exp(row[k] - row[y]) for k in range(3) if k != y)
        for row, y in zip(logits.tolist(), Y, strict=True)
    ]
    np.testing.assert_allclose(losses.comp_sum(logits, LABELS, tau=0.0).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("q", [0.2, 0.7, 1.0])
def test_comp_sum_above_one_is_generalised_cross_entropy(q: float) -> None:
    torch.testing.assert_close(
        losses.comp_sum(_logits(), LABELS, tau=1 + q),
        losses.generalised_cross_entropy(_logits(), LABELS, q=q),
        rtol=1e-12,
        atol=0,
    )


def test_soft_cross_entropy_takes_any_target() -> None:
    targets = np.array([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7], [0.0, 0.0, 1.0], [1 / 3] * 3])
    value = losses.soft_cross_entropy(_logits(), torch.from_numpy(targets))
    np.testing.assert_allclose(value.numpy(), -(targets * np.log(P)).sum(axis=1), rtol=1e-12)
    onehot = losses.soft_cross_entropy(_logits(), torch.from_numpy(ONEHOT))
    np.testing.assert_allclose(onehot.numpy(), CE, rtol=1e-12)


# --- what pulls how hard ------------------------------------------------------------------------------------

_AWAY = P - ONEHOT
_ENTROPY = -(P * np.log(P)).sum(axis=1, keepdims=True)
GRADIENTS: list[tuple[str, np.ndarray]] = [
    ("cross-entropy", _AWAY),
    ("label-smoothing", P - (0.9 * ONEHOT + 0.1 / 3)),
    ("bootstrapping[trust=0.8]", 0.8 * _AWAY),  # a constant target equal to p pulls nowhere
    ("bootstrapping[trust=0.8,detach=false]", 0.8 * _AWAY - 0.2 * P * (np.log(P) + _ENTROPY)),
    ("bootstrapping[trust=0.8,hard=true]", 0.8 * _AWAY + 0.2 * (P - np.eye(3)[P.argmax(axis=1)])),
    ("gce[q=0.7]", OWN[:, None] ** 0.7 * _AWAY),
    ("gce[q=1]", OWN[:, None] * _AWAY),
    ("sce[alpha=0.5,beta=2]", (0.5 - 2 * math.log(1e-4) * OWN[:, None]) * _AWAY),
    ("comp-sum[tau=0]", _AWAY / OWN[:, None]),
    ("comp-sum[tau=1.5]", OWN[:, None] ** 0.5 * _AWAY),
]


@pytest.mark.parametrize(("text", "expected"), GRADIENTS, ids=[text for text, _ in GRADIENTS])
def test_gradients_are_those_of_cross_entropy_weighed_by_trust(text: str, expected: np.ndarray) -> None:
    logits = _logits(gradient=True)
    (gradient,) = torch.autograd.grad(losses.loss_of(text)(logits, LABELS).sum(), logits)
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("size", [0.0, 100.0, 1e4])
@pytest.mark.parametrize(
    "text",
    [
        *losses.LOSSES,
        "bootstrapping[detach=false]",
        "bootstrapping[hard=true]",
        "comp-sum[tau=1.5]",
        "gce[q=1]",
    ],
)
def test_values_and_gradients_stay_finite_at_extreme_logits(text: str, size: float) -> None:
    logits = (size * torch.tensor([[1.0, -1, 0], [-1, 1, 1], [0, 0, 0]])).requires_grad_()
    value = losses.loss_of(text)(logits, torch.tensor([1, 0, 2]))
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert value.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("correct", [losses.forward_corrected, losses.backward_corrected])
def test_corrected_losses_stay_finite_at_extreme_logits(correct: Any) -> None:
    logits = torch.tensor([[1e4, -1e4, 0], [-1e4, 1e4, 1e4]], requires_grad=True)
    value = correct(
        logits, torch.tensor([1, 0]), torch.tensor([[0.7, 0.3, 0.0], [0.3, 0.7, 0.0], [0.0, 0.0, 1.0]])
    )
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert value.isfinite().all()
    assert gradient.isfinite().all()


# --- Z-loss -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b"), [(1.0, 2.0), (3.0, -0.5), (0.1, 10.0)])
def test_z_loss_is_a_logistic_loss_of_the_standard_score(a: float, b: float) -> None:
    scores = _logits().numpy()
    z = (scores - scores.mean(axis=1, keepdims=True)) / scores.std(axis=1, keepdims=True)
    expected = np.log1p(np.exp(a * (b - z[np.arange(4), Y]))) / a
    np.testing.assert_allclose(
        losses.z_loss(_logits(), LABELS, a=a, b=b, epsilon=0.0).numpy(), expected, rtol=1e-9
    )


def test_z_loss_by_hand() -> None:
    """Scores 1, 2, 3 have variance 2/3; the third lies sqrt(3/2) deviations above the mean, the second none."""
    value = losses.z_loss(
        torch.tensor([[1.0, 2, 3]] * 2, dtype=torch.float64), torch.tensor([2, 1]), a=2.0, b=1.0, epsilon=0.0
    )
    assert value.tolist() == pytest.approx(
        [math.log(1 + math.exp(2 * (1 - math.sqrt(1.5)))) / 2, math.log(1 + math.exp(2)) / 2]
    )


def test_z_loss_ignores_shift_and_scale_and_its_score_ends_at_root_k_minus_one() -> None:
    value = losses.z_loss(_logits(), LABELS, epsilon=0.0)
    torch.testing.assert_close(losses.z_loss(5 * _logits() - 3, LABELS, epsilon=0.0), value)
    torch.testing.assert_close(losses.z_loss(5 * _logits() - 3, LABELS), value, rtol=1e-4, atol=0)
    best = losses.z_loss(torch.eye(10, dtype=torch.float64)[:1], torch.tensor([0]), a=1.0, b=3.0, epsilon=0.0)
    assert float(best) == pytest.approx(math.log(2)), "b - z = 3 - sqrt(9)"


def test_z_loss_of_equal_scores_is_that_of_an_average_score() -> None:
    assert float(losses.z_loss(torch.full((1, 4), 7.0), torch.tensor([2]), a=2.0, b=1.0)) == pytest.approx(
        math.log(1 + math.exp(2)) / 2
    )


# --- correction by a transition matrix ----------------------------------------------------------------------

T = np.array([[0.6, 0.3, 0.1], [0.0, 0.8, 0.2], [0.25, 0.25, 0.5]])
MATRIX = torch.from_numpy(T)


def test_forward_correction_is_cross_entropy_of_the_corrupted_prediction() -> None:
    np.testing.assert_allclose(
        losses.forward_corrected(_logits(), LABELS, MATRIX).numpy(),
        -np.log((P @ T)[np.arange(4), Y]),
        rtol=1e-9,
    )


def test_backward_correction_multiplies_losses_by_the_inverse() -> None:
    expected = (np.linalg.inv(T) @ -np.log(P).T)[Y, np.arange(4)]
    np.testing.assert_allclose(
        losses.backward_corrected(_logits(), LABELS, MATRIX).numpy(), expected, rtol=1e-9
    )
    assert expected.min() < 0, "it can be negative"


@pytest.mark.parametrize("true", [0, 1, 2])
def test_backward_correction_is_unbiased(true: int) -> None:
    """Mean over labels drawn from T[true]: the loss of the true label."""
    each = [losses.backward_corrected(_logits(), torch.full((4,), label), MATRIX) for label in range(3)]
    expected = torch.stack([T[true, label] * each[label] for label in range(3)]).sum(dim=0)
    np.testing.assert_allclose(expected.numpy(), -np.log(P[:, true]), rtol=1e-9)


def test_forward_correction_is_least_at_the_true_distribution() -> None:
    """With labels drawn from P T, the expected loss has no slope where the network predicts P."""
    logits = _logits(gradient=True)
    drawn = torch.from_numpy(P @ T)
    each = torch.stack(
        [losses.forward_corrected(logits, torch.full((4,), label), MATRIX) for label in range(3)], dim=1
    )
    (gradient,) = torch.autograd.grad((drawn * each).sum(), logits)
    np.testing.assert_allclose(gradient.numpy(), 0, atol=1e-12)


@pytest.mark.parametrize("correct", [losses.forward_corrected, losses.backward_corrected])
def test_without_confusion_corrected_losses_are_cross_entropy(correct: Any) -> None:
    np.testing.assert_allclose(
        correct(_logits(), LABELS, torch.eye(3, dtype=torch.float64)).numpy(), CE, rtol=1e-9
    )


def test_a_matrix_without_inverse_is_refused() -> None:
    with pytest.raises(UserError, match="that can be inverted"):
        losses.backward_corrected(_logits(), LABELS, torch.full((3, 3), 1 / 3, dtype=torch.float64))


# --- by name ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gec", r"unknown loss 'gec'; did you mean 'gce'\?"),
        ("gce[p=0.7]", "unknown parameter of loss gce 'p'"),
        ("sce[alfa=1]", "did you mean 'alpha'"),
        ("gce[labels=1]", "unknown parameter of loss gce 'labels'"),
        ("gce[q=[0.1, 0.2]]", "2 alternatives where one is needed"),
    ],
)
def test_an_unknown_loss_or_parameter_is_refused_with_the_nearest_name(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        losses.loss_of(text)


@pytest.mark.parametrize("name", ["cross-entropy", "elr", "co-teaching"])
def test_strategies_refuse_an_unknown_loss_before_they_train(name: str) -> None:
    with pytest.raises(UserError, match="did you mean 'gce'"):
        learned(name, stages=0, loss="gec")


@pytest.mark.parametrize(
    ("strategy", "values", "text"),
    [
        ("label-smoothing", {"smoothing": 0.2}, "label-smoothing[smoothing=0.2]"),
        ("bootstrapping", {"trust": 0.7}, "bootstrapping[trust=0.7]"),
        ("bootstrapping", {"hard": True}, "bootstrapping[trust=0.8,hard=true]"),
        ("bootstrapping", {"detach": False}, "bootstrapping[trust=0.8,detach=false]"),
        ("gce", {"q": 0.4}, "gce[q=0.4]"),
        ("sce", {"alpha": 0.3, "beta": 0.7}, "sce[alpha=0.3,beta=0.7]"),
        ("z-loss", {"a": 2.0, "b": 1.0}, "z-loss[a=2,b=1]"),
        ("comp-sum", {"tau": 0.5}, "comp-sum[tau=0.5]"),
    ],
)
def test_a_strategy_minimises_the_loss_of_its_name(strategy: str, values: dict[str, Any], text: str) -> None:
    named, general = learned(strategy, **values), learned("cross-entropy", loss=text)
    assert torch.equal(named.weights, general.weights)
    assert not torch.equal(named.weights, learned("cross-entropy").weights)


# --- sharpening ---------------------------------------------------------------------------------------------


def test_sharpened_by_hand() -> None:
    given = torch.tensor([[0.8, 0.2], [0.5, 0.5], [1.0, 0.0]], dtype=torch.float64)
    np.testing.assert_allclose(
        losses.sharpened(given, 0.5).numpy(),
        np.array([[0.64 / 0.68, 0.04 / 0.68], [0.5, 0.5], [1, 0]]),
        rtol=1e-12,
    )
    np.testing.assert_allclose(losses.sharpened(given, 1.0).numpy(), given.numpy(), rtol=1e-12)
