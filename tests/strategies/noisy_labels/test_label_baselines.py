"""Baselines of noisy labels against loops written from their cards, what all learners have in common, and
that every switch does something.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from noisy_problem import (
    LEARNERS,
    QUERY,
    Curious,
    Learned,
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
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness import checkpoint
from harness.cell.run import CellSettings, learner_seed, run_cell
from harness.cell.sealing import build
from harness.contracts import NoiseInfo, Prediction, Query, Stage
from harness.errors import Unsuitable, UserError
from harness.parameters import model_of
from harness.plugins import find
from harness.protocol.cells import cells, contenders, protocols
from harness.selection import configured
from strategies.noisy_labels import dividemix
from strategies.noisy_labels.base import LabelLearner, noise_rate
from strategies.noisy_labels.dividemix import Draws, Mixing, chance_of_right
from strategies.noisy_labels.loss_correction import anchor_matrix
from strategies.noisy_labels.state_list import Together
from strategies.toolkit.augmentations import augmentation_of, generator_of
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.label_memory import LabelMemory, noise_score
from strategies.toolkit.training.tensors import Items


def trained(
    loss: Callable[[Classifier, int, Tensor], Any], context: Any, stage: Stage, *, bias: bool = True
) -> Classifier:
    """A bare loop: one network, one stage; `loss` of (network, epoch, rows)."""
    network = fresh(context, stage, bias=bias)
    optimiser = plain_sgd(network)
    for epoch, rows in passes(context, len(stage.labels), context.epochs):
        optimiser.zero_grad()
        torch.autograd.backward(loss(network, epoch, rows))
        optimiser.step()
    return network


# --- every parameter does something -------------------------------------------------------------------------

# Other values for parameters that no ablation switches; with the further values that make the parameter
# matter.
_COMMON: list[tuple[str, Any, dict[str, Any]]] = [
    ("lr", 0.02, {}),
    ("momentum", 0.5, {}),
    ("weight_decay", 0.1, {}),
    ("schedule", "cosine", {}),
    ("optimiser", "adamw", {}),
    ("rate_changes", "epoch", {"schedule": "cosine"}),
    ("components", "rate[factor=0.5]", {}),
]
_NESTED: list[tuple[str, Any, dict[str, Any]]] = [
    ("mu", 9.0, {"sigma": 3.0}),
    ("dropout", 0.6, {"compression": "dropout"}),
    ("k", 3, {"choose": "fixed", "k": 9}),
    ("warmup", 0.5, {}),
    ("penalty", 0.5, {"keep_best": False}),
]
FURTHER: dict[str, list[tuple[str, Any, dict[str, Any]]]] = {
    "cross-entropy": [("loss", "sce", {}), ("schedule", "steps", {})],
    "gce": [("truncate_from", 0.9, {"truncation": 0.5}), ("truncate_every", 1, {"truncation": 0.5})],
    "z-loss": [("b", 0.5, {})],
    "loss-correction": [("matrix", "told", {}), ("estimate_share", 0.7, {})],
    "co-teaching": [("forget_rate", 0.6, {}), ("exponent", 3.0, {}), ("loss", "gce", {})],
    "dividemix": [
        ("warmup", 0.6, {}),
        ("threshold", 0.7, {}),
        ("alpha", 0.3, {}),
        ("unlabelled_ramp", 1, {}),
    ],
    "elr": [("clamp", 0.05, {})],
    "elr-plus": [("beta", 0.2, {}), ("clamp", 0.05, {}), ("average_ramp", 0.5, {})],
    "nested-dropout": _NESTED,
    "nested-co-teaching": [
        *_NESTED,
        ("first_share", 0.2, {}),
        ("forget_rate", 0.6, {}),
        ("exponent", 3.0, {"ramp": 2}),
        ("second_schedule", "cosine", {}),
    ],
}
# The sum-exponential loss (tau = 0) has no bound: at the default rate it leaves the finite numbers.
GIVEN: dict[str, dict[str, Any]] = {"comp-sum": {"lr": 0.005}}
# What changes nothing here, by definition.
NOTHING = {
    ("elr-plus", "reweighting", "off"): "auto is off with any number of classes but 100",
    (
        "elr-plus",
        "average_decay",
        0.997,
    ): "after step s the decay is min(1 - 1/(s + 1), decay): below 100 steps, 0.99 and 0.997 are the same",
}
NEEDS_NORM = "needs batch normalisation: test_nested"
ELSEWHERE = {
    ("nested-co-teaching", "freeze_norm"): NEEDS_NORM,
    ("nested-co-teaching", "freeze_first"): NEEDS_NORM,
    ("nested-dropout", "freeze_first"): NEEDS_NORM,
    ("nested-co-teaching", "layers"): "needs two layers: test_nested",
    ("nested-dropout", "layers"): "needs two layers: test_nested",
}


def _switches() -> Iterator[tuple[str, str, Any, dict[str, Any]]]:
    for name in LEARNERS:
        for parameter, field in model_of(_class(name)).model_fields.items():
            extra = field.json_schema_extra
            assert isinstance(extra, dict)
            declared: Any = extra["ablate"]
            yield from ((name, parameter, value, GIVEN.get(name, {})) for value in declared)
        yield from ((name, *further) for further in [*_COMMON, *FURTHER.get(name, [])])


def _class(name: str) -> Any:
    return find("strategy", name).cls


@cache
def _learned(name: str, values: frozenset[tuple[str, Any]]) -> Learned:
    return learned(name, lent(epochs=8), **dict(values))


def _same(first: Learned, second: Learned) -> bool:
    return torch.equal(first.weights, second.weights) and torch.equal(first.logits, second.logits)


@pytest.mark.parametrize(("name", "parameter", "value", "given"), _switches(), ids=str)
def test_every_switch_changes_what_is_learned(
    name: str, parameter: str, value: Any, given: dict[str, Any]
) -> None:
    plain = _learned(name, frozenset(given.items()))
    switched = _learned(name, frozenset({**given, parameter: value}.items()))
    assert _same(plain, switched) == ((name, parameter, value) in NOTHING)


@pytest.mark.parametrize("name", LEARNERS)
def test_no_parameter_is_left_out(name: str) -> None:
    switched = {parameter for other, parameter, _, _ in _switches() if other == name} | {
        p for n, p in ELSEWHERE if n == name
    }
    assert set(model_of(_class(name)).model_fields) == switched


@pytest.mark.parametrize(
    "text", [f"{name}[preset={p}]" for name in LEARNERS for p in find("strategy", name).cls.presets]
)
def test_presets_are_valid_and_say_where_they_come_from(text: str) -> None:
    name, _, preset = text[:-1].partition("[preset=")
    strategy, said = configured("strategy", text), find("strategy", name).cls.presets[preset]
    assert {key: getattr(strategy, key) for key in said.values} == dict(said.values)
    assert said.source


# --- what all learners have in common -----------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [1, 2, 5])
@pytest.mark.parametrize("name", LEARNERS)
def test_learners_take_the_passes_of_the_protocol_and_no_more(name: str, epochs: int) -> None:
    context = lent(epochs=epochs)
    learned(name, context)
    assert context.ended == list(range(1, epochs + 1))
    assert len(context.probes) == 6 * epochs


@pytest.mark.parametrize("values", [{}, {"lr": 0.5}], ids=str)
@pytest.mark.parametrize("name", LEARNERS)
def test_a_look_in_mid_stage_changes_nothing_that_is_learned(name: str, values: dict[str, Any]) -> None:
    undisturbed = learned(name, lent(epochs=6), **values)
    context = Curious(epochs=6)
    strategy = started(name, context, **values)
    context.learner, context.given = strategy, []
    torch.manual_seed(0)
    strategy.learn(noisy_stage())
    assert context.given
    assert torch.equal(weights_of(*strategy.models), undisturbed.weights)


@pytest.mark.parametrize("name", ["elr", "elr-plus", "co-teaching", "nested-co-teaching", "dividemix"])
def test_a_learner_continues_from_its_state_to_the_same_answers(name: str, tmp_path: Path) -> None:
    """Through the file of a checkpoint, into a stream with new classes; items of both stages are asked about
    their labels.
    """
    first, second = noisy_stage(0), noisy_stage(1)
    query = Query(
        ids=np.concatenate([first.ids, QUERY.ids, second.ids]),
        inputs=np.concatenate(
            [np.asarray(first.inputs), np.asarray(QUERY.inputs), np.asarray(second.inputs)]
        ),
    )
    whole = started(name)
    whole.learn(first)
    checkpoint.save(tmp_path / "state.pt", whole.state())
    resumed = started(name)
    resumed.load_state(checkpoint.load(tmp_path / "state.pt"))
    answers = []
    for strategy in (whole, resumed):
        answered = [strategy.predict(query).arrays()]
        strategy.learn(second)
        answers.append([*answered, strategy.predict(query).arrays()])
    assert set(answers[0][1]) == {"classes", "suspicion", "kept", "label_losses"}
    for ours, theirs in zip(*answers, strict=True):
        for field, values in ours.items():
            np.testing.assert_array_equal(values, theirs[field])
    asked = np.isin(query.ids, QUERY.ids)
    assert not answers[0][1]["suspicion"][asked].any()
    assert answers[0][1]["label_losses"][~asked].all()


class _Fixed(LabelLearner):
    """Two networks of known logits."""

    known = torch.tensor([[[2.0, 0, 0], [0, 1, 0], [0, 0, 0]], [[0.0, 0, 1], [0, 3, 0], [0, 0, 5]]])

    def fit(self, stage: Stage, items: Items, first: int) -> None:
        pass

    def logits(self, inputs: Tensor) -> Tensor:
        return self.known[:, inputs[:, 0].long()]


def test_a_learner_answers_the_mean_logits_and_doubts_by_the_mean_probability() -> None:
    learner = _Fixed()
    learner.start(lent())
    inputs = np.zeros((3, 5), dtype=np.float32)
    inputs[:, 0] = [0, 1, 2]
    learner.learn(
        Stage(
            index=0,
            ids=np.array([7, 5, 3]),
            inputs=inputs,
            labels=np.array([2, 1, 0]),
            named_classes=3,
            new_classes=3,
        )
    )
    answer = learner.predict(Query(ids=np.array([3, 9, 7, 5]), inputs=inputs[[2, 1, 0, 1]]))
    assert answer.classes is not None
    assert answer.label_losses is not None
    assert answer.suspicion is not None
    assert answer.kept is not None
    mean = _Fixed.known.mean(dim=0).numpy()
    p = np.exp(_Fixed.known.numpy()) / np.exp(_Fixed.known.numpy()).sum(axis=2, keepdims=True)
    p = p.mean(axis=0)
    assert answer.classes.tolist() == [2, 1, 0, 1]
    loss = [np.log(np.exp(mean[row]).sum()) - mean[row, label] for row, label in ((2, 0), (0, 2), (1, 1))]
    np.testing.assert_allclose(answer.label_losses, [loss[0], 0, loss[1], loss[2]], rtol=1e-5)
    expected = [
        p[2, 2] / (p[2, 2] + p[2, 0]),
        0,
        p[0, 0] / (p[0, 0] + p[0, 2]),
        p[1, 0] / (p[1, 0] + p[1, 1]),
    ]
    np.testing.assert_allclose(answer.suspicion, expected, rtol=1e-5)
    assert answer.kept.tolist() == [0, 0, 0, 1]


def test_doubt_by_hand() -> None:
    distribution = torch.tensor(
        [[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [1.0, 0, 0], [0, 0, 0], [0.4, 0.4, 0.2]]
    )
    labels = torch.tensor([0, 1, 2, 1, 2, 1])
    assert noise_score(distribution, labels).tolist() == pytest.approx(
        [0.3 / 0.8, 0.5 / 0.8, 0.5 / 0.7, 1, 0, 0.5]
    )


def test_the_memory_finds_labels_by_id_and_numbers_rows_in_order_of_arrival() -> None:
    memory = LabelMemory()
    assert [len(found) for found in memory.find(np.array([3, 4]))] == [0, 0]
    stages = [noisy_stage(0, items=6), noisy_stage(1, items=4)]
    assert [memory.add(stage) for stage in stages] == [0, 6]
    assert len(memory) == 10
    asked = np.array([103, 5000, 2, -4, 100, 55, 2])
    places, rows = memory.find(asked)
    assert places.tolist() == [0, 2, 4, 6]
    np.testing.assert_array_equal(memory.ids[rows], [103, 2, 100, 2])
    every = dict(
        zip(
            np.concatenate([stage.ids for stage in stages]),
            np.concatenate([stage.labels for stage in stages]),
            strict=True,
        )
    )
    assert memory.labels[rows].tolist() == [every[place] for place in (103, 2, 100, 2)]
    prediction = Prediction(classes=np.zeros(7))
    judged = memory.judged(
        prediction, asked, torch.tensor([1.0, 2, 3, 4]), torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.ones(4)
    )
    np.testing.assert_allclose(np.asarray(judged.label_losses), [1, 0, 2, 0, 3, 0, 4])
    np.testing.assert_allclose(np.asarray(judged.suspicion), [0.1, 0, 0.2, 0, 0.3, 0, 0.4], rtol=1e-6)
    np.testing.assert_allclose(np.asarray(judged.kept), [1, 0, 1, 0, 1, 0, 1])
    other = LabelMemory()
    other.load_state_dict(memory.state_dict())
    memory.add(noisy_stage(2, items=3))
    assert len(other) == 10
    np.testing.assert_array_equal(other.find(asked)[1], rows)


def test_states_kept_together_need_as_many_things() -> None:
    pair = Together([torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)])
    other = Together([torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)])
    other.load_state_dict(pair.state_dict())
    assert torch.equal(weights_of(*other), weights_of(*pair))
    with pytest.raises(ValueError, match="zip"):
        Together([torch.nn.Linear(2, 1)]).load_state_dict(pair.state_dict())


def test_the_share_of_wrong_labels_is_said_or_told_or_missing() -> None:
    assert noise_rate(noisy_stage(), 0.1) == 0.1
    assert noise_rate(noisy_stage(), 0.0) == 0.0
    assert noise_rate(noisy_stage(), -1.0) == 0.3
    with pytest.raises(Unsuitable, match=r"set forget_rate, or let the protocol tell it \(told=rate\)"):
        noise_rate(noisy_stage(told=False), -1.0)


# --- loss correction ----------------------------------------------------------------------------------------


def test_anchors_are_the_surest_items_or_those_just_below_a_quantile() -> None:
    p = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    torch.testing.assert_close(anchor_matrix(p, 1.0), p[[0, 2]])
    torch.testing.assert_close(anchor_matrix(p, 0.97), p[[1, 3]])
    rising = torch.linspace(0.001, 0.999, 100)
    many = torch.stack([rising, 1 - rising], dim=1)
    # the 0.97 quantile lies between the 97th and 98th of 100: the 98th and all above are out, so the 97th is
    # the anchor
    torch.testing.assert_close(anchor_matrix(many, 0.97), many[[96, 3]])


@pytest.mark.parametrize("told", [None, NoiseInfo(rate=0.3)])
def test_correction_by_a_told_matrix_needs_one(told: NoiseInfo | None) -> None:
    from dataclasses import replace

    with pytest.raises(Unsuitable, match="does not tell"):
        started("loss-correction", matrix="told").learn(replace(noisy_stage(), noise_info=told))


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_correction_by_a_told_matrix_trains_on_the_matrix_formula(direction: str) -> None:
    context, stage = lent(), noisy_stage()
    items = as_items(stage)
    assert stage.noise_info is not None
    assert stage.noise_info.matrix is not None
    matrix = torch.from_numpy(stage.noise_info.matrix)

    def loss(network: Classifier, _: int, rows: Tensor) -> Any:
        logs = network(items.inputs[rows]).log_softmax(dim=1)
        each = -(logs.exp() @ matrix).log() if direction == "forward" else -logs @ matrix.inverse().T
        return each[torch.arange(len(rows)), items.labels[rows]].mean()

    strategy = started("loss-correction", context, matrix="told", direction=direction)
    strategy.learn(stage)
    torch.testing.assert_close(
        weights_of(*strategy.models), weights_of(trained(loss, context, stage)), rtol=1e-4, atol=1e-5
    )


def test_an_estimated_matrix_is_what_cross_entropy_predicts_for_anchors_after_its_share() -> None:
    context, stage = lent(epochs=6), noisy_stage()
    items = as_items(stage)
    network = fresh(context, stage)
    optimiser = plain_sgd(network)

    def learn(epochs: int, loss: Callable[[Tensor, Tensor], Any]) -> None:
        for _, rows in passes(context, 48, epochs):
            optimiser.zero_grad()
            torch.autograd.backward(loss(network(items.inputs[rows]), items.labels[rows]))
            optimiser.step()

    learn(2, cross_entropy)  # a third of six
    p = network(items.inputs).softmax(dim=1).detach()
    matrix = p[p.argmax(dim=0)]
    learn(
        4,
        lambda logits, labels: (
            -(logits.softmax(dim=1) @ matrix).log()[torch.arange(len(labels)), labels].mean()
        ),
    )
    strategy = started("loss-correction", context, estimate_share=0.33)
    strategy.learn(stage)
    torch.testing.assert_close(weights_of(*strategy.models), weights_of(network), rtol=1e-3, atol=1e-4)


# --- mixup, self-distillation, truncation -------------------------------------------------------------------


def test_mixup_trains_on_mixed_inputs_and_soft_labels() -> None:
    context, stage = lent(), noisy_stage()
    items, rng = as_items(stage), context.stream("mixup")
    onehot = torch.eye(3)[items.labels]

    def loss(network: Classifier, _: int, rows: Tensor) -> Any:
        w = float(rng.beta(0.5, 0.5))
        other = rows[torch.from_numpy(rng.permutation(len(rows)))]
        targets = w * onehot[rows] + (1 - w) * onehot[other]
        logs = network(w * items.inputs[rows] + (1 - w) * items.inputs[other]).log_softmax(dim=1)
        return -(targets * logs).sum() / len(rows)

    strategy = started("mixup", context, alpha=0.5)
    strategy.learn(stage)
    torch.testing.assert_close(
        weights_of(*strategy.models), weights_of(trained(loss, context, stage)), rtol=1e-4, atol=1e-5
    )


def test_self_distillation_leans_on_the_prediction_of_the_epoch_before() -> None:
    """a = 0.9 (e + 1) / E, and in the first epoch the label alone."""
    context, stage = lent(epochs=3), noisy_stage()
    items = as_items(stage)
    onehot = torch.eye(3)[items.labels]
    visits: dict[tuple[int, int], Tensor] = {(-1, row): onehot[row] for row in range(48)}

    def loss(network: Classifier, epoch: int, rows: Tensor) -> Any:
        a = 0.9 * (epoch + 1) / 3
        p = network(items.inputs[rows]).softmax(dim=1)
        targets = torch.stack([(1 - a) * onehot[row] + a * visits[epoch - 1, row] for row in rows.tolist()])
        visits.update({(epoch, row): own for row, own in zip(rows.tolist(), p.detach(), strict=True)})
        return -(targets * p.log()).sum() / len(rows)

    strategy = started("ps-kd", context, trust=0.9)
    strategy.learn(stage)
    torch.testing.assert_close(
        weights_of(*strategy.models), weights_of(trained(loss, context, stage)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("epochs", [49, 100])
def test_trust_in_the_own_prediction_rises_in_every_epoch(
    epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """a = 0.8 (e + 1) / E, also where (e / E) E is rounded to a little less than e."""
    from strategies.noisy_labels import ps_kd

    seen: list[float] = []

    def note(logits: Tensor, targets: Tensor) -> Tensor:
        seen.append(float(1 - targets.amax(dim=1).max()))
        return logits.sum(dim=1) * 0

    monkeypatch.setattr(ps_kd, "soft_cross_entropy", note)
    started("ps-kd", lent(epochs=epochs, batch_size=48), lr=1e-9, weight_decay=0.0).learn(noisy_stage())
    # nothing moves, so the target of the surest item is 1 - a (1 - p_y), after an epoch of plain labels
    shares = np.array(seen[1:]) / seen[-1]
    np.testing.assert_allclose(shares, np.arange(2, epochs + 1) / epochs, rtol=1e-3)


def test_truncation_drops_what_has_become_unlikely_and_takes_it_back() -> None:
    """From epoch int(0.34 * 6) = 2 on, every second epoch, by the network of that moment."""
    context, stage = lent(epochs=6), noisy_stage()
    items = as_items(stage)
    counts, numbers = torch.ones(48), []
    state = {"epoch": -1}

    def loss(network: Classifier, epoch: int, rows: Tensor) -> Any:
        if epoch != state["epoch"] and epoch in (2, 4):
            p = network(items.inputs).detach().softmax(dim=1)[torch.arange(48), items.labels]
            counts[:] = (p > 0.4).float()
            numbers.append(int(counts.sum()))
        state["epoch"] = epoch
        own = network(items.inputs[rows]).softmax(dim=1)[torch.arange(len(rows)), items.labels[rows]]
        return (counts[rows] * (1 - own**0.7) / 0.7).sum() / len(rows)

    strategy = started("gce", context, truncation=0.4, truncate_from=0.34, truncate_every=2)
    strategy.learn(stage)
    torch.testing.assert_close(
        weights_of(*strategy.models), weights_of(trained(loss, context, stage)), rtol=1e-4, atol=1e-5
    )
    assert all(0 < number < 48 for number in numbers)


# --- DivideMix ----------------------------------------------------------------------------------------------


def test_small_losses_are_right_and_large_ones_wrong_whatever_their_scale() -> None:
    rng = np.random.default_rng(0)
    values = torch.from_numpy(np.concatenate([rng.normal(0.5, 0.1, 300), rng.normal(3, 0.3, 200)])).float()
    chances = chance_of_right(values)
    assert float(chances[:300].min()) > 0.99
    assert float(chances[300:].max()) < 0.01
    torch.testing.assert_close(chance_of_right(7 * values + 2), chances, atol=1e-4, rtol=0)
    torch.testing.assert_close(chance_of_right(values.flip(0)), chances.flip(0), atol=1e-3, rtol=0)


def test_chances_lie_where_bayes_has_them() -> None:
    """Overlapping Gaussians of weights 0.6 and 0.4: the posterior in closed form, where the mixture has
    something to decide.
    """
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(0, 1, 6000), rng.normal(4, 1, 4000)])
    expected = 1 / (1 + 0.4 / 0.6 * np.exp((values**2 - (values - 4) ** 2) / 2))
    np.testing.assert_allclose(chance_of_right(torch.from_numpy(values)).numpy(), expected, atol=0.06)


def test_losses_that_are_all_equal_give_chances() -> None:
    chances = chance_of_right(torch.full((20,), 1.5))
    assert ((chances >= 0) & (chances <= 1)).all()


def test_each_network_learns_from_the_division_of_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = started("dividemix")
    stage = noisy_stage()
    for model in strategy.models:
        model.grow(stage)
    items = as_items(stage)
    mixing = Mixing(strategy, stage, items)
    monkeypatch.setattr(dividemix, "chance_of_right", lambda losses: losses)
    mixing.divide()
    for place in range(2):
        expected = cross_entropy(strategy.models[1 - place](items.inputs), items.labels, reduction="none")
        torch.testing.assert_close(mixing.right[place], expected.detach())


def test_a_division_that_believes_no_label_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dividemix, "chance_of_right", torch.zeros_like)
    with pytest.raises(UserError, match=r"no label is taken for right at threshold=0\.5; lower it"):
        started("dividemix").learn(noisy_stage())


@pytest.mark.parametrize("all_right", [False, True])
@pytest.mark.parametrize("augmentations", ["same", "noise[std=0.5]"])
def test_divide_and_mix_is_the_loss_of_the_card(
    augmentations: str, all_right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refinement and guesses, sharpened; mixup with a share of at least a half; CE + weight MSE + divergence
    from uniform.
    """
    context, stage = lent(augmentations=augmentations), noisy_stage()
    strategy = started("dividemix", context, balance=0.7, temperature=0.4, alpha=2.0)
    models = strategy.models
    for model in models:
        model.grow(stage)
    items = as_items(stage)
    chances = (
        torch.from_numpy(np.random.default_rng(3).random(48))
        .float()
        .sqrt()
        .clamp(0.6 if all_right else 0.0, 1)
    )
    monkeypatch.setattr(dividemix, "chance_of_right", lambda _: chances)
    mixing = Mixing(strategy, stage, items)
    mixing.divide()
    value = mixing.loss(1, 10, 2.5)

    rng, generator, view = (
        context.stream("mixing"),
        generator_of(context, "views"),
        augmentation_of(augmentations),
    )
    looks = 1 if augmentations == "same" else 2

    def dealt(rows: Tensor) -> Tensor:
        return rows[torch.from_numpy(rng.permutation(len(rows)))][:10]

    def answers(model: Classifier, inputs: Tensor) -> Any:
        return model(inputs).detach().softmax(dim=1)

    def powered(p: Tensor) -> Any:
        return p**2.5 / (p**2.5).sum(dim=1, keepdim=True)

    with torch.no_grad():
        sure = dealt(torch.nonzero(chances > 0.5)[:, 0])
        seen = [view(items.inputs[sure], generator) for _ in range(looks)]
        w = chances[sure][:, None]
        refined = (
            w * torch.eye(3)[items.labels[sure]]
            + (1 - w) * sum(answers(models[1], one) for one in seen) / looks
        )
        inputs, targets = list(seen), [powered(refined)] * looks
        if not all_right:
            unsure = dealt(torch.nonzero(chances <= 0.5)[:, 0])
            seen = [view(items.inputs[unsure], generator) for _ in range(looks)]
            guessed = torch.stack([answers(model, one) for model in models for one in seen]).mean(dim=0)
            inputs, targets = inputs + seen, targets + [powered(guessed)] * looks
    x, y = torch.cat(inputs), torch.cat(targets)
    share = float(rng.beta(2.0, 2.0))
    share = max(share, 1 - share)
    other = torch.from_numpy(rng.permutation(len(x)))
    p = models[1](share * x + (1 - share) * x[other]).softmax(dim=1)
    y = share * y + (1 - share) * y[other]
    supervised = 10 * looks
    expected = -(y[:supervised] * p[:supervised].log()).sum(dim=1).mean()
    if not all_right:
        expected = expected + 2.5 * ((p[supervised:] - y[supervised:]) ** 2).mean()
    mean = p.mean(dim=0)
    expected = expected + 0.7 * (torch.log(1 / 3 / mean) / 3).sum()
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    ours, theirs = (torch.autograd.grad(one, list(models[1].parameters())) for one in (value, expected))
    for own, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-4, atol=1e-6)


