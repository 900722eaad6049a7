"""One cell: what a learner is handed when every stage has one of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from worlds import Blobs, Means

from harness.contracts import Stage
from harness.run import Conditions, run_cell
from harness.sealing import build

APART = Conditions(root_seed=1, backbone="mlp", epochs=1, batch_size=8, apart=True)


class Remembers(Means):
    """Counts, on itself, how many stages it was handed, and notes what it was told of them."""

    told: list[tuple[int, int, float]]

    def learn(self, stage: Stage) -> None:
        self.handed = getattr(self, "handed", 0) + 1
        self.told.append((stage.index, self.handed, float(self.context.stream("init").random())))
        super().learn(stage)


def _told(conditions: Conditions, scratch: Path) -> list[tuple[int, int, float]]:
    strategy = Remembers()
    strategy.told = []  # the one list that copies share
    results = list(run_cell(strategy, build(Blobs(), 0).episodes, conditions, scratch=scratch))
    assert [answer.stage for result in results for answer in result.answers] == [0, 1, 2]
    return strategy.told


def test_a_learner_of_its_own_finds_every_stage_the_first_and_draws_from_the_streams_of_that_stage(tmp_path: Path) -> None:
    together, apart = _told(replace(APART, apart=False), tmp_path), _told(APART, tmp_path)
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
