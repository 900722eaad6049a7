"""Noise at hidden layers is as large as said, and the loss is the one of three passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from component_steps import learner_with
from fakes import FakeContext
from noisy_problem import noisy_stage
from scipy.special import log_softmax
from torch import Tensor

from harness.errors import Unsuitable
from strategies.components.chain import Chain
from strategies.components.hidden_noise import divergence, scales
from strategies.ood_scores import Seen
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.training.loop import Batch


def test_the_scale_is_the_deviation_or_the_released_form_item_by_item() -> None:
    h = np.random.default_rng(0).normal(size=(4, 3, 5)) * np.array([0.1, 1, 2, 3])[:, None, None]
    size = h.std(ddof=1)
    assert float(scales(torch.from_numpy(h), "equivariant")) == pytest.approx(size, abs=1e-12)
    found = scales(torch.from_numpy(h), "released").numpy()
    variances = [row.var(ddof=1) for row in h]
    for row, own, variance in zip(h, found, variances, strict=True):
        away = np.abs(row - np.median(row))
        middle = np.median(away)
        factor = min(5, np.exp(variance / (np.mean(variances) + 1e-6)))
        by_hand = size * middle * np.exp(-0.1 * away / (middle + 1e-6)) * factor
        assert np.allclose(own, by_hand, atol=1e-12)
    ten = scales(10 * torch.from_numpy(h), "released").numpy()
    assert np.allclose(ten, 100 * found, rtol=1e-3)  # quadratic
    assert float(scales(torch.ones(2, 3), "released").sum()) == 0


def _shown(options: str, **where: Any) -> tuple[Any, Classifier, Batch, Seen]:
    network = learner_with(f"hidden-noise[{options}]").models[0].grow(noisy_stage()).double()
    (one,) = network.components.parts.values()
    rng = torch.Generator().manual_seed(0)
    inputs = torch.rand(6, 5, generator=rng, dtype=torch.float64)
    batch = Batch(inputs, torch.tensor([0, 1, 2, 0, 1, 2]), torch.arange(6), **where)
    features = network.backbone(inputs)
    return one, network, batch, Seen(features, network.head(features))


def _by_hand(network: Classifier, inputs: Tensor, size: float, noise: list[Any]) -> Any:
    """Return log-probabilities of a network of two hidden layers with noise behind each, by numpy."""
    state = {name: values.numpy() for name, values in network.state_dict().items() if name != "_extra_state"}
    h = inputs.numpy()
    for place, n in zip((1, 3), noise, strict=True):
        h = np.maximum(
            h @ state[f"backbone.layers.{place}.weight"].T + state[f"backbone.layers.{place}.bias"], 0
        )
        h = h + size * h.std(ddof=1) * n
    return log_softmax(h @ state["head.weight"].T + state["head.bias"], axis=1)


@pytest.mark.parametrize("targets", [False, True])
def test_the_term_is_what_three_passes_differ_by_from_the_clean_one(targets: bool) -> None:
    settings = "noise=0.4,clean=0.3,consistency=0.2"
    one, network, batch, seen = _shown(settings, step=3, steps=12)
    if targets:
        batch = batch._replace(targets=torch.rand(6, 3, dtype=torch.float64).softmax(dim=1))
    draws = torch.Generator().manual_seed(int(one.context.stream(f"{one.stream_name}-3").integers(2**63)))
    first, second = ([torch.randn(6, 16, generator=draws).double().numpy() for _ in range(2)] for _ in "12")
    p, p1, p2 = (
        _by_hand(network, batch.inputs, size, noise)
        for size, noise in ((0, first), (0.4, first), (0.4, second))
    )
    labels = np.eye(3)[batch.labels] if batch.targets is None else batch.targets.numpy()

    def kl(one: Any, other: Any) -> float:
        return float((np.exp(one) * (one - other)).sum(axis=1).mean())

    ce = float(-(labels * p).sum(axis=1).mean())
    by_hand = 0.7 * ((kl(p, p1) + kl(p, p2)) / 2 - ce) + 0.2 * kl(p2, p1)
    assert float(one.term(network, batch, seen).detach()) == pytest.approx(by_hand, abs=1e-12)
    control = _shown("noise=0.4,loss=cross-entropy,clean=0,consistency=0", step=3, steps=12)
    noisy_ce = float(-(np.eye(3)[batch.labels] * p1).sum(axis=1).mean())
    plain_ce = float(-(np.eye(3)[batch.labels] * p).sum(axis=1).mean())
    assert float(control[0].term(*control[1:]).detach()) == pytest.approx(noisy_ce - plain_ce, abs=1e-12)


def test_the_divergence_is_zero_for_equal_answers_and_not_symmetric() -> None:
    z, w = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, float(np.log(3))]])
    assert float(divergence(z, z + 5)) == pytest.approx(0, abs=1e-7)
    assert float(divergence(z, w)) == pytest.approx(0.5 * np.log(4 / 3), abs=1e-7)
    assert float(divergence(w, z)) == pytest.approx(0.25 * np.log(0.5) + 0.75 * np.log(1.5), abs=1e-7)


@pytest.mark.parametrize(("rule", "expected"), [("snr-high", 1), ("snr-low", 0), ("effect", 1)])
def test_layers_are_chosen_by_their_noise_or_by_what_it_does(rule: str, expected: int) -> None:
    """The second layer answers nearly the same for all, whatever the first one says."""
    one, network, batch, _ = _shown(f"layers={rule},count=1,noise=0.3,consistency=0")
    state: dict[str, Any] = network.state_dict()
    state["backbone.layers.3.weight"].zero_()
    state["backbone.layers.3.bias"].copy_(1 + 0.1 * torch.arange(16) / 16)
    features = network.backbone(batch.inputs)
    seen = Seen(features, network.head(features))
    one.term(network, batch, seen)
    assert one.chosen == [expected]
    chosen = one.term(network, batch._replace(step=1), seen)
    assert one.chosen == [expected]
    away = float((chosen + 0.5 * _ce(seen, batch)).detach())
    assert (away == pytest.approx(0, abs=1e-12)) is (expected == 0)  # what the first layer says is not heard


def _ce(seen: Seen, batch: Batch) -> Tensor:
    return torch.nn.functional.cross_entropy(seen.logits, batch.labels)


def test_a_pass_with_noise_leaves_the_network_as_it_was_and_detaches_the_clean_one() -> None:
    for detach in (True, False):
        one, network, batch, seen = _shown(f"clean=0.5,consistency=0,detach={str(detach).lower()}")
        network.train()
        term = one.term(network, batch, seen)
        assert all(module.training for module in network.modules())
        assert torch.equal(network(batch.inputs), seen.logits)
        (through,) = torch.autograd.grad(term, seen.logits)
        plain = 0.5 * (seen.logits.softmax(1) - torch.eye(3)[batch.labels]) / 6
        assert torch.allclose(through, -plain) is detach


def test_a_network_without_hidden_activations_is_refused() -> None:
    context = FakeContext(backbone="linear")
    network = Classifier(context, components=Chain("hidden-noise", context, "init"))
    with pytest.raises(Unsuitable, match="has no hidden activations, to which component hidden-noise adds"):
        network.grow(noisy_stage())


def test_noise_acts_behind_what_another_component_has_put_in_place() -> None:
    for text in ("hidden-noise[consistency=0]+crrelu", "crrelu+hidden-noise[consistency=0]"):
        network = learner_with(text).models[0].grow(noisy_stage())
        batch = Batch(torch.rand(6, 5), torch.tensor([0, 1, 2, 0, 1, 2]), torch.arange(6))
        features = network.backbone(batch.inputs)
        seen = Seen(features, network.head(features))
        (one,) = network.components.with_hook("term")
        assert float((one.term(network, batch, seen) + 0.5 * _ce(seen, batch)).detach()) > 1e-4
