"""Stacked losses against autograd in float64, hand values, and the gaps at which a softmax of 16, 32 and 64
bits collapses.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from strategies.grokking.losses import Bits, Loss, collapsed, losses_and_gradient

K, N, C = 3, 5, 7


def _rows(scale: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return scale * torch.randn(K, N, C, dtype=torch.float64, generator=generator), torch.randint(
        C, (K, N), generator=generator
    )


def _squared_error(logits: Tensor, label: int) -> Tensor:
    return (logits - functional.one_hot(torch.tensor(label), C)).square().mean()


def _cross_entropy(logits: Tensor, label: int) -> Tensor:
    return -logits.log_softmax(dim=0)[label]


def _stable(logits: Tensor, label: int) -> Tensor:
    """Softmax of sign(x) log(1 + |x|), the other form in which the paper writes it."""
    return -(logits.sign() * logits.abs().log1p()).log_softmax(dim=0)[label]


SCALAR: dict[Loss, Callable[[Tensor, int], Tensor]] = {
    "mse": _squared_error,
    "cross-entropy": _cross_entropy,
    "stable": _stable,
}


@pytest.mark.parametrize("loss", SCALAR)
def test_losses_and_gradients_are_those_of_automatic_differentiation_row_by_row(loss: Loss) -> None:
    logits, labels = _rows()
    found = losses_and_gradient(logits, labels, loss=loss, precision=64)
    for network in range(K):
        leaf = logits[network].clone().requires_grad_()
        rows = torch.stack(
            [SCALAR[loss](row, int(label)) for row, label in zip(leaf, labels[network], strict=True)]
        )
        (gradient,) = torch.autograd.grad(rows.mean(), leaf)
        torch.testing.assert_close(found.losses[network], rows.detach(), rtol=1e-13, atol=0)
        torch.testing.assert_close(found.gradient[network], gradient, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("loss", SCALAR)
def test_a_network_does_not_depend_on_the_others_and_the_logits_stay_as_they_are(loss: Loss) -> None:
    logits, labels = _rows()
    before = logits.clone()
    together = losses_and_gradient(logits, labels, loss=loss)
    alone = losses_and_gradient(logits[1:2], labels[1:2], loss=loss)
    assert torch.equal(together.losses[1:2], alone.losses)
    assert torch.equal(together.gradient[1:2], alone.gradient)
    assert torch.equal(logits, before)


def test_hand_values() -> None:
    logits, labels = torch.tensor([[[2.0, 0.0, -1.0]]]), torch.tensor([[0]])
    mse = losses_and_gradient(logits, labels, loss="mse")
    assert float(mse.losses) == pytest.approx(2 / 3)  # ((2 - 1)^2 + 0 + 1) / 3
    torch.testing.assert_close(mse.gradient, torch.tensor([[[2 / 3, 0, -2 / 3]]]))
    stable = losses_and_gradient(logits, labels, loss="stable")
    assert float(stable.losses) == pytest.approx(math.log(4.5 / 3))  # s = 3, 1, 1/2
    torch.testing.assert_close(stable.gradient, torch.tensor([[[(2 / 3 - 1) / 3, 2 / 9, 1 / 18]]]))
    entropy = losses_and_gradient(logits, labels, loss="cross-entropy")
    assert float(entropy.losses) == pytest.approx(math.log(1 + math.exp(-2) + math.exp(-3)))


def test_a_network_that_answers_zero_has_the_squared_error_one_over_p() -> None:
    found = losses_and_gradient(torch.zeros(1, 4, 97), torch.arange(4)[None], loss="mse")
    torch.testing.assert_close(found.losses, torch.full((1, 4), 1 / 97, dtype=torch.float64))


@pytest.mark.parametrize(
    ("precision", "seen", "absorbed"), [(16, 7.5, 8.0), (32, 16.5, 17.0), (64, 36.5, 37.0)]
)
def test_the_softmax_collapses_where_its_format_absorbs_the_other_logits(
    precision: Bits, seen: float, absorbed: float
) -> None:
    """Half the distance from 1 to the next number is 2^-11, 2^-24, 2^-53: gaps of 7.62, 16.64 and 36.74
    between two logits.
    """
    logits, labels = (
        torch.tensor([[[seen, 0.0], [absorbed, 0.0], [0.0, absorbed]]], dtype=torch.float64),
        torch.zeros(1, 3).long(),
    )
    losses, gradient = losses_and_gradient(logits, labels, loss="cross-entropy", precision=precision)
    assert losses[0, 0] > 0
    assert gradient[0, 0, 0] < 0
    assert losses[0, 1] == 0
    assert gradient[0, 1, 0] == 0
    assert gradient[0, 1, 1] > 0  # the wrong class is still pushed down
    assert losses[0, 2] == absorbed  # confidently wrong is no collapse
    assert float(gradient[0, 2, 0]) == pytest.approx(-1 / 3, abs=2e-4)
    assert collapsed(logits, labels, precision).tolist() == [[False, True, False]]


def test_gradients_keep_the_dtype_of_the_logits_and_losses_are_double() -> None:
    logits, labels = _rows()
    for loss in SCALAR:
        for precision in (16, 32, 64):
            found = losses_and_gradient(logits.float(), labels, loss=loss, precision=precision)
            assert (found.losses.dtype, found.gradient.dtype) == (torch.float64, torch.float32)


def test_lower_precision_agrees_as_far_as_it_goes() -> None:
    logits, labels = _rows(1.0)
    exact = losses_and_gradient(logits, labels, loss="cross-entropy", precision=64)
    for precision, tolerance in ((16, 4e-3), (32, 5e-7)):
        found = losses_and_gradient(logits, labels, loss="cross-entropy", precision=precision)
        torch.testing.assert_close(found.losses, exact.losses, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(found.gradient, exact.gradient, rtol=tolerance, atol=tolerance)
        assert not torch.equal(found.losses, exact.losses)


def test_zero_loss_is_collapse_for_cross_entropy_and_only_for_it() -> None:
    logits, labels = _rows(40.0)
    labels[0] = logits[0].argmax(dim=-1)
    entropy = losses_and_gradient(logits, labels, loss="cross-entropy", precision=32).losses == 0
    assert torch.equal(entropy, collapsed(logits, labels, 32))
    assert 0 < int(entropy.sum()) < K * N
    assert not (losses_and_gradient(logits, labels, loss="stable").losses == 0).any()


def test_stable_cross_entropy_survives_huge_logits_and_vanishes_only_there() -> None:
    """s(x) = x + 1 has to lead by 2^53 before float64 absorbs the rest."""
    labels = torch.tensor([[0]])
    extreme = losses_and_gradient(torch.tensor([[[3e30, 0.0]]]), labels, loss="stable")
    assert float(extreme.losses) == 0
    assert extreme.gradient.isfinite().all()
    wrong = losses_and_gradient(torch.tensor([[[0.0, 3e30]]]), labels, loss="stable")
    assert float(wrong.losses) == pytest.approx(math.log(3e30))
    assert float(wrong.gradient[0, 0, 0]) == -1
    large = losses_and_gradient(torch.tensor([[[1e15, 0.0]]], dtype=torch.float64), labels, loss="stable")
    assert float(large.losses) == pytest.approx(1e-15, rel=0.2)


@pytest.mark.parametrize("largest", [7e4, 3e30])
def test_half_precision_stays_finite_beyond_its_range(largest: float) -> None:
    logits = torch.tensor([[[largest, 0.0, -largest], [0.0, largest, 1.0], [-largest, -largest, 0.0]]])
    losses, gradient = losses_and_gradient(
        logits, torch.zeros(1, 3).long(), loss="cross-entropy", precision=16
    )
    assert losses.tolist() == [[0.0, 65504.0, 65504.0]]
    assert gradient.isfinite().all()
    assert collapsed(logits, torch.zeros(1, 3).long(), 16).tolist() == [[True, False, False]]


def test_a_tie_is_no_collapse() -> None:
    """Two logits that float16 cannot tell apart share the probability."""
    logits = torch.tensor([[[1000.1, 1000.0, 0.0]]])
    assert collapsed(logits, torch.zeros(1, 1).long(), 16).tolist() == [[False]]
    assert float(
        losses_and_gradient(logits, torch.zeros(1, 1).long(), loss="cross-entropy", precision=16).losses
    ) == pytest.approx(math.log(2), rel=1e-3)
