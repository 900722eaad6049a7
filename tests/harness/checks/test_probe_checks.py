"""Claims that probes are held against, on probes that break one each."""

from __future__ import annotations

from functools import cache

import pytest
from watched import HERE, Shows
from worlds import Blobs, Guess

from harness.checks.finding import Finding
from harness.checks.probes import check_probe

SAME, HIDDEN, AGAIN, ORDER, POOR, COST, PLACE = range(7)


@cache
def checked(name: str) -> list[Finding]:
    return check_probe(f"{HERE}:{name}", Shows, Blobs(stages=1, items=8))


@pytest.mark.parametrize("name", ["Counts", "Loss"])
def test_a_probe_that_keeps_its_word_holds(name: str) -> None:
    found = checked(name)
    assert all(finding.holds for finding in found), found
    assert "ms a look" in found[COST].detail


@pytest.mark.parametrize(
    ("name", "claim", "said"),
    [
        ("Unseeded", AGAIN, "other figures when it measures again"),
        ("Ordered", AGAIN, "n_given are declared and missing"),
        ("Ordered", ORDER, "the order of the items"),
    ],
)
def test_a_probe_that_breaks_its_word_is_named(name: str, claim: int, said: str) -> None:
    assert not checked(name)[claim].holds
    assert said in checked(name)[claim].detail


def test_a_probe_by_path_is_warned_that_it_runs_beside_the_truth_and_one_in_the_worker_is_not() -> None:
    assert checked("Counts")[PLACE].warns and "true labels" in checked("Counts")[PLACE].detail
    assert not checked("Loss")[PLACE].warns


def test_a_probe_that_does_not_apply_holds_and_says_so() -> None:
    found = check_probe(f"{HERE}:Counts", Guess, Blobs(stages=1, items=8))
    assert all(finding.holds for finding in found)
    assert "does not apply" in found[AGAIN].detail
