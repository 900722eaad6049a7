"""The values of the plug-in contract."""

from __future__ import annotations

import pytest

from harness.contracts import TrainingBudget

BUDGET = TrainingBudget(
    backbone="cnn",
    epochs=10,
    batch_size=32,
    first_epochs=50,
    first_batch_size=8,
    gradient_steps=70,
    augmentations="noise",
    probe_every=3,
)


@pytest.mark.parametrize(
    ("first", "of_stage_0"),
    [
        ({"first_epochs": 50, "first_batch_size": 8}, (50, 8, 0)),
        ({"first_epochs": 50, "first_batch_size": None}, (50, 32, 0)),
        ({"first_epochs": None, "first_batch_size": 8}, (10, 8, 70)),
        ({"first_epochs": None, "first_batch_size": None}, (10, 32, 70)),
    ],
)
def test_the_first_stage_has_its_own_epochs_and_batch(
    first: dict[str, int | None], of_stage_0: tuple[int, int, int]
) -> None:
    """Epochs said of the first stage count there in place of gradient steps."""
    budget = TrainingBudget(backbone="cnn", epochs=10, batch_size=32, gradient_steps=70, **first)
    stages = [budget.for_stage(index) for index in range(3)]
    assert [(own.epochs, own.batch_size, own.gradient_steps) for own in stages] == [
        of_stage_0,
        (10, 32, 70),
        (10, 32, 70),
    ]


@pytest.mark.parametrize("index", [0, 2])
def test_a_stage_s_budget_says_nothing_of_the_first_stage_and_keeps_the_rest(index: int) -> None:
    own = BUDGET.for_stage(index)
    assert (own.first_epochs, own.first_batch_size) == (None, None)
    assert (own.backbone, own.augmentations, own.probe_every) == ("cnn", "noise", 3)
    assert own.for_stage(0) == own.for_stage(1) == own
