"""Starts from generalised Gaussians against scipy's distribution."""

from __future__ import annotations

import pytest
import torch
from componented import networked
from scipy import stats

from strategies.components.gg_start import drawn, width
from strategies.components.modules import layers_of


@pytest.mark.parametrize("nu", [0.5, 1.0, 2.0, 6.0])
def test_draws_follow_the_law_that_scipy_has(nu: float) -> None:
    assert stats.gennorm(nu, scale=width(0.3, nu)).var() == pytest.approx(0.3)
    torch.manual_seed(0)
    draws = drawn(torch.Size([4000]), 0.3, nu).double().numpy()
    assert stats.kstest(draws, stats.gennorm(nu, scale=width(0.3, nu)).cdf).pvalue > 0.01


def test_a_network_keeps_the_variance_of_its_layers_and_its_biases() -> None:
    backbone = "cnn[width=64]"
    plain, heavy = (networked(said, backbone, (1, 8, 8)) for said in ("", "gg-start[nu=0.5]"))
    for before, after in zip(layers_of(plain), layers_of(heavy), strict=True):
        tolerance = 6 * (25.2 / before.weight.numel()) ** 0.5  # kurtosis 25.2 at nu 1/2
        assert float(after.weight.var()) == pytest.approx(float(before.weight.var()), rel=tolerance)
    assert float(stats.kurtosis(layers_of(heavy)[2].weight.detach().flatten())) > 10
    assert plain.head is not None
    assert heavy.head is not None
    assert torch.equal(plain.head.bias, heavy.head.bias)
