"""Nested dropout against direct sums and separate matrix products; its learners against plain loops, and who
learns what in stage two.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from checkout import SUPPORT
from fakes import FakeContext
from noisy_problem import (
    QUERY,
    Curious,
    as_items,
    fresh,
    learned,
    lent,
    noisy_stage,
    passes,
    plain_sgd,
    started,
    weights_of,
)
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import strategies.noisy_labels.nested_coteaching as module
from harness.contracts import Query, Stage
from harness.errors import Unsuitable, UserError
from strategies.noisy_labels import base as label_learner
from strategies.noisy_labels import nested
from strategies.noisy_labels.nested_coteaching import NestedCoTeaching
from strategies.noisy_labels.nested_dropout import Compress, Layers, NestedDropout
from strategies.toolkit import networks
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.training import loop as training
from strategies.toolkit.training.loop import Batch

# --- the law of the number of channels ----------------------------------------------------------------------


def _quantile(law: np.ndarray, share: float) -> int:
    """The smallest k with P(kept <= k) >= share."""
    return 1 + int(np.flatnonzero(np.cumsum(law) >= share)[0])


@pytest.mark.parametrize(
    ("sigma", "width", "mean", "median", "most"),
    [(10, 512, 5.97, 5, 18), (100, 512, 56.7, 48, 182), (100, 4096, 56.7, 48, 182)],
)
def test_half_a_gaussian_keeps_as_many_channels_as_was_measured(
    sigma: float, width: int, mean: float, median: int, most: int
) -> None:
    law = nested.widths_law(width, "half-gaussian", sigma, 0.0)
    assert float(law @ np.arange(1, width + 1)) == pytest.approx(mean, abs=0.05)
    assert _quantile(law, 0.5) == median
    assert _quantile(law, 0.99) == most


@pytest.mark.parametrize(("sigma", "mu", "width"), [(10.0, 0.0, 64), (3.0, 7.0, 20), (1e6, 0.0, 6)])
def test_half_a_gaussian_by_direct_sums_without_a_factor_of_a_half(
    sigma: float, mu: float, width: int
) -> None:
    weights = np.array([np.exp(-(((k - mu) / sigma) ** 2)) for k in range(1, width + 1)])
    np.testing.assert_allclose(
        nested.widths_law(width, "half-gaussian", sigma, mu), weights / weights.sum(), rtol=1e-9
    )


def test_a_spread_too_small_for_floating_point_keeps_one_channel() -> None:
    assert nested.widths_law(4, "half-gaussian", 0.01, 0.0).tolist() == [1, 0, 0, 0]


def test_the_geometric_law_has_mean_sigma_and_a_constant_ratio() -> None:
    law = nested.widths_law(2000, "geometric", 20.0, 0.0)
    assert float(law @ np.arange(1, 2001)) == pytest.approx(20)
    np.testing.assert_allclose(law[1:100] / law[:99], 1 - 1 / 20)
    assert nested.widths_law(6, "geometric", 1.0, 0.0).tolist() == pytest.approx([1, 0, 0, 0, 0, 0], abs=1e-6)


def test_the_uniform_law_knows_no_sigma() -> None:
    assert nested.widths_law(4, "uniform", 3.0, 2.0).tolist() == [0.25] * 4


def test_masks_keep_the_first_channels() -> None:
    expected = [[1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    assert nested.prefix_mask(torch.tensor([1, 3, 4]), 4).tolist() == expected


def _shrunk(size: int, times: int, **values: Any) -> Tensor:
    """Features of ones after shrinking, (times, size, 16)."""
    strategy = started("nested-dropout", **values)
    strategy.models[0].grow(noisy_stage())
    shrink = strategy.shrinking("widths-0")
    return torch.stack([shrink(torch.ones(size, 16)) for _ in range(times)])


@pytest.mark.parametrize(
    ("law", "sigma", "mu"),
    [
        ("half-gaussian", 6.0, 0.0),
        ("half-gaussian", 4.0, 9.0),
        ("geometric", 4.0, 0.0),
        ("uniform", 1.0, 0.0),
    ],
)
def test_draws_follow_the_law(law: nested.Law, sigma: float, mu: float) -> None:
    kept = _shrunk(40_000, 1, law=law, sigma=sigma, mu=mu, each_item=True)[0].sum(dim=1).long()
    shares = torch.bincount(kept, minlength=17)[1:].numpy() / 40_000
    expected = nested.widths_law(16, law, sigma, mu)
    assert (np.abs(shares - expected) < 5 * np.sqrt(expected / 40_000) + 1e-4).all()


def test_a_batch_shares_its_draw_unless_every_item_has_its_own() -> None:
    shared, own = _shrunk(30, 40, sigma=8.0).sum(dim=2), _shrunk(30, 40, sigma=8.0, each_item=True).sum(dim=2)
    assert (shared == shared[:, :1]).all()
    assert len(set(shared[:, 0].tolist())) > 5
    assert (own != own[:, :1]).any(dim=1).all()


def test_nothing_is_rescaled_unless_asked() -> None:
    assert set(_shrunk(30, 10).flatten().tolist()) == {0.0, 1.0}
    rescaled = _shrunk(30, 10, rescale=True, each_item=True)
    torch.testing.assert_close(rescaled.sum(dim=2), torch.full((10, 30), 16.0))


def test_plain_dropout_is_inverted_and_no_compression_changes_nothing() -> None:
    torch.manual_seed(0)
    dropped = _shrunk(500, 4, compression="dropout", dropout=0.2)
    assert sorted(set(dropped.flatten().tolist())) == pytest.approx([0, 1.25])
    assert float((dropped == 0).float().mean()) == pytest.approx(0.2, abs=0.01)
    assert (_shrunk(30, 2, compression="none") == 1).all()


def _through(model: Any, inputs: Tensor, **values: Any) -> list[tuple[int, int]]:
    """How many channels of both layers are left in every of 40 batches, read from a network whose layers pass
    on what they are given.
    """
    strategy = started("nested-dropout", lent(backbone="mlp[width=16,depth=2]"), **values)
    compress = strategy.compressing("widths-0", strategy.layers)
    return [tuple(compress(model, inputs)[0].round().int().tolist()) for _ in range(40)]


class _Counting(nn.Module):
    """A network of two layers of ones, and a head that says how many channels of each are left: 100 marks a
    channel of the first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = networks.MLP((1,), width=16, depth=2)
        first, second = [layer for layer in self.backbone.layers if isinstance(layer, nn.Linear)]
        with torch.no_grad():
            for layer in (first, second):
                layer.bias.zero_()
            first.weight.fill_(1.0)
            second.weight.fill_(1.0)

    def head(self, features: Tensor) -> Tensor:
        """Every channel of the second layer holds the number of channels left in the first."""
        return torch.stack([features.amax(dim=1), (features > 0).sum(dim=1).float()], dim=1)


