"""The terms of MSBReg by loops and closed forms, what they do to free embeddings, and its running mean of a network."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from fakes import FakeContext
from torch import Tensor
from torch.nn.functional import normalize

from harness.errors import UserError
from harness.plugins import find
from harness.selection import recorded, single
from strategies.toolkit.augmentations import generator_of
from strategies.toolkit.discovery.msbreg import MSBReg, brownian, centroid, projection_loss_of, singular
from strategies.toolkit.discovery.network import DiscoveryNetwork

VIEWS, ITEMS, SIZE = 3, 5, 4


def _drawn(*shape: int, seed: int = 0) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, generator=draws, dtype=torch.float64), dim=-1)


def test_the_centroid_term_by_loops() -> None:
    z, target = _drawn(VIEWS, ITEMS, SIZE).numpy(), _drawn(VIEWS, ITEMS, SIZE, seed=1).numpy()
    total = 0.0
    for item in range(ITEMS):
        ours, theirs = z[:, item].mean(axis=0), target[:, item].mean(axis=0)
        total += 1 - ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)
    found = float(centroid(torch.from_numpy(z), torch.from_numpy(target)))
    assert found == pytest.approx(total / ITEMS, rel=1e-12)
    assert float(centroid(torch.from_numpy(z), torch.from_numpy(z))) == pytest.approx(0, abs=1e-12)


def test_the_singular_term_is_a_sum_over_the_spectrum_of_the_covariance() -> None:
    """The eigenvalues of the covariance are squares of these singular values."""
    z = _drawn(12, SIZE)
    eigenvalues = np.linalg.eigvalsh(np.cov(z.numpy().T, bias=True))
    assert float(singular(z)) == pytest.approx(((np.sqrt(eigenvalues) - SIZE**-0.5) ** 2).sum(), rel=1e-9)


def test_a_flat_spectrum_costs_nothing_and_a_single_point_costs_one() -> None:
    """+- unit vectors: mean 0, covariance I / d. One point: d values of 0, d (1 / sqrt d)^2."""
    axes = torch.cat([torch.eye(SIZE), -torch.eye(SIZE)]).double()
    assert float(singular(axes)) == pytest.approx(0, abs=1e-12)
    assert float(singular(axes[:1].repeat(9, 1))) == pytest.approx(1, abs=1e-9)
    turned = axes @ torch.linalg.qr(_drawn(SIZE, SIZE)).Q
    assert float(singular(turned)) == pytest.approx(0, abs=1e-12)


def test_the_brownian_term_pushes_all_views_of_an_item_one_way() -> None:
    z, directions = _drawn(VIEWS, ITEMS, SIZE).requires_grad_(), _drawn(ITEMS, SIZE, seed=2)
    value = brownian(z, directions)
    by_hand = sum(float(z[v, b] @ directions[b]) for v in range(VIEWS) for b in range(ITEMS))
    assert float(value) == pytest.approx(by_hand / VIEWS / ITEMS, rel=1e-12)
    (slope,) = torch.autograd.grad(value, z)
    torch.testing.assert_close(slope, (directions / VIEWS / ITEMS).expand_as(z))


def test_collapsed_embeddings_are_spread_by_the_singular_term_alone() -> None:
    free = (
        torch.ones(40, SIZE) + 0.05 * torch.randn(40, SIZE, generator=torch.Generator().manual_seed(0))
    ).double()
    free.requires_grad_()
    start = float(singular(normalize(free, dim=1)).detach())
    for _ in range(200):
        (slope,) = torch.autograd.grad(singular(normalize(free, dim=1)), free)
        with torch.no_grad():
            free -= 5 * slope
    assert start > 0.8
    assert float(singular(normalize(free, dim=1)).detach()) < 0.01


def _network() -> DiscoveryNetwork:
    context = FakeContext(backbone="mlp[width=16,depth=2]")
    return DiscoveryNetwork(context, width=8, out=4).build((5,), 3)


def test_the_loss_is_the_weighted_sum_against_a_running_mean() -> None:
    network, context = _network(), FakeContext()
    loss = MSBReg(centroid=2.0, singular=3.0, brownian=5.0, momentum=0.75).of(
        network, network.projector, context
    )
    hidden = network.hidden(torch.rand(6, 5, generator=torch.Generator().manual_seed(0)))
    generator = generator_of(context, "brownian")
    old = [weight.detach().clone() for weight in network.projector.parameters()]
    for step in range(2):
        with torch.no_grad():
            for weight in network.projector.parameters():
                weight += 0.1 * (step + 1)
        now = [weight.detach().clone() for weight in network.projector.parameters()]
        old = [0.75 * kept + 0.25 * weight for kept, weight in zip(old, now, strict=True)]
        projections = network.projector(network.features(hidden))
        found = float(loss(hidden, projections).detach())
        with torch.no_grad():
            for weight, kept in zip(network.projector.parameters(), old, strict=True):
                weight.copy_(kept)
            target = normalize(network.projector(network.features(hidden)), dim=1)
            for weight, own in zip(network.projector.parameters(), now, strict=True):
                weight.copy_(own)
        z = normalize(projections.detach(), dim=1)
        views = torch.stack([z[:3], z[3:]])
        directions = normalize(torch.randn(3, 4, generator=generator), dim=1)
        by_hand = 2 * centroid(views, torch.stack([target[:3], target[3:]])) + 3 * singular(z)
        assert found == pytest.approx(float(by_hand + 5 * brownian(views, directions)), rel=1e-4)


def test_its_gradient_reaches_the_network_and_not_the_mean() -> None:
    network = _network()
    loss = MSBReg().of(network, network.projector, FakeContext())
    hidden = network.hidden(torch.rand(6, 5))
    loss(hidden, network.projector(network.features(hidden))).backward()
    assert all(
        weight.grad is not None and math.isfinite(float(weight.grad.sum()))
        for weight in [*network.parts.parameters(), *network.projector.parameters()]
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("msbreg[centriod=1]", "did you mean 'centroid'"),
        ("msbrek", "did you mean 'msbreg'"),
        ("msbreg[momentum=2]", "momentum between 0 and 1, got 2"),
    ],
)
@pytest.mark.parametrize("strategy", ["ncd-simgcd", "happy"])
def test_a_wrong_name_is_refused_before_anything_runs(strategy: str, text: str, says: str) -> None:
    with pytest.raises(UserError, match=says.replace("[", r"\[")):
        recorded(find("strategy", strategy), single(f"{strategy}[projection_loss='{text}']"))


def test_nothing_is_added_and_nothing_written_where_none_is_named() -> None:
    network = _network()
    assert projection_loss_of("", network, network.projector, FakeContext()) is None
    for strategy in ("ncd-simgcd", "simgcd", "simgcd-lwf", "happy"):
        assert "projection_loss" not in recorded(find("strategy", strategy), single(strategy))
