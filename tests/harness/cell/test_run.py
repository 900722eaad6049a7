"""One cell: what a learner is handed when every stage has one of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from worlds import Blobs, Guess, Means

from harness.cell import run
from harness.cell.run import CellSettings, Member, run_cell, run_together
from harness.cell.sealing import build
from harness.contracts import Prediction, Query, Stage, Strategy, TrainingBudget

APART = CellSettings(root_seed=1, budget=TrainingBudget(backbone="mlp", epochs=1, batch_size=8, apart=True))


class Remembers(Means):
    """Counts, on itself, how many stages it was handed, and notes what it was told of them."""

    told: list[tuple[int, int, float]]

    def learn(self, stage: Stage) -> None:
        self.handed = getattr(self, "handed", 0) + 1
        self.told.append((stage.index, self.handed, float(self.context.stream("init").random())))
        super().learn(stage)


def _told(settings: CellSettings, scratch: Path) -> list[tuple[int, int, float]]:
    strategy = Remembers()
    strategy.told = []  # the one list that copies share
    results = list(run_cell(strategy, build(Blobs(), 0).episodes, settings, scratch=scratch))
    assert [answer.stage for result in results for answer in result.answers] == [0, 1, 2]
    return strategy.told


def test_a_learner_of_its_own_finds_every_stage_the_first_and_draws_from_the_streams_of_that_stage(
    tmp_path: Path,
) -> None:
    own = replace(APART, budget=replace(APART.budget, apart=False))
    together, apart = _told(own, tmp_path), _told(APART, tmp_path)
    assert [told[:2] for told in together] == [(0, 1), (1, 2), (2, 3)]
    assert [told[:2] for told in apart] == [(0, 1), (0, 1), (0, 1)]
    assert [told[2] for told in apart] == [told[2] for told in together]


def test_an_interrupted_cell_of_learners_apart_continues_to_the_same_answers(tmp_path: Path) -> None:
    episodes = build(Blobs(), 0).episodes
    keep = tmp_path / "keep"
    keep.mkdir()
    list(run_cell(Means(), episodes[:2], APART, scratch=tmp_path, keep=keep))
    continued = list(run_cell(Means(), episodes, APART, scratch=tmp_path, keep=keep))
    whole = list(run_cell(Means(), episodes, APART, scratch=tmp_path))
    for one, other in zip(continued, whole, strict=True):
        np.testing.assert_array_equal(one.answers[0].arrays["classes"], other.answers[0].arrays["classes"])


# --- what a stage costs -------------------------------------------------------------------------------------


class Ticks(Strategy):
    """Three steps a stage of one second each by its own clock, with a look after each; an answer takes ten."""

    now = 0.0

    def learn(self, stage: Stage) -> None:
        self.learn_together([self], [stage])

    @classmethod
    def learn_together(cls, strategies: Sequence[Strategy], stages: Sequence[Stage]) -> None:
        for step in range(1, 4):
            Ticks.now += 1
            for one in strategies:
                one.context.probe(step)

    def predict(self, query: Query) -> Prediction:
        Ticks.now += 10
        return Guess.predict(self, query)


LOOKED = CellSettings(
    root_seed=1,
    budget=TrainingBudget(backbone="mlp", epochs=1, batch_size=8, probe_every=1),
    session="morning",
)


@pytest.fixture
def by_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "clock", lambda _: Ticks.now)


def test_looks_in_mid_stage_are_timed_apart_from_learning(by_ticks: None, tmp_path: Path) -> None:
    results = list(run_cell(Ticks(), build(Blobs(), 0).episodes, LOOKED, scratch=tmp_path))
    assert [(result.learn_s, result.probe_s, result.predict_s) for result in results] == [
        (3.0, 30.0, 10.0)
    ] * 3
    assert [len(result.answers) for result in results] == [4] * 3


def test_looks_of_a_pack_are_its_members_own_and_the_rest_is_shared_equally(
    by_ticks: None, tmp_path: Path
) -> None:
    (episode,) = build(Blobs(stages=1), 0).episodes
    asked = Member(strategy=Ticks(), episode=episode, settings=LOOKED, scratch=tmp_path)
    unasked = Member(
        strategy=Ticks(),
        episode=episode,
        settings=replace(LOOKED, budget=replace(LOOKED.budget, probe_every=0)),
        scratch=tmp_path,
    )
    results = run_together([asked, unasked])
    assert [(result.learn_s, result.probe_s, result.predict_s) for result in results] == [
        (1.5, 30.0, 10.0),
        (1.5, 0.0, 10.0),
    ]


def test_a_cell_that_continues_has_the_seconds_of_what_it_has_behind_it_and_says_when_they_were_spent(
    by_ticks: None, tmp_path: Path
) -> None:
    episodes = build(Blobs(), 0).episodes
    keep = tmp_path / "keep"
    keep.mkdir()
    before = list(run_cell(Ticks(), episodes[:2], LOOKED, scratch=tmp_path, keep=keep))
    later = list(run_cell(Ticks(), episodes, replace(LOOKED, session="noon"), scratch=tmp_path, keep=keep))
    assert [result.borrowed_s for result in later] == [43.0, 43.0, 0.0]
    assert before[0].session == before[1].session == later[0].session == later[1].session
    assert later[2].session not in ("", later[0].session)