def test_two_layers_are_compressed_by_draws_of_their_own() -> None:
    seen = _through(_Counting(), torch.ones(1, 1), layers="both", sigma=8.0)
    assert len(set(seen)) > 10
    assert {left for left, _ in seen} != {16}
    assert {left for _, left in seen} != {16}
    assert len({first - second for first, second in seen}) > 5


def test_alternating_compresses_one_of_two_layers_in_every_batch() -> None:
    seen = _through(_Counting(), torch.ones(1, 1), layers="alternating", sigma=2.0)
    assert all((first == 16) != (second == 16) for first, second in seen)
    assert (
        8 <= sum(first == 16 for first, _ in seen) <= 32
    )  # of 40 fair coins: beyond four deviations on either side


def test_stage_two_compresses_both_layers_also_where_stage_one_alternates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, str]] = []
    original = NestedDropout.compressing

    def note(self: NestedDropout, stream: str, layers: Layers) -> Compress:
        asked.append((stream, layers))
        return original(self, stream, layers)

    monkeypatch.setattr(NestedDropout, "compressing", note)
    learned("nested-co-teaching", lent(epochs=4, backbone="mlp[width=16,depth=2]"), layers="alternating")
    assert asked == [("widths-0", "alternating"), ("widths-1", "alternating"), ("widths-together", "both")]