def test_the_weight_of_the_unlabelled_rises_in_a_line_after_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def note(self: Mixing, place: int, size: int, weight: float) -> Tensor:
        seen.append(weight)
        return sum((w.sum() for w in self.learner.models[place].parameters()), torch.zeros(())) * 0

    monkeypatch.setattr(Mixing, "loss", note)
    monkeypatch.setattr(dividemix, "chance_of_right", torch.ones_like)
    started("dividemix", lent(epochs=10), warmup=0.2, unlabelled=50.0, unlabelled_ramp=4).learn(noisy_stage())
    expected = [50 * min(step / 6 / 4, 1) for step in range(8 * 6) for _ in range(2)]
    assert seen == pytest.approx(expected)


def test_every_row_is_dealt_once_before_any_comes_again() -> None:
    chosen = torch.tensor([False, True, True, False, True, True, True, False])
    draws = Draws(chosen, np.random.default_rng(0))
    dealt = torch.cat([draws.take(size) for size in (3, 1, 4, 2, 13, 7)]).tolist()
    rounds = [dealt[at : at + 5] for at in range(0, 30, 5)]
    assert all(sorted(one) == [1, 2, 4, 5, 6] for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1, "in another order each time"
    assert set(Counter(dealt).values()) == {6}


def test_labels_are_judged_by_both_networks_at_the_end_of_their_stage() -> None:
    strategy = started("dividemix")
    stages = [noisy_stage(0), noisy_stage(1)]
    expected = []
    for stage in stages:
        strategy.learn(stage)
        items = as_items(stage)
        each = [
            chance_of_right(cross_entropy(model.evaluated(items.inputs), items.labels, reduction="none"))
            for model in strategy.models
        ]
        expected.append((each[0] + each[1]) / 2)
    chances = torch.cat(expected)
    rows = np.array([5, 60, 0])
    noise_scores, kept = strategy.judge_labels(torch.zeros(2, 3, 6), torch.zeros(3), rows)
    torch.testing.assert_close(noise_scores, 1 - chances[rows])
    assert kept.tolist() == (chances[rows] > 0.5).tolist()


# --- the effect ---------------------------------------------------------------------------------------------


def test_early_learning_regularisation_memorises_less_than_cross_entropy(tmp_path: Path) -> None:
    """Digits, 40 % symmetric noise, 30 epochs; measured: 11 % of the wrong labels are memorised by
    cross-entropy, 1 % by ELR.
    """
    text = "noisy-labels[preset=digits,epochs=30,noise=symmetric[rate=0.4],probe_epochs=0,tail=1]"
    figures = []
    for cell in cells(protocols([text]), contenders(["cross-entropy", "elr"]), 1):
        scenario = cell.protocol.scenario
        sealed = build(scenario, cell.seed)
        settings = CellSettings(
            root_seed=learner_seed(cell.seed),
            budget=scenario.budget(),
            needed=scenario.answers,
            probed=scenario.probed,
        )
        strategy = cell.contender.plugin.cls(**cell.contender.params)
        results = list(run_cell(strategy, sealed.episodes, settings, scratch=tmp_path))
        figures.append(
            scenario.score(sealed.truth, [answer for result in results for answer in result.answers]).final
        )
    plain, regularised = figures
    assert regularised["memorised"] < 0.4 * plain["memorised"]
    assert regularised["corrected"] > plain["corrected"] + 0.08
    assert regularised["last_accuracy"] > plain["last_accuracy"] + 0.03
    assert regularised["wrong_auroc"] > plain["wrong_auroc"]
