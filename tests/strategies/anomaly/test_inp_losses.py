"""INP-Former's losses against loops in double precision, the released code's hook, and hand calculation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from strategies.anomaly.inp_losses import (
    Normaliser,
    coherence_loss,
    cosine_map,
    mining_weights,
    nearest,
    prototype_distances,
    soft_mining_loss,
)


def _drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _cosine(first: Tensor, second: Tensor) -> float:
    return float(first @ second) / math.sqrt(float(first @ first) * float(second @ second))


# --- coherence ----------------------------------------------------------------------------------------------


def test_coherence_is_the_mean_distance_from_the_nearest_prototype() -> None:
    tokens, prototypes = _drawn(3, 5, 4), _drawn(3, 2, 4, seed=1)
    distances = [
        min(1 - _cosine(tokens[b, n], prototypes[b, m]) for m in range(2)) for b in range(3) for n in range(5)
    ]
    assert float(coherence_loss(tokens, prototypes)) == pytest.approx(sum(distances) / 15, abs=1e-12)


def test_prototypes_shared_by_all_images_may_have_one_row() -> None:
    tokens, prototypes = _drawn(3, 5, 4), _drawn(1, 2, 4, seed=1)
    torch.testing.assert_close(
        prototype_distances(tokens, prototypes), prototype_distances(tokens, prototypes.expand(3, -1, -1))
    )


def test_the_minimum_teaches_nearest_prototypes_alone_and_a_soft_one_all() -> None:
    tokens = torch.tensor([[[1.0, 0.1], [1.0, -0.2]]], requires_grad=True)
    for softness, learns in ((0.0, False), (0.5, True)):
        prototypes = torch.tensor([[[2.0, 0.0], [-1.0, 3.0]]], requires_grad=True)
        coherence_loss(tokens, prototypes, softness=softness).backward()
        assert prototypes.grad is not None
        assert bool(prototypes.grad[0, 0].any())
        assert bool(prototypes.grad[0, 1].any()) is learns
    assert tokens.grad is None


def test_a_soft_minimum_by_hand_and_in_its_limit() -> None:
    distances = torch.tensor([0.2, 0.6], dtype=torch.float64)
    share = 1 / (1 + math.exp(-0.4 / 0.5))
    assert float(nearest(distances, softness=0.5)) == pytest.approx(
        0.2 * share + 0.6 * (1 - share), abs=1e-12
    )
    assert float(nearest(distances, softness=1e-3)) == pytest.approx(0.2, abs=1e-12)
    assert float(nearest(distances)) == 0.2


# --- soft mining --------------------------------------------------------------------------------------------


def test_mining_weights_by_hand() -> None:
    errors = torch.tensor([[1.0, 3.0], [0.5, 1.5]])
    torch.testing.assert_close(mining_weights(errors, gamma=3), (errors / 1.5) ** 3)
    torch.testing.assert_close(
        mining_weights(errors, gamma=2, normaliser="image"), torch.tensor([[0.25, 2.25], [0.25, 2.25]])
    )
    torch.testing.assert_close(mining_weights(errors, gamma=0), torch.ones(2, 2))
    torch.testing.assert_close(mining_weights(torch.zeros(2, 2), gamma=3), torch.ones(2, 2))


def test_a_token_of_four_times_the_mean_error_counts_64_fold() -> None:
    errors = torch.tensor([[4.0, *[0.75] * 12]])
    assert float(errors.mean()) == 1.0
    assert float(mining_weights(errors, gamma=3)[0, 0]) == 64.0


@pytest.mark.parametrize("gamma", [1.0, 2.0, 3.0])
def test_weights_have_a_mean_of_at_least_one(gamma: float) -> None:
    """Jensen's inequality: mining raises the gradient as a whole."""
    for seed in range(20):
        assert float(mining_weights(_drawn(4, 9, seed=seed).abs(), gamma=gamma).mean()) >= 1 - 1e-12


def _looped(targets: Sequence[Tensor], rebuilt: Sequence[Tensor]) -> Tensor:
    """Return the loss's value from its definition, image by image."""
    losses = [
        1 - torch.cosine_similarity(e.flatten(), d.flatten(), dim=0, eps=0.0)
        for target, own in zip(targets, rebuilt, strict=True)
        for e, d in zip(target, own, strict=True)
    ]
    return torch.stack(losses).mean()


