"""A bank of views within a budget: what is kept, how much memory it takes, and that the budget changes no
result.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fakes import FakeContext, stage_of, stage_without_labels
from torch import Tensor
from torch.nn.functional import normalize

from harness.errors import UserError
from strategies.cgcd.happy import Happy
from strategies.toolkit.augmentations import Affine, Noise, Same
from strategies.toolkit.discovery import feature_cache
from strategies.toolkit.discovery.feature_cache import FeatureCache
from strategies.toolkit.discovery.split_network import Previous, SplitNetwork
from strategies.toolkit.discovery.two_views import CachedViews

IMAGES = torch.rand(90, 1, 16, 16, generator=torch.Generator().manual_seed(0))
ALL_PAIRS = [(which, row) for which in range(3) for row in range(90)]


@pytest.fixture
def by_kib(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count budgets in KiB, so that small items fill them."""
    monkeypatch.setattr(feature_cache, "MIB", 2**10)


def _network(backbone: str = "cnn[width=8]") -> SplitNetwork:
    network = SplitNetwork(FakeContext(backbone=backbone))
    network.build_backbone((1, 16, 16))
    return network.freeze("last").eval()


def _cache(
    network: SplitNetwork,
    *,
    budget_mib: int = 0,
    seed: int = 0,
    previous: Previous | None = None,
    augment: Any = None,
) -> FeatureCache:
    generator = torch.Generator().manual_seed(seed)
    return FeatureCache(
        network, IMAGES, augment or Affine(), generator, 3, previous=previous, budget_mib=budget_mib
    )


def _all(cache: FeatureCache) -> tuple[Tensor, Tensor | None]:
    which, rows = torch.tensor(ALL_PAIRS).T
    return cache.batch(which, rows)


def test_as_many_items_are_kept_as_the_budget_holds(by_kib: None) -> None:
    """An item has 3 views of 16 x 4 x 4 hidden values of 2 bytes: 1536 bytes; with 32 features of 4 bytes
    each beside, 1920.
    """
    network = _network()
    previous = Previous(network, torch.nn.Identity())
    for budget, remembered, kept, item_bytes in (
        (30, None, 20, 1536),
        (30, previous, 16, 1920),
        (1, None, 0, 1536),
        (999, None, 90, 1536),
    ):
        cache = _cache(network, budget_mib=budget, previous=remembered)
        assert (cache.kept, cache.nbytes) == (kept, kept * item_bytes)
        assert cache.nbytes <= budget * 2**10
    assert _cache(network).kept == 90


def test_the_budget_changes_no_view(by_kib: None) -> None:
    network = _network()
    previous = Previous(network, torch.nn.Identity())
    whole_hidden, whole_before = _all(_cache(network, previous=previous))
    for budget in (1, 40, 100):
        hidden, before = _all(_cache(network, budget_mib=budget, previous=previous))
        torch.testing.assert_close(hidden, whole_hidden, atol=1e-3, rtol=1e-3)
        assert whole_before is not None and before is not None
        torch.testing.assert_close(before, whole_before, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(before, previous(hidden))


def test_views_of_an_item_differ_and_come_again_at_every_epoch(by_kib: None) -> None:
    for budget in (0, 40):
        cache = _cache(_network(), budget_mib=budget)
        first, again = _all(cache)[0], _all(cache)[0]
        assert torch.equal(first, again)
        views = first.reshape(3, 90, -1)
        assert (views[0] != views[1]).any(dim=1).all() and (views[1] != views[2]).any(dim=1).all()


def test_the_same_generator_gives_the_same_bytes() -> None:
    network = _network()
    first, again, other = (_all(_cache(network, seed=seed))[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=1e-2)


@pytest.mark.parametrize("budget", [0, 40])
def test_half_precision_is_off_by_at_most_one_part_in_2048(by_kib: None, budget: int) -> None:
    """Rounding to 11 significant bits: relative error at most 2^-11, or half of the smallest step of 2^-24
    near zero.
    """
    network = _network()
    exact = network.hidden(IMAGES).repeat(3, 1, 1, 1)
    kept = _all(_cache(network, budget_mib=budget, augment=Same()))[0]
    assert kept.dtype == torch.float32
    assert (
        (kept - exact).abs() <= 2**-11 * exact.abs() + 2**-25 + 1e-6 * exact.abs()
    ).all()  # the last term: sums in another order


def test_values_beyond_half_precision_are_refused() -> None:
    with pytest.raises(
        UserError, match="values above 65504, which half precision does not hold; set cached_views=0"
    ):
        _cache(_network("mlp[width=8,depth=2]"), augment=lambda images, _: images * 1e8)


def test_nothing_kept_gets_a_gradient_and_what_trains_behind_it_does() -> None:
    network = _network().train()
    hidden = _all(_cache(network))[0]
    assert not hidden.requires_grad
    network.features(hidden).sum().backward()
    assert [weight.grad is not None for weight in network.parameters()] == [
        weight.requires_grad for weight in network.parameters()
    ]


def test_a_bank_within_a_budget_draws_the_same_pairs(by_kib: None) -> None:
    network, rows = _network(), torch.arange(90)
    pairs = [
        CachedViews(network, IMAGES, Noise(std=0.3), torch.Generator().manual_seed(3), 4, budget_mib=budget)
        .pair(IMAGES, rows)
        .hidden
        for budget in (0, 1, 60)
    ]
    for pair in pairs[1:]:
        torch.testing.assert_close(pair, pairs[0], atol=2e-3, rtol=2e-3)


def test_happy_learns_the_same_whatever_the_budget_of_its_bank(by_kib: None) -> None:
    """A width of 512 makes an item of 3 views 3072 bytes, so that 20 KiB hold 6 of 24."""
    learnt = []
    for budget in (0, 20, 1):
        strategy = Happy(projector_width=8, projector_out=4, cached_views=3, cache_mib=budget)
        strategy.start(FakeContext(augmentations="noise[std=0.05]", backbone="mlp[width=512,depth=2]"))
        strategy.learn(stage_of(0, torch.arange(30).numpy() % 3, 3))
        strategy.learn(stage_without_labels(1, 24))
        learnt.append(normalize(strategy.network.classifier.v.detach(), dim=1))
    for other in learnt[1:]:
        torch.testing.assert_close(other, learnt[0], atol=2e-3, rtol=0)
