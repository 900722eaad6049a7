"""Number formats: bfloat16 is what is computed in, float16 skips steps that overflow, and where neither helps
it is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import Owb
from torch import nn

from harness.cell.run import CellSettings, learner_seed, run_cell
from harness.cell.sealing import build
from harness.contracts import Precision
from harness.selection import configured
from strategies.toolkit.training.loop import sgd, train
from strategies.toolkit.training.tensors import Items

DIGITS = "class-incremental[dataset=digits,backbone=cnn,epochs=1]"


def _accuracy(strategy: str, precision: Precision, scratch: Path) -> float:
    """Return the average accuracy of a strategy whose forward passes have this format."""
    scenario = configured("scenario", DIGITS)
    sealed = build(scenario, 0)
    settings = CellSettings(root_seed=learner_seed(0), budget=scenario.budget(), precision=precision)
    results = run_cell(configured("strategy", strategy), sealed.episodes, settings, scratch=scratch)
    answers = [answer for result in results for answer in result.answers]
    return float(scenario.score(sealed.truth, answers).final["average_accuracy"])


def test_bfloat16_learns_and_is_another_computation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[torch.dtype] = set()
    convolve = nn.Conv2d.forward

    def noted(self: nn.Conv2d, inputs: torch.Tensor) -> torch.Tensor:
        found = convolve(self, inputs)
        if self.training:
            seen.add(found.dtype)
        return found

    monkeypatch.setattr(nn.Conv2d, "forward", noted)
    exact = _accuracy("joint", "float32", tmp_path)
    assert seen == {torch.float32}
    seen.clear()
    short = _accuracy("joint", "bfloat16", tmp_path)
    assert seen == {torch.bfloat16}
    assert 0.8 < short < 1
    assert exact != short
    assert exact == pytest.approx(short, abs=0.1)


class _Context:
    """Three passes over one batch on the CPU."""

    device, precision, epochs, gradient_steps, batch_size = "cpu", "float16", 3, 0, 8

    def stream(self, _: str) -> np.random.Generator:
        return np.random.default_rng(0)

    def progress(self, *_: int, **__: float) -> None:
        pass

    probe = epoch_ended = progress


@pytest.fixture
def unwritten_is_nan() -> Iterator[None]:
    """Let memory that is taken and not written hold NaN, as torch does for those who look for the use of it."""
    assert torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("unwritten_is_nan")
def test_float16_leaves_the_parameters_where_a_gradient_overflows() -> None:
    """A slope of 3 times the scale of 65,536 is beyond float16; halved twice it fits: two steps are skipped,
    the third is taken.
    """
    model = nn.Linear(4096, 1, bias=False)
    nn.init.zeros_(model.weight)
    before = model.weight.detach().clone()
    items = Items(torch.ones(8, 4096), torch.zeros(8, dtype=torch.int64))
    moved: list[bool] = []

    def loss(batch: object) -> torch.Tensor:
        moved.append(not torch.equal(model.weight, before))
        return 3 * model(batch.inputs).mean()  # type: ignore[attr-defined,no-any-return]

    train(model, items, loss, sgd(model.parameters(), lr=0.1, momentum=0.9), _Context())  # type: ignore[arg-type]
    assert moved == [False, False, False]
    torch.testing.assert_close(model.weight.detach(), torch.full((1, 4096), -0.3), atol=1e-3, rtol=0)


def test_float16_is_refused_on_the_cpu(call_owb: Owb) -> None:
    said = call_owb("run", "replay", "--precision", "float16", "--plan")
    assert said.code == 2
    assert said.err == (
        "error: --precision float16 is for GPUs: on the CPU say bfloat16, which is as short and many "
        "times faster there\n"
    )
    assert call_owb("run", "replay", "--precision", "bfloat16", "--plan").code == 0
