"""StableAdamW against hand calculation, a loop in double precision and torch's AdamW; its schedule against
the released code's table.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from strategies.anomaly.stable_adamw import StableAdamW, steps_of, warmed_cosine
from strategies.toolkit.training.loop import batch_sizes


def _weights(*shapes: tuple[int, ...]) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in shapes]


def _gradients(weights: list[nn.Parameter], step: int, size: float) -> None:
    generator = torch.Generator().manual_seed(step)
    for weight in weights:
        weight.grad = size * torch.randn(weight.shape, generator=generator, dtype=torch.float64)


def test_the_first_step_by_hand() -> None:
    """m = 0.2, v = 0.004, both divided by what is missing: 2 / (2 + eps), of root mean square 1; decay first."""
    weight = nn.Parameter(torch.tensor([3.0, -1.0], dtype=torch.float64))
    weight.grad = torch.tensor([2.0, -2.0], dtype=torch.float64)
    StableAdamW([weight], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(
        weight.detach(), torch.tensor([3 * 0.95 - 0.1, -0.95 + 0.1], dtype=torch.float64)
    )


def _looped(
    weights: list[Tensor], gradients: list[list[Tensor]], *, lr: float, decay: float, clip: bool
) -> list[float]:
    """Step in place, one tensor after another; return the factors by which steps were divided."""
    factors = []
    moments = [[torch.zeros_like(weight) for _ in range(3)] for weight in weights]
    for step, given in enumerate(gradients, start=1):
        for weight, gradient, (first, second, largest) in zip(weights, given, moments, strict=True):
            weight.copy_(weight - lr * decay * weight)
            first.copy_(0.9 * first + 0.1 * gradient)
            second.copy_(0.999 * second + 0.001 * gradient**2)
            largest.copy_(torch.where(second > largest, second, largest))
            denominator = (largest / (1 - 0.999**step)) ** 0.5 + 1e-10
            factor = max(1.0, float(((gradient / denominator) ** 2).mean()) ** 0.5) if clip else 1.0
            weight.copy_(weight - lr / factor * first / (1 - 0.9**step) / denominator)
            factors.append(factor)
    return factors


@pytest.mark.parametrize("clip", [True, False])
def test_steps_equal_a_loop_over_tensors(clip: bool) -> None:
    """Gradients that grow, stay and fall: clipping bites at some steps and tensors and not at others."""
    weights = _weights((3, 4), (5,), ())
    plain = [weight.detach().clone() for weight in weights]
    optimiser, given = StableAdamW(weights, lr=0.01, weight_decay=0.1, clip=clip), []
    for step, size in enumerate([1.0, 1, 30, 30, 0.1, 0.1, 200]):
        _gradients(weights, step, size)
        given.append([weight.grad.clone() for weight in weights if weight.grad is not None])
        optimiser.step()
    factors = _looped(plain, given, lr=0.01, decay=0.1, clip=clip)
    assert (max(factors) > 2) is clip
    assert min(factors) == 1
    for weight, expected in zip(weights, plain, strict=True):
        torch.testing.assert_close(weight.detach(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("clip", "sizes"), [(False, [1.0, 50, 3, 0.2, 8] * 4), (True, [0.7**step for step in range(20)])]
)
def test_without_clipping_it_is_adamw_with_amsgrad(clip: bool, sizes: list[float]) -> None:
    """Clipping does not bite where gradients only become smaller: |g| stays below the root of its mean square
    so far.
    """
    ours, theirs = _weights((4, 3), (6,)), _weights((4, 3), (6,))
    first = [torch.ones_like(weight) for weight in ours]
    settings = {"lr": 0.02, "betas": (0.9, 0.999), "eps": 1e-10, "weight_decay": 0.1}
    optimisers = StableAdamW(ours, clip=clip, **settings), torch.optim.AdamW(theirs, amsgrad=True, **settings)  # type: ignore[arg-type]
    for size in sizes:
        for weights in (ours, theirs):
            for weight, one in zip(weights, first, strict=True):
                weight.grad = size * one
        for optimiser in optimisers:
            optimiser.step()
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-10, atol=1e-12)


def test_decay_reaches_every_tensor_and_weights_without_gradient_stay() -> None:
    moved, still = _weights((3,), (3,))
    before = moved.detach().clone(), still.detach().clone()
    moved.grad = torch.zeros_like(moved)
    StableAdamW([moved, still], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(moved.detach(), 0.95 * before[0])
    assert torch.equal(still.detach(), before[1])


def test_an_optimiser_continues_from_its_state() -> None:
    kept, restored = _weights((3, 2)), _weights((3, 2))
    first, second = StableAdamW(kept, lr=0.1), StableAdamW(restored, lr=0.1)
    _gradients(kept, 0, 1.0)
    first.step()
    with torch.no_grad():
        restored[0].copy_(kept[0])
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for weights, optimiser in ((kept, first), (restored, second)):
        _gradients(weights, 1, 5.0)
        optimiser.step()
    assert torch.equal(kept[0], restored[0])


def test_a_closure_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="no closure"):
        StableAdamW(_weights((1,))).step(lambda: 0.0)


# --- the schedule -------------------------------------------------------------------------------------------


def test_rates_are_those_of_the_released_code() -> None:
    """The code joins linspace(0, base, 100) and final + (base - final) (1 + cos(pi i / n)) / 2."""
    steps, warmup, base, final = 600, 100, 1e-3, 1e-4
    rest = np.arange(steps - warmup)
    cosine = final + 0.5 * (base - final) * (1 + np.cos(np.pi * rest / len(rest)))
    expected = np.concatenate([np.linspace(0, base, warmup), cosine])
    factor = warmed_cosine(steps=steps, warmup=warmup, floor=final / base)
    assert [base * factor(step / steps) for step in range(steps)] == pytest.approx(
        expected.tolist(), abs=1e-15
    )


@pytest.mark.parametrize(("steps", "expected"), [(1, [1.0]), (2, [0.0, 1.0]), (4, [0.0, 1.0, 1.0, 0.55])])
def test_a_warm_up_longer_than_half_of_the_run_is_cut_to_half(steps: int, expected: list[float]) -> None:
    factor = warmed_cosine(steps=steps, warmup=100, floor=0.1)
    assert [factor(step / steps) for step in range(steps)] == pytest.approx(expected)


def test_without_warm_up_the_rate_starts_at_its_full_height() -> None:
    factor = warmed_cosine(steps=10, warmup=0, floor=0.1)
    assert factor(0.0) == 1.0
    assert factor(0.5) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2)))


def test_steps_are_counted_as_the_training_loop_takes_them() -> None:
    for items in range(1, 40):
        for batch_size in (1, 2, 3, 8, 16):
            batches = len(batch_sizes(items, batch_size))
            assert steps_of(items, epochs=3, gradient_steps=0, batch_size=batch_size) == 3 * batches
    assert steps_of(5, epochs=3, gradient_steps=77, batch_size=2) == 77
