"""Cauchy-Schwarz information by loops and closed forms, and what its bottleneck adds to a loss."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from component_steps import learner_with
from noisy_problem import noisy_stage
from torch import Tensor

from strategies.components.cs_ib import information, kernel, normalised_information
from strategies.ood_scores import Seen
from strategies.toolkit.training.loop import Batch


def _drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_kernel_by_loops() -> None:
    items = _drawn(6, 3).numpy()
    distances = np.array([[((one - other) ** 2).sum() for other in items] for one in items])
    # torch's median of an even number of pairs is the lower of the two in the middle; of 15 it is the middle one
    middle = np.median([distances[i, j] for i, j in itertools.combinations(range(6), 2)])
    found = kernel(torch.from_numpy(items), 0.7)
    np.testing.assert_allclose(found, np.exp(-distances / (2 * 0.49 * middle)), atol=1e-12)


def test_information_by_loops() -> None:
    k, other = (kernel(_drawn(7, 3, seed=seed), 1.0).numpy() for seed in range(2))
    joint = sum(k[i, j] * other[i, j] for i in range(7) for j in range(7)) / 49
    product = k.sum() / 49 * other.sum() / 49
    across = sum(k[i].sum() / 7 * other[i].sum() / 7 for i in range(7)) / 7
    found = float(information(torch.from_numpy(k), torch.from_numpy(other)))
    assert found == pytest.approx(math.log(joint * product / across**2), rel=1e-12)
    assert found > 0


def test_equal_classes_tell_their_logarithm_and_a_grid_tells_nothing() -> None:
    """Kernels of 0 and 1 of C equal classes have means 1 / C, by row too: log(1/C / C^2 C^2 ...) = log C."""
    for classes in (2, 5):
        labels = torch.arange(classes).repeat(3)
        same = (labels[:, None] == labels).double()
        assert float(information(same, same)) == pytest.approx(math.log(classes), rel=1e-12)
        assert float(information(same, torch.ones_like(same))) == pytest.approx(0, abs=1e-12)
    first, second = _drawn(4, 2), _drawn(3, 2, seed=1)
    grid = list(itertools.product(range(4), range(3)))
    k, other = (
        kernel(points[[pair[place] for pair in grid]], 1.0) for place, points in enumerate((first, second))
    )
    assert float(information(k, other)) == pytest.approx(0, abs=1e-12)


def test_scale_turns_and_order_do_not_matter_and_what_is_its_own_counts_one() -> None:
    inputs, features = _drawn(12, 4), _drawn(12, 3, seed=1)
    k, other = kernel(inputs, 1.0), kernel(features, 1.0)
    value = normalised_information(k, other)
    turned = 7 * features @ torch.linalg.qr(_drawn(3, 3, seed=2)).Q + 0.5
    torch.testing.assert_close(normalised_information(k, kernel(turned, 1.0)), value)
    rows = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(normalised_information(k[rows][:, rows], other[rows][:, rows]), value)
    torch.testing.assert_close(normalised_information(other, k), value)
    assert float(normalised_information(k, k)) == pytest.approx(1, rel=1e-12)


def test_descent_makes_features_tell_less_of_the_inputs() -> None:
    inputs = _drawn(30, 3)
    features = (inputs + 0.3 * _drawn(30, 3, seed=1)).requires_grad_()
    of_inputs = kernel(inputs, 1.0)
    start = float(normalised_information(of_inputs, kernel(features, 1.0)).detach())
    for _ in range(60):
        (slope,) = torch.autograd.grad(normalised_information(of_inputs, kernel(features, 1.0)), features)
        with torch.no_grad():
            features -= 5 * slope
    assert float(normalised_information(of_inputs, kernel(features, 1.0)).detach()) < 0.6 * start


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("distinct", [1, 2])
def test_features_that_have_collapsed_give_finite_gradients(dtype: torch.dtype, distinct: int) -> None:
    inputs = _drawn(12, 4).to(dtype)
    features = (
        _drawn(distinct, 3, seed=1).to(dtype)[torch.arange(12).clamp_max(distinct - 1)].requires_grad_()
    )
    value = normalised_information(kernel(inputs, 1.0), kernel(features, 1.0))
    (slope,) = torch.autograd.grad(value, features)
    assert value.isfinite()
    assert slope.isfinite().all()


def test_the_term_is_beta_times_the_information_of_the_batch_and_nothing_without_it() -> None:
    network = learner_with("cs-ib[beta=0.3,width=2]").models[0].grow(noisy_stage())
    (one,) = network.components.parts.values()
    inputs = torch.rand(6, 5, generator=torch.Generator().manual_seed(0))
    batch = Batch(inputs, torch.tensor([0, 1, 2, 0, 1, 2]), torch.arange(6))
    features = network.backbone(inputs)
    further = Seen(torch.cat([features, features]), network.head(torch.cat([features, features])))
    expected = 0.3 * normalised_information(kernel(inputs, 2.0), kernel(features, 2.0))
    torch.testing.assert_close(one.term(network, batch, further), expected)
    assert one.term(network, batch._replace(inputs=inputs[:2]), further) is None
    none = learner_with("cs-ib[beta=0]").models[0].grow(noisy_stage())
    (nothing,) = none.components.parts.values()
    assert nothing.term(none, batch, further) is None
