"""Predicted masks: targets and losses by hand, what a gradient reaches, when masks are on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from componented import networked, only
from torch import Tensor, nn

from harness.errors import Unsuitable
from strategies.components.contract import Rate
from strategies.components.fire_together import Gated, kept_by_mass
from strategies.ood_scores import Seen
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.training.loop import Batch

BATCH = Batch(
    torch.rand(6, 5, dtype=torch.float64), torch.tensor([0, 1] * 3), torch.arange(6), step=2, steps=10
)


def _gates(network: Classifier) -> list[Gated]:
    return [module for module in network.modules() if isinstance(module, Gated)]


def _term(network: Classifier, batch: Batch = BATCH) -> Tensor | None:
    shown = only(network).change(network, batch)
    features: Tensor = network.backbone(shown.inputs)
    assert network.head is not None
    term: Tensor | None = only(network).term(network, shown, Seen(features, network.head(features)))
    return term


def test_the_hottest_channels_are_kept_until_their_share_is_reached() -> None:
    heat = torch.tensor(
        [[0.1, 0.4, 0.2, 0.3], [0.7, 0.1, 0.1, 0.1], [0.0, 0.0, 0.5, 0.5]], dtype=torch.float64
    )
    assert kept_by_mass(heat, 0.7).tolist() == [[0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 1, 0]]
    assert kept_by_mass(heat, 0.5).tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]]  # one at least
    assert kept_by_mass(10 * heat, 0.9).tolist() == [[0, 1, 1, 1], [1, 1, 1, 0], [0, 0, 1, 0]]
    assert kept_by_mass(heat, 1.0).tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 1, 1]]
    assert kept_by_mass(torch.zeros(1, 3), 0.9).all()


def test_the_loss_is_binary_cross_entropy_summed_over_channels() -> None:
    network = networked("fire-together[keep=0.6,warmup=0]", "mlp[width=4,depth=2]").double()
    for gate in _gates(network):
        nn.init.normal_(gate.predictor)
        gate.bias.data = torch.tensor([2.0, -0.3, 0.1, -1.0], dtype=torch.float64)
    term = _term(network)
    x, losses = BATCH.inputs.numpy(), []
    for place, gate in zip((1, 3), _gates(network), strict=True):
        layer = network.backbone.get_submodule(f"layers.{place}")
        soft = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
        logits = soft @ gate.predictor.detach().numpy().T + gate.bias.detach().numpy()
        active = np.maximum(0, x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy())
        wanted = kept_by_mass(torch.from_numpy(active), 0.6).numpy()
        chance = 1 / (1 + np.exp(-logits))
        losses.append(-(wanted * np.log(chance) + (1 - wanted) * np.log(1 - chance)).sum(axis=1).mean())
        x = active * (chance > 0.5)
    assert term is not None
    assert float(term) == pytest.approx(np.mean(losses), abs=1e-12)
    assert np.allclose(network.backbone(BATCH.inputs).detach().numpy(), x)


def test_channels_of_images_are_looked_at_over_all_positions() -> None:
    network = networked("fire-together[keep=0.5,warmup=0]", "cnn[width=8]", (2, 8, 8)).double()
    images = torch.rand(3, 2, 8, 8, dtype=torch.float64)
    gate = _gates(network)[0]
    gate.bias.data[3] = -9.0
    network.backbone.train()
    only(network).change(network, BATCH)
    block = network.backbone.get_submodule("layers.0")
    out = block(images)
    assert isinstance(block, nn.Sequential)
    plain = gate.activation(block[1](block[0](images)))
    assert torch.equal(gate.pooled, images.mean(dim=(2, 3)))
    assert gate.told is not None
    assert torch.equal(gate.told[1], kept_by_mass(plain.detach().amax(dim=(2, 3)), 0.5))
    assert torch.equal(out, plain * (torch.arange(8) != 3)[:, None, None])


@pytest.mark.parametrize(("mode", "reached"), [("decoupled", False), ("joint", True)])
def test_the_learners_gradient_passes_the_masks_where_that_is_asked_for(mode: str, reached: bool) -> None:
    network = networked(f"fire-together[mode={mode},warmup=0]", "mlp[width=4,depth=2]").double()
    only(network).change(network, BATCH)
    network(BATCH.inputs).square().sum().backward()
    gates = _gates(network)
    assert all(
        (gate.predictor.grad is not None and bool(gate.predictor.grad.any())) is reached for gate in gates
    )
    network.zero_grad()
    term = _term(network)
    assert term is not None
    term.backward()  # type: ignore[no-untyped-call]
    first = network.backbone.get_submodule("layers.1").weight
    assert (first.grad is not None and bool(first.grad.any())) is reached
    assert all(gate.predictor.grad is not None and gate.predictor.grad.any() for gate in gates)


def test_masks_begin_behind_the_warm_up_and_stay_on_and_predictors_cool_down() -> None:
    network = networked("fire-together[warmup=0.2,cooldown=0.5]", "mlp[width=4,depth=2]").double()
    plain = networked("", "mlp[width=4,depth=2]").double()
    for gate in _gates(network):
        assert (gate.bias == 2).all()
        gate.bias.data.fill_(-9.0)
    for step, masked, learns in ((0, False, True), (1, False, True), (2, True, True), (5, True, False)):
        term = _term(network, BATCH._replace(step=step))
        assert (term is not None) is learns
        assert bool(network.backbone(BATCH.inputs).any()) is not masked
    assert not network.eval().backbone(BATCH.inputs).any()
    _term(network, BATCH._replace(step=0))
    assert torch.equal(network(BATCH.inputs), plain(BATCH.inputs))
    rates = only(network).rates(network)
    assert rates == {
        weights: Rate(lr=10.0, decay=0.0)
        for gate in _gates(network)
        for weights in (gate.predictor, gate.bias)
    }


def test_a_network_without_relu_modules_is_refused() -> None:
    with pytest.raises(Unsuitable, match="has a network without ReLU modules behind layers"):
        networked("fire-together", "linear")
    assert (
        len(_gates(networked("fire-together+crrelu"))) == len(_gates(networked("crrelu+fire-together"))) == 2
    )
