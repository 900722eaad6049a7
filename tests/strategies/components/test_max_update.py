"""The maximal-update parametrisation against the abc-parametrisation it comes from, and against width."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from componented import networked, only, stage_like
from torch import nn
from torch.nn.functional import cross_entropy

from harness.errors import Unsuitable
from strategies.components.chain import weights_of
from strategies.components.contract import Optimiser, Rate

VIT = "timm:vit_tiny_patch16_224[img_size=8,patch_size=4,depth=1,embed_dim={},num_heads={}]"


def _steps(
    network: nn.Module, groups: object, inputs: torch.Tensor, labels: torch.Tensor, steps: int = 3
) -> None:
    optimiser = torch.optim.SGD(groups, lr=0.1)  # type: ignore[arg-type]
    for _ in range(steps):
        optimiser.zero_grad()
        cross_entropy(network(inputs), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def test_steps_are_those_of_the_abc_parametrisation_with_one_rate_for_all() -> None:
    """W^l = m^-a w^l with a = -1/2, 0, 1/2, and b = m^(1/2) b', every w trained with the same rate."""
    rng = np.random.default_rng(0)
    inputs, labels = torch.from_numpy(rng.normal(size=(6, 5))), torch.tensor([0, 1, 0, 1, 1, 0])
    network = networked("max-update[base_width=4]", "mlp[width=36,depth=2]").double()
    m = 9.0
    first, second = (network.backbone.get_submodule(f"layers.{place}") for place in (1, 3))
    head = network.head
    assert head is not None
    kinds = [(first, m**0.5, m**0.5), (second, 1.0, m**0.5), (head, m**-0.5, 1.0)]
    own = [
        nn.Parameter((values / factor).detach().clone())
        for layer, of_weights, of_bias in kinds
        for values, factor in ((layer.weight, of_weights), (layer.bias, of_bias))
    ]
    before = network(inputs)

    def abc(x: torch.Tensor) -> torch.Tensor:
        for place, (_, of_weights, of_bias) in enumerate(kinds):
            x = x @ (of_weights * own[2 * place]).T + of_bias * own[2 * place + 1]
            x = x.relu() if place < 2 else x
        return x

    assert torch.allclose(abc(inputs), before, atol=1e-12)
    _steps(network, weights_of([network], lr=0.1), inputs, labels)
    optimiser = torch.optim.SGD(own, lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        cross_entropy(abc(inputs), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert torch.allclose(network(inputs), abc(inputs), atol=1e-9)
    assert float((network(inputs) - before).detach().abs().max()) > 0.02


def test_starts_are_those_of_the_base_network_and_the_head_is_multiplied() -> None:
    plain, shaped = (
        networked("", "mlp[width=36,depth=2]"),
        networked("max-update[base_width=4]", "mlp[width=36,depth=2]"),
    )
    for place, (of_weights, of_bias) in {1: (1.0, 1.0), 3: (1.0, 3.0)}.items():
        before, after = (each.backbone.get_submodule(f"layers.{place}") for each in (plain, shaped))
        assert torch.allclose(after.weight, of_weights * before.weight)
        assert torch.allclose(after.bias, of_bias * before.bias)
    assert plain.head is not None
    assert shaped.head is not None
    assert torch.allclose(shaped.head.weight, plain.head.weight * 3 / 9)
    assert torch.allclose(shaped.head.bias, plain.head.bias * 3)
    assert torch.allclose(shaped.head.parametrizations["weight"].original, plain.head.weight * 3)
    old = shaped(torch.ones(1, 5))
    grown = shaped.grow(stage_like(1, 3))
    assert torch.allclose(grown(torch.ones(1, 5))[:, :2], old)
    assert not networked("max-update[zero_head=true]")(torch.ones(1, 5)).any()


@pytest.mark.parametrize(
    ("optimiser", "rates"),
    [
        (
            "sgd",
            {"input": Rate(8, 1 / 8), "vector": Rate(8, 1 / 8), "hidden": Rate(), "head": Rate(8, 1 / 8)},
        ),
        ("adamw", {"input": Rate(), "vector": Rate(), "hidden": Rate(1 / 8), "head": Rate()}),
    ],
)
@pytest.mark.parametrize("backbone", ["mlp", "cnn", "vit"])
def test_rates_follow_the_kind_of_the_weights(
    backbone: str, optimiser: Literal["sgd", "adamw"], rates: dict[str, Rate]
) -> None:
    text, shape, base = {
        "mlp": ("mlp[width=32,depth=2]", (5,), 4),
        "cnn": ("cnn[width=64]", (1, 8, 8), 8),
        "vit": (VIT.format(64, 8), (3, 8, 8), 8),
    }[backbone]
    network = networked(f"max-update[base_width={base}]", text, shape, optimiser=Optimiser(optimiser))
    found = only(network).rates(network)
    first = next(weights for weights in network.backbone.parameters() if weights.ndim in (2, 4))
    for name, weights in network.named_parameters():
        kind = (
            "head-bias"
            if name == "head.bias"
            else "head"
            if name.startswith("head")
            else "input"
            if weights is first
            else "vector"
            if weights.ndim in (1, 3)
            else "hidden"
        )
        assert found[weights] == {**rates, "head-bias": Rate()}[kind], name


def test_a_start_that_does_not_follow_fan_in_is_made_to() -> None:
    plain, shaped = (
        networked(said, VIT.format(64, 8), (3, 8, 8)) for said in ("", "max-update[base_width=16]")
    )
    before, after = (dict(each.named_parameters()) for each in (plain, shaped))
    hidden = "backbone.model.blocks.0.mlp.fc1.weight"  # normal with deviation 0.02 at every width
    assert torch.allclose(after[hidden], before[hidden] / 2)
    for same in (
        "backbone.model.patch_embed.proj.weight",
        "backbone.model.pos_embed",
        "backbone.model.norm.weight",
    ):
        assert torch.equal(after[same], before[same])


def test_a_layer_moves_as_far_at_every_width() -> None:
    """The slope over log width of what steps change in features and logits; the standard one grows."""
    rng = torch.Generator().manual_seed(1)
    inputs, labels = torch.randn(64, 20, generator=rng), torch.arange(64) % 2
    slopes = {}
    for said in ("", "max-update[base_width=64]"):
        moved = []
        widths = (64, 256, 1024)
        for width in widths:
            network = networked(said, f"mlp[width={width},depth=2]", (20,))
            before = network.backbone(inputs), network(inputs)
            _steps(network, weights_of([network], lr=0.1), inputs, labels, 5)
            after = network.backbone(inputs), network(inputs)
            moved.append([float((b - a).abs().mean()) for a, b in zip(before, after, strict=True)])
        slopes[said] = np.polyfit(np.log(widths), np.log(moved), 1)[0]
    assert np.abs(slopes["max-update[base_width=64]"]).max() < 0.1, slopes
    assert slopes[""].min() > 0.25, slopes


def test_what_has_no_width_is_refused_in_one_sentence() -> None:
    for said, backbone, shape, sentence in (
        (
            "max-update",
            "linear",
            (5,),
            "has backbone linear, which has no width that component max-update could",
        ),
        ("max-update", "quadratic[modulus=7]", (2,), "has a network with a head of its own"),
        (
            "max-update+compander",
            "mlp",
            (5,),
            "has companded weights, whose rates component max-update does not know",
        ),
        ("compander+max-update", "mlp", (5,), "has companded weights"),
        (
            "max-update[base_width=12]",
            VIT.format(64, 8),
            (3, 8, 8),
            "has heads of 8 numbers, of which the base width 12",
        ),
    ):
        with pytest.raises(Unsuitable, match=sentence):
            networked(said, backbone, shape)
