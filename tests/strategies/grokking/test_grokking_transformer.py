"""The stacked transformer of one layer against one network at a time in plain torch operations, every
position computed.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from harness.errors import Unsuitable, UserError
from harness.networks import maker
from harness.selection import configured
from strategies.grokking.networks import Objective, place, stacked
from strategies.grokking.optimisers import AdamW
from strategies.grokking.transformer import Transformer, looked_up

P, K, N = 7, 3, 20


def _world(tokens: int, **options: float) -> tuple[Transformer, dict[str, Tensor], Tensor, Tensor]:
    network = Transformer(modulus=P, tokens=tokens, width=16, heads=4, **options)
    weights = stacked([network.initial(np.random.default_rng(seed)) for seed in range(K)])
    generator = torch.Generator().manual_seed(0)
    items = torch.randint(P, (K, N, tokens), generator=generator)
    if tokens == 3:
        items[:, :, 2] = P
    return (
        network,
        {name: tensor.double() for name, tensor in weights.items()},
        items,
        torch.randint(P, (K, N), generator=generator),
    )


def _plain(weights: dict[str, Tensor], items: Tensor, *, heads: int, scaling: float) -> Tensor:
    """One network: embeddings, attention of all tokens to all, MLP at all of them, logits of the last (n, C)."""
    x = functional.embedding(items, weights["token"]) + weights["position"]
    n, t, d = x.shape
    q, k, v = (
        functional.linear(x, weights[name]).view(n, t, heads, d // heads).transpose(1, 2)
        for name in ("query", "key", "value")
    )
    scores = (q @ k.transpose(-2, -1)) / (d // heads) ** (0.5 * (1 + scaling))
    mixed = (scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(n, t, d)
    x = x + functional.linear(mixed, weights["mix"])
    x = x + functional.linear(functional.relu(functional.linear(x, weights["widen"])), weights["narrow"])
    logits = math.sqrt(1 / d ** (1 + scaling)) * functional.linear(x, weights["head"])
    return logits[:, -1]


@pytest.mark.parametrize("tokens", [2, 3])
@pytest.mark.parametrize("scaling", [0.0, 1.0])
def test_logits_are_those_of_one_network_at_a_time(tokens: int, scaling: float) -> None:
    network, weights, items, _ = _world(tokens, scaling=scaling)
    found = network.forward(weights, items)
    for index in range(K):
        one = {name: tensor[index] for name, tensor in weights.items()}
        torch.testing.assert_close(
            found[index], _plain(one, items[index], heads=4, scaling=scaling), rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("tokens", [2, 3])
@pytest.mark.parametrize("scaling", [0.0, 1.0])
def test_the_backbone_of_that_name_is_one_of_the_stacked_networks(tokens: int, scaling: float) -> None:
    network, weights, items, _ = _world(tokens, scaling=scaling)
    text = f"transformer[width=16,heads=4,scaling={scaling},modulus={P}]"
    backbone = maker("backbone", text)((tokens,)).double()
    head = backbone.new_head(P).double()
    named = {f"{name}.weight": tensor[0] for name, tensor in weights.items()}
    head.load_state_dict({"weight": named.pop("head.weight")})
    backbone.load_state_dict(named)
    found = head(backbone(items[0].double()))
    torch.testing.assert_close(found, network.forward(weights, items)[0], rtol=1e-12, atol=1e-12)


def test_the_backbone_takes_no_mixtures_and_the_protocol_of_grokking_lends_it_the_modulus() -> None:
    backbone = maker("backbone", f"transformer[width=8,modulus={P}]")((2,))
    with pytest.raises(Unsuitable, match="looks whole numbers up"):
        backbone(torch.tensor([[0.5, 1.0]]))
    with pytest.raises(UserError, match="modulus should be at least 2, got 0"):
        maker("backbone", "transformer")((2,))
    with pytest.raises(UserError, match=r"needs items \(2,\) or \(3,\)"):
        maker("backbone", f"transformer[modulus={P}]")((1, 8, 8))
    assert configured("scenario", "grokking[preset=tiny,backbone=transformer]").budget().backbone == (
        "transformer[modulus=11]"
    )


@pytest.mark.parametrize("tokens", [2, 3])
@pytest.mark.parametrize("loss", ["cross-entropy", "mse"])
def test_gradients_are_those_of_one_network_at_a_time(tokens: int, loss: str) -> None:
    network, weights, items, labels = _world(tokens)
    losses, gradients = network.slope(weights, network.batch(items, labels), Objective(loss=loss, bits=64))
    for index in range(K):
        leaves = {name: tensor[index].clone().requires_grad_() for name, tensor in weights.items()}
        logits = _plain(leaves, items[index], heads=4, scaling=1.0)
        target = functional.one_hot(labels[index], P).double()
        value = (
            functional.cross_entropy(logits, labels[index])
            if loss == "cross-entropy"
            else functional.mse_loss(logits, target)
        )
        torch.testing.assert_close(losses[index], value.detach(), rtol=1e-12, atol=0)
        for name, gradient in zip(leaves, torch.autograd.grad(value, list(leaves.values())), strict=True):
            torch.testing.assert_close(gradients[name][index], gradient, rtol=1e-9, atol=1e-14)


def test_a_network_is_the_same_alone_and_among_others() -> None:
    network, weights, items, labels = _world(2)
    together = network.slope(weights, network.batch(items, labels), Objective())
    for index in range(K):
        one = slice(index, index + 1)
        alone = network.slope(place(weights, index), network.batch(items[one], labels[one]), Objective())
        torch.testing.assert_close(together.losses[one], alone.losses, rtol=1e-12, atol=0)
        for name, gradient in alone.gradients.items():
            torch.testing.assert_close(together.gradients[name][one], gradient, rtol=1e-10, atol=1e-14)


def test_an_item_does_not_depend_on_the_others() -> None:
    network, weights, items, _ = _world(2)
    torch.testing.assert_close(
        network.forward(weights, items)[:, 4:9],
        network.forward(weights, items[:, 4:9]),
        rtol=1e-12,
        atol=1e-12,
    )


def test_initial_weights_have_the_published_spread_and_follow_the_stream() -> None:
    network = Transformer(modulus=97)
    weights = network.initial(np.random.default_rng(0))
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    assert shapes == {
        "token": (1, 97, 128),
        "position": (1, 2, 128),
        "query": (1, 128, 128),
        "key": (1, 128, 128),
        "value": (1, 128, 128),
        "mix": (1, 128, 128),
        "widen": (1, 512, 128),
        "narrow": (1, 128, 512),
        "head": (1, 97, 128),
    }
    for name, tensor in weights.items():
        expected = 1 if name in ("token", "position") else shapes[name][-1] ** -0.5
        assert float(tensor.std()) == pytest.approx(expected, rel=0.15 if name == "position" else 0.03)
    again = network.initial(np.random.default_rng(0))
    assert all(torch.equal(tensor, again[name]) for name, tensor in weights.items())


def test_three_tokens_have_a_sign_of_their_own() -> None:
    assert Transformer(modulus=P, tokens=3).vocabulary == P + 1
    assert Transformer(modulus=P).vocabulary == P


def test_looked_up_rows_are_those_of_the_own_table() -> None:
    tables, rows = torch.randn(3, 5, 2), torch.tensor([[0, 4], [2, 2], [1, 3]])
    expected = torch.stack([table[index] for table, index in zip(tables, rows, strict=True)])
    assert torch.equal(looked_up(tables, rows), expected)


def test_heads_have_to_divide_the_width() -> None:
    with pytest.raises(UserError, match="heads of the transformer should divide its width 10, got 4"):
        Transformer(modulus=P, width=10)


def test_it_learns_the_sum_modulo_a_small_prime() -> None:
    """All pairs modulo 7, cross-entropy: three stacked networks fit them within 60 steps of AdamW."""
    network = Transformer(modulus=P, width=32, heads=4)
    weights = stacked([network.initial(np.random.default_rng(seed)) for seed in range(K)])
    pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P)).expand(K, -1, -1)
    labels = pairs.sum(dim=2) % P
    optimiser = AdamW(
        weights,
        lr=torch.full((K,), 0.01, dtype=torch.float64),
        weight_decay=torch.full((K,), 0.5, dtype=torch.float64),
    )
    for _ in range(60):
        optimiser.step(
            weights,
            network.slope(weights, network.batch(pairs, labels), Objective(loss="cross-entropy")).gradients,
        )
    assert bool((network.forward(weights, pairs).argmax(dim=2) == labels).all())
