"""What a finding says of a failure: the file and line of whoever wrote the strategy."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
from runs import Owb, world
from worlds import Blobs, Guess, Raises

from harness.checks.conformance import check_strategy
from harness.checks.finding import found
from harness.contracts import Prediction, Query, Stage, Strategy
from harness.processes import workshop


class _Falls(Guess):
    """Fails within numpy."""

    def learn(self, stage: Stage) -> None:
        np.linalg.inv(np.zeros((2, 2)))  # here


class _MakesItLate(Guess):
    """Keeps a network that `setup` does not make."""

    def learn(self, stage: Stage) -> None:
        import torch

        self.net = torch.nn.Linear(2, 2)


class _Positional(Guess):
    """Answers by position."""

    def predict(self, query: Query) -> Prediction:
        return Prediction(classes=np.arange(len(query.ids)) % 2)


def _line(method: object, words: str) -> int:
    lines, first = inspect.getsourcelines(method)  # type: ignore[arg-type]
    return first + next(number for number, line in enumerate(lines) if words in line)


def test_an_error_is_followed_to_the_line_of_the_strategy_that_it_came_through() -> None:
    finding = found("c", lambda: _Falls().learn(None), of=_Falls)  # type: ignore[arg-type, func-returns-value]
    place = f"({Path(__file__).name}:{_line(_Falls.learn, '# here')})"
    assert finding.detail == f"LinAlgError: Singular matrix {place}"
    assert not finding.holds


@pytest.mark.parametrize(
    ("strategy", "claim", "words", "method"),
    [
        (
            _MakesItLate,
            "a killed cell continues to the same bytes",
            "attribute 'net' was made in learn, so a continued cell would not have it: ",
            _MakesItLate.learn,
        ),
        (_Positional, "shuffled query order changes nothing", "classes after stage 0", _Positional.predict),
    ],
)
def test_what_breaks_a_claim_without_an_error_of_its_own_is_placed_where_it_begins(
    strategy: type[Strategy], claim: str, words: str, method: object
) -> None:
    details = {finding.claim: finding.detail for finding in check_strategy(strategy, Blobs())}
    assert details[claim].startswith(words)
    assert details[claim].endswith(f"({Path(__file__).name}:{_line(method, 'def ')})")


def test_a_base_class_is_part_of_the_strategy() -> None:
    class Own(Raises):
        """Raises what its base raises."""

    stage = next(iter(Blobs().deal(0).stages))
    late = type("Late", (), {"index": 1, "labels": stage.observed_labels})()
    finding = found("c", lambda: Own().learn(late), of=Own)  # type: ignore[func-returns-value]
    assert finding.detail.endswith(f"(worlds.py:{_line(Raises.learn, 'raise')})")


def test_every_scenario_that_was_tried_says_why_not(call_owb: Owb, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.cli import check

    monkeypatch.setattr(workshop, "FORKS", False)  # in this process, as where there is no fork
    monkeypatch.setattr(check, "DEFAULT_SCENARIOS", (world("Blobs"), world("HiddenBlobs")))
    refused = call_owb("check", world("Refuses"))
    assert refused.code == 2
    for name in ("Blobs", "HiddenBlobs"):
        assert f"{world(name)}: it needs labels that lie" in refused.err
