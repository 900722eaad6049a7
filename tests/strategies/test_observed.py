"""What strategies show to probes: the features below their last layer, that layer, and what they answer by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.cell.run import CellContext, run_cell, settings_of
from harness.cell.sealing import build
from harness.contracts import Observation, Strategy
from harness.selection import configured

TINY = {
    "cil": "smoke[gradient_steps=2,items=8]",
    "noisy": "smoke[over=noisy-labels,gradient_steps=2,items=8]",
    "cgcd": "smoke[over=cgcd,gradient_steps=2,items=8]",
    "ncd": "smoke[over=ncd,gradient_steps=2,items=8]",
    "grokking": "grokking[preset=tiny]",
    "anomaly": "smoke[over=anomaly,gradient_steps=2,items=8]",
}


def shown(strategy: str, scenario: str, scratch: Path) -> tuple[Strategy, Any, Observation | None]:
    """Learn a cell; return the strategy, the last query, and what it shows of the items of the query."""
    world, own = configured("scenario", TINY[scenario]), configured("strategy", strategy)
    episodes = build(world, 0).episodes
    list(run_cell(own, episodes, settings_of(world, 0), scratch=scratch))
    query = episodes[-1].query
    return own, query, own.observed(query.inputs)


@pytest.mark.parametrize(
    ("strategy", "scenario"),
    [
        ("fine-tune", "cil"),
        ("lwf", "cil"),
        ("der", "cil"),
        ("elr", "noisy"),
        ("grok-adamw", "grokking"),
        pytest.param("avalanche-naive", "cil", marks=pytest.mark.slow),  # avalanche takes seconds to load
    ],
)
def test_logits_follow_from_features_and_head_and_are_what_is_answered(
    strategy: str, scenario: str, tmp_path: Path
) -> None:
    own, query, seen = shown(strategy, scenario, tmp_path)
    assert (
        seen is not None and seen.features is not None and seen.head is not None and seen.logits is not None
    )
    bias = 0 if seen.bias is None else seen.bias
    np.testing.assert_allclose(seen.features @ seen.head.T + bias, seen.logits, rtol=1e-3, atol=1e-4)
    answered = own.predict(query).classes
    assert (seen.logits.argmax(axis=1) == answered).all()


@pytest.mark.parametrize(("strategy", "scenario"), [("happy", "cgcd"), ("uno", "ncd")])
def test_discovery_shows_cosines_to_rows_of_unit_length(strategy: str, scenario: str, tmp_path: Path) -> None:
    _, _, seen = shown(strategy, scenario, tmp_path)
    assert seen is not None and seen.features is not None and seen.logits is not None
    unit = seen.features / np.linalg.norm(seen.features, axis=1, keepdims=True)
    if scenario == "cgcd":
        assert seen.head is not None
        np.testing.assert_allclose(unit @ seen.head.T, seen.logits, atol=1e-5)
    else:
        assert seen.head is None  # heads of novel classes do not stand on the features
        assert np.abs(seen.logits).max() <= 1.01


@pytest.mark.slow
def test_the_classifier_that_icarl_trains_is_shown_though_it_answers_by_class_means(tmp_path: Path) -> None:
    _, _, seen = shown("avalanche-icarl", "cil", tmp_path)
    assert seen is not None and seen.features is not None and seen.head is not None
    assert seen.logits is None and seen.head.shape[1] == seen.features.shape[1]


@pytest.mark.parametrize(("strategy", "scenario"), [("padim", "anomaly"), ("closed-form", "grokking")])
def test_what_has_no_network_shows_nothing(strategy: str, scenario: str, tmp_path: Path) -> None:
    own, query, seen = shown(strategy, scenario, tmp_path)
    assert seen is None
    assert own.surface(query.inputs, np.zeros(len(query.ids), dtype=np.int64)) is None


def test_nothing_is_shown_before_there_is_a_network(tmp_path: Path) -> None:
    for strategy, scenario in (("fine-tune", "cil"), ("happy", "cgcd"), ("uno", "ncd")):
        world, own = configured("scenario", TINY[scenario]), configured("strategy", strategy)
        own.start(CellContext(settings=settings_of(world, 0), scratch=tmp_path, on_progress=lambda *_: None))
        assert own.observed(np.zeros((2, 1, 8, 8), dtype=np.float32)) is None


def test_a_surface_is_the_loss_around_the_weights_and_changes_nothing(tmp_path: Path) -> None:
    own, _, _ = shown("fine-tune", "cil", tmp_path)
    stage = build(configured("scenario", TINY["cil"]), 0).episodes[-1].stage
    surface = own.surface(stage.inputs, stage.labels)
    assert surface is not None and (surface.rate, surface.momentum) == (0.05, 0.9)
    seen = own.observed(stage.inputs)
    assert seen is not None and seen.logits is not None
    logits = torch.from_numpy(seen.logits)
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(stage.labels))
    loss = surface.loss(slice(None))
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-5)
    gradients = torch.autograd.grad(loss, surface.parameters())
    assert any(float(one.abs().max()) > 0 for one in gradients)
    before = [None if weights.grad is None else weights.grad.clone() for weights in surface.parameters()]
    torch.autograd.grad(surface.loss(slice(0, 4)), surface.parameters())
    for weights, grad in zip(surface.parameters(), before, strict=True):
        assert weights.grad is None if grad is None else torch.equal(weights.grad, grad)
