"""Learning rates by name: against torch's own schedulers epoch by epoch, by hand, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import pytest
import torch
from fakes import FakeContext
from torch import Tensor

from harness.contracts import Context
from harness.errors import UserError
from harness.selection import configured
from strategies.noisy_labels.schedules import schedule_of
from strategies.toolkit.training.loop import Batch, RateChanges, train
from strategies.toolkit.training.tensors import Items

SGD = torch.optim.SGD
Scheduler = Callable[[torch.optim.Optimizer], Any]


def _rates(scheduler: Scheduler, epochs: int) -> list[float]:
    """The rates of a torch scheduler that steps once an epoch, from 0.02."""
    optimiser = SGD([torch.zeros(1, requires_grad=True)], lr=0.02)
    stepped, rates = scheduler(optimiser), []
    for _ in range(epochs):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        stepped.step()
    return rates


def _trained_with(text: str, changes: RateChanges, epochs: int, batches: int) -> list[float]:
    """The rates of every step of a training that begins at 0.02."""
    model = torch.nn.Linear(1, 1)
    optimiser, rates = SGD(model.parameters(), lr=0.02), []
    items = Items(torch.zeros(8 * batches, 1), torch.zeros(8 * batches, dtype=torch.int64))

    def loss(batch: Batch) -> Tensor:
        rates.append(optimiser.param_groups[0]["lr"])
        return model(batch.inputs).sum()  # type: ignore[no-any-return]

    train(
        model,
        items,
        loss,
        optimiser,
        cast(Context, FakeContext(epochs=epochs)),
        schedule=schedule_of(text),
        rate_changes=changes,
    )
    return rates


@pytest.mark.parametrize(
    ("text", "scheduler", "epochs"),
    [
        (
            "cosine[cycles=15,floor=0.05]",
            lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 10, eta_min=1e-3),
            150,
        ),
        ("cosine[floor=0.05]", lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 30, eta_min=1e-3), 30),
        (
            "steps[at=40+80,of=120,factor=0.01]",
            lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [40, 80], gamma=0.01),
            120,
        ),
        ("steps[at=7,of=15]", lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [7], gamma=0.1), 15),
    ],
)
@pytest.mark.parametrize("batches", [1, 3])
def test_rates_are_those_of_a_scheduler_that_steps_once_an_epoch(
    text: str, scheduler: Scheduler, epochs: int, batches: int
) -> None:
    theirs = [rate for rate in _rates(scheduler, epochs) for _ in range(batches)]
    assert _trained_with(text, "epoch", epochs, batches) == pytest.approx(theirs, rel=1e-6, abs=1e-12)


def test_a_rate_that_changes_at_every_step_falls_within_epochs_too() -> None:
    rates = _trained_with("cosine", "step", 4, 3)
    assert rates == pytest.approx([0.01 * (1 + math.cos(math.pi * step / 12)) for step in range(12)])
    assert _trained_with("cosine", "epoch", 4, 3) == pytest.approx(
        [rates[3 * (step // 3)] for step in range(12)]
    )


def test_schedules_by_hand() -> None:
    assert [schedule_of("constant")(done) for done in (0.0, 0.99)] == [1, 1]
    assert [schedule_of("steps")(done) for done in (0.0, 0.74, 0.75)] == pytest.approx([1, 1, 0.1])
    assert [schedule_of("cosine")(done) for done in (0.0, 0.5, 2 / 3)] == pytest.approx([1, 0.5, 0.25])
    assert [schedule_of("cosine[cycles=2]")(done) for done in (0.0, 0.25, 0.5, 0.75)] == pytest.approx(
        [1, 0.5, 1, 0.5], abs=1e-6
    )


def test_the_rate_begins_again_with_every_cycle_and_never_leaves_its_bounds() -> None:
    schedule = schedule_of("cosine[cycles=3,floor=0.1]")
    rates = [schedule(step / 999) for step in range(999)]
    assert all(0.1 - 1e-9 <= rate <= 1 + 1e-9 for rate in rates)
    assert [place for place, (a, b) in enumerate(pairwise(rates)) if b > a + 1e-9] == [332, 665]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("cosin", "did you mean 'cosine'"),
        ("steps[when=3]", "unknown parameter of schedule steps 'when'"),
        ("steps[at=three]", "numbers joined by [+] for at, such as 40[+]80, got 'three'"),
        ("steps[at=200]", "at between 0 and 1, got 200"),
        ("steps[factor=-1]", "factor between 0 and inf, got -1"),
        ("cosine[floor=2]", "floor between 0 and 1, got 2"),
        ("cosine[cycles=0]", "cycles between 1 and inf, got 0"),
    ],
)
def test_what_is_no_schedule_is_refused_before_anything_runs(text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        configured("strategy", f"cross-entropy[schedule={text}]")
    with pytest.raises(UserError, match=sentence):
        configured("strategy", f"nested-co-teaching[second_schedule={text}]")