@pytest.mark.parametrize("backbone", ["mlp[width=16,depth=1]", "linear"])
def test_a_network_without_two_layers_cannot_have_both_compressed(backbone: str) -> None:
    with pytest.raises(UserError, match="needs a backbone that ends in two fully connected ones"):
        learned("nested-dropout", lent(backbone=backbone), layers="both")


def test_what_cannot_be_compiled_is_refused() -> None:
    with pytest.raises(UserError, match="layers=both takes the network apart and cannot be compiled"):
        learned("nested-dropout", lent(backbone="mlp[depth=2]", compile=True), layers="both")


# --- how many channels count --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "block", [1 << 22, 3 * 50 * 4, 1], ids=["one block", "blocks of three", "channel by channel"]
)
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("networks", [1, 2])
def test_one_pass_counts_what_separate_products_count(
    networks: int, with_bias: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D = 10 channels of 50 items and 4 classes, mean logits; in one block, in four and in ten."""
    monkeypatch.setattr(nested, "BLOCK", block)
    generator = torch.Generator().manual_seed(networks)
    features, weight, bias = (
        torch.randn(networks, *shape, generator=generator) for shape in ((50, 10), (4, 10), (4,))
    )
    labels = torch.randint(4, (50,), generator=generator)
    expected = []
    for k in range(1, 11):
        logits = sum(
            features[m][:, :k] @ weight[m][:, :k].T + (bias[m] if with_bias else 0) for m in range(networks)
        )
        assert isinstance(logits, Tensor)
        expected.append(int((logits.argmax(dim=1) == labels).sum()))
    assert len(set(expected)) > 3
    if networks == 1:
        alone = nested.right_by_width(features[0], weight[0], bias[0] if with_bias else None, labels)
        assert alone.tolist() == expected
    assert nested.right_by_width(features, weight, bias if with_bias else None, labels).tolist() == expected


@pytest.mark.parametrize(
    ("right", "penalty", "expected"),
    [
        ([3, 7, 7, 6], 0.0, 2),  # the smallest of the best
        ([5, 5, 5], 0.0, 1),
        ([3, 6, 7, 9], 1e-5, 4),
        ([3, 6, 7, 9], 0.15, 2),  # 0.3, 0.45, 0.4, 0.45: the smaller of two that are equal
        ([3, 6, 7, 9], 0.31, 1),
    ],
)
def test_the_best_width_has_to_earn_its_channels(right: list[int], penalty: float, expected: int) -> None:
    assert nested.best_width(torch.tensor(right), 10, penalty) == expected


@pytest.mark.parametrize("k", [0, -1, 17])
def test_a_width_that_features_do_not_have_is_refused(k: int) -> None:
    with pytest.raises(UserError, match=f"k={k} channels are asked for, the features have 16"):
        nested.checked_width(k, 16)
    assert [nested.checked_width(k, 16) for k in (1, 16)] == [1, 16]


@pytest.mark.parametrize("name", ["nested-dropout", "nested-co-teaching"])
def test_a_fixed_width_that_features_do_not_have_is_refused_before_training(name: str) -> None:
    context = lent()
    with pytest.raises(UserError, match="k=17 channels"):
        started(name, context, choose="fixed", k=17).learn(noisy_stage())
    assert not context.probes


@pytest.mark.parametrize(("choose", "width"), [("fixed", 5), ("full", 16)])
@pytest.mark.parametrize("bias", [False, True])
def test_predictions_use_the_first_channels_alone(choose: str, width: int, bias: bool) -> None:
    strategy = started("nested-dropout", choose=choose, k=5, bias=bias)
    strategy.learn(noisy_stage())
    model, inputs = strategy.models[0], torch.from_numpy(np.asarray(QUERY.inputs))
    features = model.backbone(inputs).detach()
    features[:, width:] = 0
    torch.testing.assert_close(strategy.logits(inputs)[0], model.head(features).detach())


@pytest.mark.parametrize("name", ["nested-dropout", "nested-co-teaching"])
def test_the_sweep_takes_the_width_that_is_best_on_validation_items_in_every_stage(name: str) -> None:
    strategy = started(name, lent(epochs=6), sigma=6.0, penalty=0.01)
    widths = []
    for index in range(2):
        stage = noisy_stage(index)
        strategy.learn(stage)
        assert stage.validation is not None
        inputs, labels = (
            torch.from_numpy(np.asarray(stage.validation.inputs)),
            torch.from_numpy(stage.validation.labels),
        )
        scores = []
        for k in range(1, 17):
            logits = sum(
                model.backbone(inputs)[:, :k] @ model.head.weight[:, :k].T for model in strategy.models
            )
            scores.append(float((logits.argmax(dim=1) == labels).double().mean()) - 0.01 * (k - 1))
        widths.append(strategy.width)
        assert strategy.width == 1 + int(np.argmax(np.round(scores, 9)))
    assert all(1 < width < 16 for width in widths)


# --- stage one ----------------------------------------------------------------------------------------------


def test_nested_dropout_trains_on_masked_features() -> None:
    context, stage = lent(), noisy_stage()
    items, luck = as_items(stage), context.stream("widths-0")
    law = nested.widths_law(16, "half-gaussian", 8.0, 0.0)
    network = fresh(context, stage, bias=False)
    optimiser = plain_sgd(network)
    for _, rows in passes(context, 48, context.epochs):
        k = 1 + int((luck.random() >= np.cumsum(law)).sum())
        features: Any = network.backbone
        assert network.head is not None
        optimiser.zero_grad()
        torch.autograd.backward(
            cross_entropy(
                features(items.inputs[rows])[:, :k] @ network.head.weight[:, :k].T, items.labels[rows]
            )
        )
        optimiser.step()
    strategy = started("nested-dropout", context, sigma=8.0, keep_best=False)
    strategy.learn(stage)
    torch.testing.assert_close(weights_of(*strategy.models), weights_of(network), rtol=1e-4, atol=1e-5)


def test_without_compression_or_choice_it_is_cross_entropy() -> None:
    plain = learned("cross-entropy", stages=2)
    values: dict[str, Any] = {"compression": "none", "keep_best": False, "bias": True}
    alone = learned("nested-dropout", stages=2, **values)
    assert torch.equal(alone.weights, plain.weights)
    torch.testing.assert_close(alone.logits, plain.logits)
    pair = learned("nested-co-teaching", stages=2, stage_two=False, **values)
    torch.testing.assert_close(pair.logits[0], plain.logits[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(pair.logits[0], pair.logits[1], atol=0.1)


class _Keeps(FakeContext):
    """Keeps the weights at the end of every epoch."""

    models: Any = None
    kept: list[list[nn.Module]]

    def epoch_ended(self, epoch: int) -> None:
        self.kept.append(copy.deepcopy(list(self.models)))


def _validated(model: Any, stage: Stage, penalty: float) -> float:
    """The accuracy on validation items at the width that is best there."""
    assert stage.validation is not None
    labels = torch.from_numpy(stage.validation.labels)
    features = model.backbone(torch.from_numpy(np.asarray(stage.validation.inputs)))
    shares = [
        float(((features[:, :k] @ model.head.weight[:, :k].T).argmax(dim=1) == labels).double().mean())
        for k in range(1, 17)
    ]
    return shares[int(np.argmax([round(share - penalty * k, 12) for k, share in enumerate(shares)]))]


@pytest.mark.parametrize("name", ["nested-dropout", "nested-co-teaching"])
def test_stage_one_ends_with_the_weights_that_were_first_to_be_best_on_validation_items(name: str) -> None:
    stage, chosen = noisy_stage(), []
    for keep_best in (True, False):
        context = _Keeps(epochs=9)
        strategy = started(
            name,
            context,
            keep_best=keep_best,
            lr=0.3,
            **({"stage_two": False} if name != "nested-dropout" else {}),
        )
        context.models, context.kept = strategy.models, []
        strategy.learn(stage)
        for place, model in enumerate(strategy.models):
            shares = [_validated(kept[place], stage, 1e-5) for kept in context.kept]
            at = int(np.argmax(shares)) if keep_best else 8
            assert torch.equal(weights_of(model), weights_of(context.kept[at][place]))
            chosen.append(at)
    assert any(at < 8 for at in chosen[: len(chosen) // 2])


@pytest.mark.parametrize(
    ("values", "suits"),
    [
        ({}, False),
        ({"choose": "full"}, False),
        ({"keep_best": False}, False),
        ({"compression": "dropout"}, False),
        ({"compression": "dropout", "keep_best": False}, True),
        ({"choose": "full", "keep_best": False}, True),
        ({"choose": "fixed", "k": 5, "keep_best": False}, True),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["nested-dropout", "nested-co-teaching"])
def test_what_chooses_needs_validation_items(name: str, values: dict[str, Any], suits: bool) -> None:
    strategy, stage = started(name, **values), noisy_stage(validation=False)
    if suits:
        strategy.learn(stage)
        assert np.isin(strategy.predict(QUERY).classes, [0, 1, 2]).all()
    else:
        with pytest.raises(Unsuitable, match="holds none out"):
            strategy.learn(stage)


@pytest.mark.parametrize(
    "values", [{"choose": "full"}, {"choose": "fixed", "k": 12}, {"compression": "none"}], ids=str
)
def test_a_look_in_mid_stage_sees_the_channels_that_count_also_without_validation_items(
    values: dict[str, Any],
) -> None:
    context = Curious(epochs=3)
    strategy = started("nested-dropout", context, keep_best=False, **values)
    context.learner, context.given = strategy, []
    strategy.learn(noisy_stage(validation=False))
    np.testing.assert_array_equal(
        np.asarray(context.given[-1].classes), np.asarray(strategy.predict(QUERY).classes)
    )
    assert len(set(np.asarray(context.given[-1].classes).tolist())) > 1


# --- stage two ----------------------------------------------------------------------------------------------


def _pair(**values: Any) -> tuple[NestedCoTeaching, Batch]:
    """Two networks before their first step, and a batch of 24."""
    strategy: NestedCoTeaching = started("nested-co-teaching", compression="none", **values)
    stage = noisy_stage()
    for model in strategy.models:
        model.grow(stage)
    strategy.judging = 16
    items = as_items(stage)
    rows = torch.arange(24)
    return strategy, Batch(items.inputs[rows], items.labels[rows], rows)


def _gradients(value: Tensor, model: nn.Module) -> Tensor:
    return torch.cat(
        [g.flatten() for g in torch.autograd.grad(value, list(model.parameters()), retain_graph=True)]
    )


@pytest.mark.parametrize("exchange", ["cross", "self"])
@pytest.mark.parametrize("judge", ["halves", "whole"])
def test_a_network_learns_the_items_that_the_other_one_or_itself_finds_easy(
    judge: str, exchange: str
) -> None:
    """Halves: network 1 judges items 0 to 11 and network 2 items 12 to 23; of every 12, int(0.6 * 12) = 7 are
    kept.
    """
    strategy, batch = _pair(judge=judge, exchange=exchange)
    step = strategy.loss_of_halves if judge == "halves" else strategy.loss_of_whole
    value = step(batch, 0.4, Classifier.__call__)
    judged = [torch.arange(12), torch.arange(12, 24)] if judge == "halves" else [torch.arange(24)] * 2
    easy = []
    for model, rows in zip(strategy.models, judged, strict=True):
        losses = cross_entropy(model(batch.inputs[rows]), batch.labels[rows], reduction="none")
        easy.append(rows[losses.argsort()[: int(0.6 * len(rows))]])
    assert set(easy[0].tolist()) != set(easy[1].tolist())
    learns = easy[::-1] if exchange == "cross" else easy
    for model, rows in zip(strategy.models, learns, strict=True):
        expected = cross_entropy(model(batch.inputs[rows]), batch.labels[rows])
        torch.testing.assert_close(
            _gradients(value, model), _gradients(expected, model), rtol=1e-4, atol=1e-6
        )


def test_halves_are_judged_with_the_channels_that_count_and_learned_with_those_that_are_kept() -> None:
    strategy, batch = _pair(exchange="self")
    strategy.judging = 3

    def compress(network: Any, inputs: Tensor) -> Tensor:
        logits: Tensor = network.head(network.backbone(inputs) * nested.prefix_mask(torch.tensor([5]), 16))
        return logits

    value = strategy.loss_of_halves(batch, 0.5, compress)
    model: Any = strategy.models[0]
    features = model.backbone(batch.inputs[:12])
    judged = cross_entropy(features[:, :3] @ model.head.weight[:, :3].T, batch.labels[:12], reduction="none")
    rows = judged.argsort()[:6]
    expected = cross_entropy(features[rows][:, :5] @ model.head.weight[:, :5].T, batch.labels[rows])
    torch.testing.assert_close(_gradients(value, model), _gradients(expected, model), rtol=1e-4, atol=1e-6)


def test_a_batch_of_one_is_learned_by_one_network() -> None:
    strategy, batch = _pair()
    single = Batch(batch.inputs[:1], batch.labels[:1], batch.rows[:1])
    value = strategy.loss_of_halves(single, 0.4, Classifier.__call__)
    torch.testing.assert_close(value, cross_entropy(strategy.models[1](single.inputs), single.labels))


def _watched(monkeypatch: pytest.MonkeyPatch, **values: Any) -> tuple[list[dict[str, Any]], Any]:
    """What every part of a nested co-teaching is trained with."""
    calls: list[dict[str, Any]] = []
    original = training.train

    def note(
        net: nn.Module, items: Any, loss: Any, optimiser: torch.optim.Optimizer, context: Any, **options: Any
    ) -> None:
        rate = optimiser.param_groups[0]["lr"]
        calls.append(
            {**options, "rates": [rate * options["schedule"](done) for done in (0.0, 0.25, 0.5, 0.99)]}
        )
        original(net, items, loss, optimiser, context, **options)

    for trains in (module, label_learner):
        monkeypatch.setattr(trains, "train", note)
    context = lent(epochs=10)
    started("nested-co-teaching", context, **values).learn(noisy_stage())
    return calls, context


def test_the_parts_share_the_epochs_and_the_second_has_its_own_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, context = _watched(monkeypatch, first_share=0.7, lr=0.2, second_lr=0.1)
    assert [call["epochs"] for call in calls] == [7, 3]
    assert calls[1]["first_epoch"] == 7
    assert calls[0]["rates"] == pytest.approx([0.2] * 4)
    assert calls[1]["rates"] == pytest.approx([0.02] * 4)
    assert context.ended == list(range(1, 11))


def test_warm_up_rises_once_and_not_again_in_stage_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """`warmup` is a share of the training over which the rate rises; stage two of the code has no warm-up."""
    calls, _ = _watched(monkeypatch, warmup=0.5, lr=0.2, second_lr=0.1)
    assert calls[0]["rates"] == pytest.approx([0.2 * 0.02, 0.2 * 0.51, 0.2, 0.2])
    assert calls[1]["rates"] == pytest.approx([0.02] * 4)


def test_the_parts_fall_by_schedules_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    text = {"schedule": "steps[at=2,of=8,factor=0.5]", "second_schedule": "steps[at=0.9,factor=0.1]"}
    calls, _ = _watched(monkeypatch, lr=0.2, second_lr=0.1, **text)
    assert calls[0]["rates"] == pytest.approx([0.2, 0.1, 0.1, 0.1])
    assert calls[1]["rates"] == pytest.approx([0.02, 0.02, 0.02, 0.002])


NORMED = f"{SUPPORT}/own_networks.py:Normed"


@pytest.mark.parametrize("judge", ["whole", "halves"])
@pytest.mark.parametrize("freeze", [True, False])
def test_batch_normalisation_stands_still_in_stage_two_if_told_to(
    freeze: bool, judge: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: list[dict[str, Tensor]] = []
    original = NestedCoTeaching.teach_each_other

    def note(self: NestedCoTeaching, *arguments: Any) -> None:
        before.extend(copy.deepcopy(dict(nn.Module.state_dict(model))) for model in self.models)
        original(self, *arguments)

    monkeypatch.setattr(NestedCoTeaching, "teach_each_other", note)
    strategy = started("nested-co-teaching", lent(epochs=6, backbone=NORMED), freeze_norm=freeze, judge=judge)
    strategy.learn(noisy_stage())
    for model, then in zip(strategy.models, before, strict=True):
        now = nn.Module.state_dict(model)
        for name in ("weight", "bias", "running_mean", "running_var"):
            key = f"backbone.layers.1.{name}"
            assert torch.equal(now[key], then[key]) == freeze, name
        assert not torch.equal(now["head.weight"], then["head.weight"])
        assert all(weights.requires_grad for weights in model.parameters())


@pytest.mark.parametrize("freeze", [True, False])
def test_batch_normalisation_stands_still_in_stage_one_if_told_to(freeze: bool) -> None:
    context, stage = lent(epochs=4, backbone=NORMED), noisy_stage()
    strategy = started("nested-dropout", context, freeze_first=freeze)
    strategy.learn(stage)
    then, now = fresh(context, stage, bias=False).state_dict(), nn.Module.state_dict(strategy.models[0])
    for name in ("weight", "bias", "running_mean", "running_var"):
        key = f"backbone.layers.1.{name}"
        assert torch.equal(now[key], then[key]) == freeze, name
    assert not torch.equal(now["backbone.layers.0.weight"], then["backbone.layers.0.weight"])
    assert all(weights.requires_grad for weights in strategy.models[0].parameters())


@pytest.mark.parametrize("judge", ["whole", "halves"])
def test_a_look_in_the_middle_of_an_epoch_changes_nothing_of_stage_two(judge: str) -> None:
    """The channels by which items are judged are those of the last epoch's end, whoever asks in between."""
    values: dict[str, Any] = {"judge": judge, "second_lr": 1.0, "lr": 0.2, "first_share": 0.2, "sigma": 6.0}
    undisturbed = learned("nested-co-teaching", lent(epochs=12), **values)
    context = Curious(epochs=12)
    strategy = started("nested-co-teaching", context, **values)
    context.learner, context.given = strategy, []
    strategy.learn(noisy_stage())
    assert torch.equal(weights_of(*strategy.models), undisturbed.weights)


@pytest.mark.parametrize("epochs", [12, 55])
def test_stage_two_forgets_by_the_number_of_its_own_epochs(
    epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def note(rate: float, epoch: int, *_: Any) -> float:
        seen.append(epoch)
        return rate

    monkeypatch.setattr(module, "forget_rate", note)
    started("nested-co-teaching", lent(epochs=epochs + 1, batch_size=24), first_share=0.001).learn(
        noisy_stage()
    )
    assert seen == [epoch for epoch in range(epochs) for _ in range(2)]


def test_labels_are_kept_up_to_the_share_of_the_last_stage_and_all_without_stage_two() -> None:
    stage = noisy_stage()
    query = Query(ids=stage.ids, inputs=stage.inputs)
    for values, expected in (({"forget_rate": 0.25}, 36), ({}, int(0.7 * 48)), ({"stage_two": False}, 48)):
        strategy = started("nested-co-teaching", **values)
        strategy.learn(stage)
        assert int(np.sum(strategy.predict(query).kept)) == expected


def test_one_epoch_has_no_stage_two_and_still_learns() -> None:
    strategy = started("nested-co-teaching", lent(epochs=1))
    strategy.learn(noisy_stage())
    assert torch.equal(
        weights_of(*strategy.models), learned("nested-co-teaching", lent(epochs=1), stage_two=False).weights
    )
