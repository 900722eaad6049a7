"""Stacked optimisers against torch.optim, one network at a time, in float64."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from strategies.grokking.optimisers import SGD, AdamW, Muon, Optimiser, orthogonal

SHAPES = {"table": (5, 3), "head": (4, 7), "gain": (6,)}
RATES = torch.tensor([0.01, 0.02, 0.01, 0.3], dtype=torch.float64)
DECAYS = torch.tensor([5.0, 0.0, 15.0, 0.1], dtype=torch.float64)
STEPS = 15


def _tensors(
    seed: int, shapes: dict[str, tuple[int, ...]], dtype: torch.dtype = torch.float64
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(len(RATES), *shape, dtype=dtype, generator=generator)
        for name, shape in shapes.items()
    }


def _stepped(
    make: Callable[..., Optimiser], lr: Tensor, decay: Tensor, shapes: dict[str, tuple[int, ...]] = SHAPES
) -> dict[str, Tensor]:
    weights = _tensors(0, shapes)
    optimiser = make(weights, lr=lr, weight_decay=decay)
    for step in range(STEPS):
        gradients = _tensors(step + 1, shapes)
        kept = {name: gradient.clone() for name, gradient in gradients.items()}
        optimiser.step(weights, gradients)
        assert all(torch.equal(kept[name], gradient) for name, gradient in gradients.items())
    return weights


def _reference(
    make: Callable[..., torch.optim.Optimizer],
    lr: Tensor,
    decay: Tensor,
    network: int,
    shapes: dict[str, tuple[int, ...]] = SHAPES,
) -> dict[str, Tensor]:
    weights = {name: tensor[network].clone().requires_grad_() for name, tensor in _tensors(0, shapes).items()}
    optimiser = make(list(weights.values()), lr=float(lr[network]), weight_decay=float(decay[network]))
    for step in range(STEPS):
        for name, gradient in _tensors(step + 1, shapes).items():
            weights[name].grad = gradient[network]
        optimiser.step()
    return {name: tensor.detach() for name, tensor in weights.items()}


PAIRS: dict[str, tuple[Any, Any]] = {
    "adamw": (AdamW, partial(torch.optim.AdamW, betas=(0.9, 0.98))),
    "adamw eps": (
        partial(AdamW, betas=(0.9, 0.999), eps=1e-2),
        partial(torch.optim.AdamW, betas=(0.9, 0.999), eps=1e-2),
    ),
    "sgd": (SGD, torch.optim.SGD),
    "sgd momentum": (partial(SGD, momentum=0.8), partial(torch.optim.SGD, momentum=0.8)),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("rates", ["alike", "own"])
def test_every_network_moves_as_under_torch(name: str, rates: str) -> None:
    ours, theirs = PAIRS[name]
    lr, decay = (
        (RATES, DECAYS) if rates == "own" else (torch.full_like(RATES, 0.01), torch.full_like(DECAYS, 5.0))
    )
    found = _stepped(ours, lr, decay)
    for network in range(len(lr)):
        for tensor, expected in _reference(theirs, lr, decay, network).items():
            torch.testing.assert_close(found[tensor][network], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", [AdamW, partial(SGD, momentum=0.9), Muon])
def test_a_network_moves_alone_as_among_others(make: Callable[..., Optimiser]) -> None:
    together = _stepped(make, RATES, DECAYS)
    for network in range(len(RATES)):
        one = slice(network, network + 1)
        weights = {name: tensor[one].clone() for name, tensor in _tensors(0, SHAPES).items()}
        optimiser = make(weights, lr=RATES[one], weight_decay=DECAYS[one])
        for step in range(STEPS):
            optimiser.step(
                weights, {name: gradient[one] for name, gradient in _tensors(step + 1, SHAPES).items()}
            )
        for name, tensor in weights.items():
            torch.testing.assert_close(together[name][one], tensor, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", [AdamW, partial(SGD, momentum=0.9), Muon])
@pytest.mark.parametrize("rates", ["alike", "own"])
def test_gradients_may_lie_in_memory_in_any_order(make: Callable[..., Optimiser], rates: str) -> None:
    """torch's fused kernel takes memory as it lies: gradients through a transpose were once applied to the
    wrong weights.
    """
    shape, lr = {"table": (5, 3)}, RATES if rates == "own" else torch.full_like(RATES, 0.01)
    usual, turned, spread = (_tensors(0, shape) for _ in range(3))
    optimisers = [make(weights, lr=lr, weight_decay=DECAYS) for weights in (usual, turned, spread)]
    for step in range(5):
        row = _tensors(step + 1, shape)["table"][:, :1]
        gradient = row.repeat(1, 5, 1)
        lying = (gradient, gradient.mT.contiguous().mT, row.expand(-1, 5, -1))
        for optimiser, weights, tensor in zip(optimisers, (usual, turned, spread), lying, strict=True):
            optimiser.step(weights, {"table": tensor})
    for weights in (turned, spread):
        torch.testing.assert_close(weights["table"], usual["table"], rtol=1e-12, atol=1e-12)


def test_decay_is_decoupled() -> None:
    """Without gradients a step only multiplies by 1 - lr wd: 0.95, 1, 0.85, 0.97."""
    weights = _tensors(0, SHAPES)
    for make in (AdamW, Muon):
        moved = {name: tensor.clone() for name, tensor in weights.items()}
        make(moved, lr=RATES, weight_decay=DECAYS).step(
            moved, {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
        )
        for name, tensor in weights.items():
            factors = torch.tensor([0.95, 1.0, 0.85, 0.97], dtype=torch.float64).view(
                -1, *[1] * (tensor.ndim - 1)
            )
            torch.testing.assert_close(moved[name], tensor * factors)


def test_a_small_epsilon_keeps_steps_alive_where_gradients_are_tiny() -> None:
    """The first step of Adam is lr g / (|g| + eps): nearly lr, or nearly nothing where eps is larger than g."""
    gradients = {"table": torch.full((1, 2, 2), 1e-12)}
    for epsilon, expected in ((1e-25, -0.01), (1e-8, -1e-6)):
        weights = {"table": torch.zeros(1, 2, 2)}
        AdamW(weights, lr=RATES[:1], weight_decay=torch.zeros(1), eps=epsilon).step(weights, gradients)
        torch.testing.assert_close(weights["table"], torch.full((1, 2, 2), expected), rtol=1e-3, atol=0)


# --- Muon ---------------------------------------------------------------------------------------------------


MATRICES = {"tall": (9, 4), "wide": (4, 9), "square": (5, 5)}


def _newton_schulz(matrix: Tensor) -> Tensor:
    """The iteration on the singular values alone: s <- a s + b s^3 + c s^5, from s / sqrt(sum s^2)."""
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    s = s / s.square().sum().sqrt()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ torch.diag(s) @ v


def test_the_orthogonal_factor_is_the_polynomial_of_the_singular_values() -> None:
    for matrices in _tensors(3, MATRICES).values():
        found = orthogonal(matrices)
        for matrix, factor in zip(matrices, found, strict=True):
            torch.testing.assert_close(factor, _newton_schulz(matrix), rtol=1e-9, atol=1e-9)
        singular = torch.linalg.svdvals(found)
        assert 0.3 < float(singular.min()) <= float(singular.max()) < 1.3


def test_a_zero_matrix_stays_zero() -> None:
    assert torch.equal(orthogonal(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("matched", [True, False])
def test_muon_is_momentum_through_the_orthogonal_factor(nesterov: bool, matched: bool) -> None:
    found = _stepped(partial(Muon, nesterov=nesterov, matched=matched), RATES, DECAYS, MATRICES)
    for network in range(len(RATES)):
        for name, tensor in _tensors(0, MATRICES).items():
            weights, average = tensor[network].clone(), torch.zeros(MATRICES[name], dtype=torch.float64)
            rows, columns = MATRICES[name]
            scale = 0.2 * max(rows, columns) ** 0.5 if matched else max(1, rows / columns) ** 0.5
            for step in range(STEPS):
                gradient = _tensors(step + 1, MATRICES)[name][network]
                average = 0.95 * average + 0.05 * gradient
                update = 0.05 * gradient + 0.95 * average if nesterov else average
                weights = (1 - RATES[network] * DECAYS[network]) * weights - RATES[
                    network
                ] * scale * _newton_schulz(update)
            torch.testing.assert_close(found[name][network], weights, rtol=1e-9, atol=1e-9)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
@pytest.mark.parametrize(("matched", "adjusting"), [(False, "original"), (True, "match_rms_adamw")])
def test_muon_moves_as_under_torch_but_for_its_bfloat16(matched: bool, adjusting: str) -> None:
    """torch iterates in bfloat16, 8 bits: its updates are off by some percent, and so is the sum of 15 of
    them.
    """
    decay = torch.zeros_like(DECAYS)
    found = _stepped(partial(Muon, matched=matched), RATES, decay, MATRICES)
    start = _tensors(0, MATRICES)
    for network in range(len(RATES)):
        theirs = partial(torch.optim.Muon, adjust_lr_fn=adjusting)
        for name, expected in _reference(theirs, RATES, decay, network, MATRICES).items():
            way = expected - start[name][network]
            assert float((found[name][network] - expected).norm() / way.norm()) < 0.03


def test_muon_leaves_what_is_no_matrix_to_adamw() -> None:
    found = _stepped(Muon, RATES, DECAYS)
    expected = _stepped(AdamW, RATES, DECAYS)
    assert torch.equal(found["gain"], expected["gain"])
    assert not torch.equal(found["table"], expected["table"])
