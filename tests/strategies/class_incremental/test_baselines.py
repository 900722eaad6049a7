"""The parts of the baselines that are formulas, against plain second implementations and hand calculation."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import FakeContext, stage_of
from torch.nn.functional import cross_entropy
from worlds import Blobs

from harness.cell.run import CellSettings, run_cell
from harness.cell.sealing import build
from harness.contracts import Strategy, TrainingBudget
from harness.plugins import find
from strategies.class_incremental.der import logit_error
from strategies.class_incremental.ewc import EWC, batch_fisher, sample_fisher
from strategies.class_incremental.lwf import distillation
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.training.tensors import Items, items_of


def _model_and_items() -> tuple[Classifier, Items]:
    stage = stage_of(0, np.arange(20) % 3, 3)
    context = FakeContext()
    return Classifier(context).grow(stage), items_of(stage, context)


def test_sample_fisher_is_the_mean_squared_gradient_of_single_items() -> None:
    model, items = _model_and_items()
    expected = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    for row in range(20):
        model.zero_grad()
        cross_entropy(model(items.inputs[row : row + 1]), items.labels[row : row + 1]).backward()
        for name, weight in model.named_parameters():
            assert weight.grad is not None
            expected[name] += weight.grad**2 / 20
    for name, value in sample_fisher(model, items, chunk=7).items():
        torch.testing.assert_close(value, expected[name])


def test_batch_fisher_is_the_mean_squared_gradient_of_batches() -> None:
    model, items = _model_and_items()
    expected = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    for rows in (slice(0, 8), slice(8, 16), slice(16, 20)):
        model.zero_grad()
        cross_entropy(model(items.inputs[rows]), items.labels[rows]).backward()
        for name, weight in model.named_parameters():
            assert weight.grad is not None
            expected[name] += weight.grad**2 / 3
    for name, value in batch_fisher(model, items, 8).items():
        torch.testing.assert_close(value, expected[name])


def test_the_merged_penalty_pulls_like_the_sum_over_stages() -> None:
    """Gradients equal those of sum over k of F_k (w - w_k)^2, written out with every stage's own Fisher and
    weights.
    """
    strategy = EWC(strength=50.0)
    strategy.start(FakeContext(epochs=3))
    remembered = []
    for index in range(3):
        stage = stage_of(index, np.arange(24) % 2 + 2 * index, 2 * index + 2)
        strategy.learn(stage)
        fisher = sample_fisher(strategy.model, items_of(stage, strategy.context))
        remembered.append(
            (fisher, {name: weight.detach().clone() for name, weight in strategy.model.named_parameters()})
        )
    with torch.no_grad():
        for weight in strategy.model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    merged = torch.autograd.grad(strategy.penalty(), list(strategy.model.parameters()))
    written_out = sum(
        (fisher[name] * (weight[: len(fisher[name])] - then[name]) ** 2).sum()
        for fisher, then in remembered
        for name, weight in strategy.model.named_parameters()
    )
    expected = torch.autograd.grad(written_out, list(strategy.model.parameters()))
    for ours, theirs in zip(merged, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_distillation_by_hand() -> None:
    """Old distribution (3/4, 1/4), new (1/2, 1/2): KL = 3/4 ln(3/2) + 1/4 ln(1/2)."""
    old = torch.log(torch.tensor([[9.0, 1.0]]))  # at temperature 2 its softmax is (3/4, 1/4)
    value = distillation(torch.zeros(1, 2), old, 2.0)
    assert float(value) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_distillation_is_a_mean_over_items() -> None:
    logits, old = torch.randn(6, 4), torch.randn(6, 4)
    single = [float(distillation(logits[i : i + 1], old[i : i + 1], 2.0)) for i in range(6)]
    assert float(distillation(logits, old, 2.0)) == pytest.approx(np.mean(single), rel=1e-5)


def test_logit_error_leaves_out_what_was_not_known() -> None:
    logits = torch.tensor([[1.0, 2.0], [3.0, 100.0]])
    stored = torch.tensor([[0.0, 0.0], [1.0, math.nan]])
    assert float(logit_error(logits, stored)) == pytest.approx((1 + 4 + 4) / 3)


def _accuracy(strategy: Strategy, tmp_path: Path, seed: int) -> float:
    scenario = Blobs(stages=4)
    sealed = build(scenario, seed)
    settings = CellSettings(
        root_seed=seed, budget=TrainingBudget(backbone="mlp[width=32,depth=1]", epochs=20, batch_size=8)
    )
    answers = [
        a
        for result in run_cell(strategy, sealed.episodes, settings, scratch=tmp_path)
        for a in result.answers
    ]
    return scenario.score(sealed.truth, answers).final["average_accuracy"]


def test_rehearsal_stands_between_the_bounds(tmp_path: Path) -> None:
    """At a rate small enough for these inputs, which are three times as large as images."""
    lower, replay, der, upper = (
        np.mean([_accuracy(find("strategy", each).cls(lr=0.01), tmp_path, seed) for seed in range(3)])
        for each in ("fine-tune", "replay", "der", "joint")
    )
    assert lower + 0.2 < replay <= upper + 0.02
    assert lower + 0.2 < der <= upper + 0.02
    assert upper > 0.9


def test_a_penalty_of_zero_is_fine_tuning(tmp_path: Path) -> None:
    fine_tune = _accuracy(find("strategy", "fine-tune").cls(), tmp_path, 0)
    assert _accuracy(EWC(strength=0.0), tmp_path, 0) == fine_tune
    assert _accuracy(find("strategy", "lwf").cls(strength=0.0), tmp_path, 0) == fine_tune
