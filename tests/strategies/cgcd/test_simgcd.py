"""SimGCD continued against what Happy is without its own parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes import FakeContext, stage_of

from harness.contracts import HIDDEN, Stage
from harness.parameters import model_of
from strategies.cgcd.happy import Happy
from strategies.cgcd.simgcd import SimGCD, SimGCDLwF

LABELS = np.arange(30) % 3


class Context(FakeContext):
    augmentations = "noise[std=0.05]"


def _learned(strategy: SimGCD) -> bytes:
    """Return the network's weights after a stage with labels and one without."""
    strategy.start(Context(backbone="mlp[width=16,depth=2]"))
    strategy.learn(stage_of(0, LABELS, 3))
    inputs = np.random.default_rng(1).normal(size=(24, 5)).astype(np.float32)
    strategy.learn(
        Stage(
            index=1,
            ids=np.arange(24),
            inputs=inputs,
            labels=np.full(24, HIDDEN),
            named_classes=3,
            new_classes=2,
        )
    )
    return np.concatenate(
        [weight.detach().numpy().ravel() for weight in strategy.network.parameters()]
    ).tobytes()


@pytest.mark.parametrize(
    ("baseline", "distillation"), [(SimGCD, "off"), (SimGCDLwF, "answers")], ids=["simgcd", "simgcd-lwf"]
)
def test_happy_without_its_own_parts_is_the_baseline(baseline: type[SimGCD], distillation: Any) -> None:
    small = {"projector_width": 8, "projector_out": 4, "lr": 0.1}
    parts = {"initialise": "random", "entropy": "mean", "rehearsal": "off", "distillation": distillation}
    assert _learned(baseline(**small)) == _learned(Happy(**small, **parts))


@pytest.mark.parametrize(
    ("name", "value"),
    [("later_entropy", 0.0), ("contrast", 0.0), ("teacher_momentum", 0.9), ("later_teacher", 0.09)],
)
def test_every_weight_of_the_baseline_counts(name: str, value: float) -> None:
    small = {"projector_width": 8, "projector_out": 4, "lr": 0.1}
    assert _learned(SimGCD(**small)) != _learned(SimGCD(**small, **{name: value}))


def test_a_baseline_has_no_parameter_of_the_method_built_on_it() -> None:
    of_happy = {
        "initialise",
        "entropy",
        "between",
        "new_share",
        "rehearsal",
        "radius",
        "refresh",
        "distillation",
    }
    assert of_happy <= model_of(Happy).model_fields.keys()
    assert not of_happy & model_of(SimGCDLwF).model_fields.keys()
    assert model_of(SimGCD).model_fields.keys() <= model_of(Happy).model_fields.keys()