def _looped_weights(target: Tensor, rebuilt: Tensor, gamma: float, normaliser: Normaliser) -> Tensor:
    images, patches = target.shape[:2]
    errors = [[1 - _cosine(target[b, p], rebuilt[b, p]) for p in range(patches)] for b in range(images)]
    whole = sum(sum(row) for row in errors) / (images * patches)
    means = [whole if normaliser == "batch" else sum(row) / patches for row in errors]
    return torch.tensor(
        [[(each / mean) ** gamma for each in row] for row, mean in zip(errors, means, strict=True)],
        dtype=torch.float64,
    )


@pytest.mark.parametrize("normaliser", ["batch", "image"])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 3.0])
def test_value_is_plain_and_the_gradient_weighted_as_by_a_hook(gamma: float, normaliser: Normaliser) -> None:
    targets = [_drawn(3, 4, 5, seed=seed) for seed in (0, 1)]
    ours, hooked, detached = (
        [_drawn(3, 4, 5, seed=seed).requires_grad_() for seed in (2, 3)] for _ in range(3)
    )
    weights = [_looped_weights(e, d.detach(), gamma, normaliser) for e, d in zip(targets, ours, strict=True)]

    value = soft_mining_loss(targets, ours, gamma=gamma, normaliser=normaliser)
    value.backward()
    for own, weight in zip(hooked, weights, strict=True):
        own.register_hook(lambda gradient, weight=weight: gradient * weight[..., None])
    by_hook = _looped(targets, hooked)
    by_hook.backward()
    held = [d.detach() + w[..., None] * (d - d.detach()) for d, w in zip(detached, weights, strict=True)]
    _looped(targets, held).backward()

    torch.testing.assert_close(value, by_hook)
    for own, other, third in zip(ours, hooked, detached, strict=True):
        torch.testing.assert_close(own.grad, other.grad)
        torch.testing.assert_close(own.grad, third.grad)


def test_without_mining_the_gradient_is_that_of_the_value() -> None:
    targets = [_drawn(2, 3, 4)]
    rebuilt = _drawn(2, 3, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda own: soft_mining_loss(targets, [own], gamma=0.0), (rebuilt,))


def test_a_gradient_from_above_is_passed_on() -> None:
    targets, slopes = [_drawn(2, 3, 4)], []
    for factor in (1.0, 0.3):
        rebuilt = _drawn(2, 3, 4, seed=1).requires_grad_()
        (factor * soft_mining_loss(targets, [rebuilt], gamma=3.0)).backward()
        assert rebuilt.grad is not None
        slopes.append(rebuilt.grad)
    torch.testing.assert_close(slopes[1], 0.3 * slopes[0])


def test_what_is_rebuilt_exactly_costs_nothing_and_breaks_nothing() -> None:
    target = _drawn(2, 3, 4).float()
    for rebuilt in (2 * target, torch.zeros_like(target)):
        own = rebuilt.clone().requires_grad_()
        loss = soft_mining_loss([target], [own], gamma=3.0)
        loss.backward()
        assert own.grad is not None
        assert bool(torch.isfinite(own.grad).all())
        assert float(loss.detach()) == pytest.approx(float(not rebuilt.any()), abs=1e-6)


def test_decoders_in_half_precision_are_compared_in_full() -> None:
    target, rebuilt = _drawn(2, 3, 4).float(), _drawn(2, 3, 4, seed=1).bfloat16().requires_grad_()
    loss = soft_mining_loss([target], [rebuilt], gamma=3.0)
    loss.backward()
    assert loss.dtype == torch.float32
    assert rebuilt.grad is not None
    assert rebuilt.grad.dtype == torch.bfloat16


# --- the map ------------------------------------------------------------------------------------------------


def test_the_map_is_the_mean_over_groups_of_one_minus_the_cosine() -> None:
    """First group: same direction, right angle, opposite; second: same, same, right angle."""
    target = torch.tensor([[[1.0, 0], [1, 0], [1, 0]]])
    first, second = torch.tensor([[[5.0, 0], [0, 2], [-1, 0]]]), torch.tensor([[[1.0, 0], [3, 0], [0, 1]]])
    torch.testing.assert_close(cosine_map([target, target], [first, second]), torch.tensor([[0.0, 0.5, 1.5]]))
