"""A strategy that knows seed 0 is told apart from one that is lucky under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from knowing_worlds import KNOWING, SORTED
from worlds import Blobs

from harness.cell.sealing import seal
from harness.checks.conformance import check_strategy
from harness.checks.fresh_seeds import known_seed_leads, odds
from harness.cli.scaffolds import STRATEGY
from harness.contracts import StoredPrediction
from harness.plugins import find
from harness.selection import configured

CLAIM = "answers as well under seeds that nobody could know"


@pytest.mark.parametrize(("name", "holds"), [("First", True), ("Knowing", False)])
def test_a_strategy_that_rebuilds_the_seed_breaks_the_claim(name: str, holds: bool, tmp_path: Path) -> None:
    path = tmp_path / "first.py"
    path.write_text(STRATEGY.format(name="first", cls="First") + KNOWING)
    findings = check_strategy(find("strategy", f"{path}:{name}").cls, configured("scenario", SORTED))
    assert {finding.claim: finding.holds for finding in findings if finding.claim == CLAIM} == {CLAIM: holds}
    assert [finding.claim for finding in findings if not finding.holds] == ([] if holds else [CLAIM])


def test_seeds_are_tried_until_one_does_nearly_as_well() -> None:
    """All right under the known seed and under the third of the others; the answers before it are all wrong."""
    deal = Blobs().deal(0)
    asked: list[int] = []

    def answers(seed: int) -> Sequence[StoredPrediction]:
        asked.append(seed)
        episodes, truth = seal(deal, seed)
        found = []
        for index, (_, query) in enumerate(episodes):
            classes = truth.labels[np.sort(query.ids)]
            wrong = np.zeros_like(classes)
            arrays = {"classes": classes if len(asked) in (1, 4) else wrong}
            found.append(StoredPrediction(stage=index, step=None, ids=np.sort(query.ids), arrays=arrays))
        return found

    assert known_seed_leads(deal, 0, answers) == ""
    assert len(asked) == 4
    assert asked[0] == 0
    assert all(2**62 <= seed < 2**63 for seed in asked[1:])
    asked[:] = [0] * 4
    assert "100% of its answers" not in known_seed_leads(deal, 0, answers)  # no better than the rest


def test_a_seed_that_leads_29_others_is_named() -> None:
    deal = Blobs().deal(0)

    def answers(seed: int) -> Sequence[StoredPrediction]:
        episodes, truth = seal(deal, seed)
        ids = [np.sort(query.ids) for _, query in episodes]
        return [
            StoredPrediction(
                stage=index, step=None, ids=own, arrays={"classes": truth.labels[own] * (seed == 0)}
            )
            for index, own in enumerate(ids)
        ]

    said = known_seed_leads(deal, 0, answers)
    assert said.startswith("100% of its answers fit under seed 0, at most ")
    assert said.endswith("% under 29 seeds that nobody could know")
    none = [replace(answer, arrays={}) for answer in answers(0)]
    assert known_seed_leads(deal, 0, lambda _: none) == ""


def test_odds_by_hand() -> None:
    """3.5 to 1.5, and even ones where nothing was asked."""
    assert odds((3, 4)) == 3.5 / 1.5
    assert odds((0, 0)) == 1.0
