"""How the learners of novel class discovery step: the publications' optimisers, rates and decay, by stage,
against loops written out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from fakes import FakeContext
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.optimizer import register_optimizer_step_pre_hook

from harness.contracts import HIDDEN, Stage
from leaderboards.papers.preset import names, preset
from strategies.ncd.cr_kd import CrKD

KNOWN, NOVEL, ITEMS, STEPS = 2, 2, 40, 40
RNG = np.random.default_rng(3)
POINTS = RNG.normal(size=(ITEMS, 6)).astype(np.float32)
CLASSES = np.arange(ITEMS) % (KNOWN + NOVEL)
SMALL = {"width": 8, "out": 4, "small_views": 0}


@dataclass
class Context(FakeContext):
    """Ten items a step."""

    batch_size: int = 10
    gradient_steps: int = STEPS


def _stage(index: int) -> Stage:
    rows = np.arange(ITEMS) if index else np.flatnonzero(CLASSES < KNOWN)
    labels = np.where(CLASSES >= KNOWN, HIDDEN, CLASSES)[rows]
    return Stage(
        index=index,
        ids=rows,
        inputs=POINTS[rows],
        labels=labels,
        named_classes=KNOWN,
        new_classes=NOVEL if index else None,
    )


def _started(**values: Any) -> CrKD:
    strategy = CrKD(**values)
    lent: Any = Context()
    strategy.start(lent)
    return strategy


def _settings(**values: Any) -> list[list[tuple[type[torch.optim.Optimizer], dict[str, Any]]]]:
    """Return optimiser and settings of every step of stage 0, and of stage 1."""
    steps: list[tuple[type[torch.optim.Optimizer], dict[str, Any]]] = []

    def seen(optimiser: torch.optim.Optimizer, *_: Any) -> None:
        steps.append(
            (
                type(optimiser),
                {key: value for key, value in optimiser.param_groups[0].items() if key != "params"},
            )
        )

    handle = register_optimizer_step_pre_hook(seen)
    try:
        strategy = _started(**values)
        strategy.learn(_stage(0))
        strategy.learn(_stage(1))
    finally:
        handle.remove()
    assert len(steps) == 2 * STEPS
    return [steps[:STEPS], steps[STEPS:]]


def _published(first: float, last: float, warm: float, *, every: int = 1) -> list[float]:
    """Return the rate at every step: from `last` in a line to `first` over the share `warm`, then along half
    a cosine back.

    It is looked up `every` so many steps, which make a pass where it changes between epochs.
    """
    rates = []
    for step in range(STEPS):
        done = (step - step % every) / STEPS
        share = done / warm if done < warm else 0.5 + 0.5 * math.cos(math.pi * (done - warm) / (1 - warm))
        rates.append(last + (first - last) * share)
    return rates


def _of_a_pass(stage: int) -> int:
    """Return how many steps of ten items a pass takes."""
    return math.ceil(len(_stage(stage).labels) / 10)


CASES = {
    "paper-cifar100": (torch.optim.SGD, [(0.1, 1e-3, 10 / 200, 1e-4), (0.4, 1e-3, 10 / 500, 1.5e-4)]),
    "paper-fine-grained": (torch.optim.AdamW, [(1e-3, 1e-4, 5 / 50, 1.5e-4), (1e-3, 1e-4, 10 / 100, 1.5e-4)]),
}


@pytest.mark.parametrize("name", sorted(CrKD.presets))
def test_a_preset_steps_as_its_publication_says_in_each_stage(name: str) -> None:
    kind, stages = CASES[name]
    said = _settings(**{**CrKD.presets[name].values, **SMALL})
    for index, (steps, (first, last, warm, decay)) in enumerate(zip(said, stages, strict=True)):
        assert {step[0] for step in steps} == {kind}
        assert [step[1]["lr"] for step in steps] == pytest.approx(
            _published(first, last, warm, every=_of_a_pass(index))
        )
        assert {step[1]["weight_decay"] for step in steps} == {decay}
        if kind is torch.optim.AdamW:
            assert {step[1]["betas"] for step in steps} == {(0.9, 0.999)}
        else:
            assert {step[1]["momentum"] for step in steps} == {0.9}


def test_stage_1_steps_as_stage_0_where_nothing_else_is_said() -> None:
    first, second = _settings(**SMALL, first_lr=0.2, lr=0.2, warmup=0.3, floor=0.4, weight_decay=0.01)
    assert first == second
    zero, changed = _settings(
        **SMALL, weight_decay=0.01, later_weight_decay=0.0, later_warmup=0.0, later_floor=0.0
    )
    assert {step[1]["weight_decay"] for step in zero} == {0.01}
    assert {step[1]["weight_decay"] for step in changed} == {0.0}
    assert [step[1]["lr"] for step in changed] == pytest.approx(_published(0.1, 0.0, 0.0))


def test_adamw_moves_the_weights_of_stage_0_as_a_loop_written_out_does() -> None:
    """Moments, their corrections and decay by hand (Loshchilov and Hutter 2019), in float64 on the same
    batches.
    """
    values = {**CrKD.presets["paper-fine-grained"].values, **SMALL, "weight_decay": 0.5}
    strategy = _started(**values)
    stage = _stage(0)
    twin = _started(**values)
    twin.network.build((6,), KNOWN)
    network = twin.network.double().train()
    inputs, labels = torch.from_numpy(stage.inputs).double(), torch.from_numpy(stage.labels)
    weights = list(network.parameters())
    first, second = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    batches = strategy.context.stream("batches")
    rates = _published(1e-3, 1e-4, 0.1, every=_of_a_pass(0))
    step = 0
    while step < STEPS:
        for rows in torch.split(torch.from_numpy(batches.permutation(len(inputs))), 10):
            network.at_unit_length()
            network.zero_grad()
            cross_entropy(network.scores(network(inputs[rows])).known / 0.1, labels[rows]).backward()
            for weight, mean, square in zip(weights, first, second, strict=True):
                _adamw(weight, mean, square, rate=rates[step], step=step + 1)
            step += 1
    strategy.learn(stage)
    fresh = _started(**values)
    fresh.network.build((6,), KNOWN)
    assert _apart(strategy.network, network) < 2e-5
    assert _apart(strategy.network, fresh.network) > 5e-3


@torch.no_grad()
def _apart(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((first.double() - second.double()).abs().max()) for first, second in pairs)


@torch.no_grad()
def _adamw(weight: Tensor, mean: Tensor, square: Tensor, *, rate: float, step: int) -> None:
    assert weight.grad is not None
    weight.mul_(1 - rate * 0.5)
    mean.mul_(0.9).add_(0.1 * weight.grad)
    square.mul_(0.999).add_(0.001 * weight.grad**2)
    weight.sub_(rate * (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-8))


def test_published_tables_are_run_with_these_settings_and_nothing_beside() -> None:
    strategies = {name: preset(name).suite.strategies for name in names() if name.startswith("paper/cr-kd-")}
    assert len(strategies) == 5
    for name, said in strategies.items():
        assert said == (f"cr-kd[preset={'paper-cifar100' if 'cifar' in name else 'paper-fine-grained'}]",)
