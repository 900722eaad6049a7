"""The conformance suite lets every built-in pass and catches those that cheat."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from worlds import Blobs, Cheats, HiddenBlobs, Means, NoisyBlobs, NovelBlobs, Residues, Trains

from harness.cell import sealing
from harness.cell.sealing import Sealed
from harness.checks import conformance, scenarios
from harness.checks.conformance import check_strategy
from harness.checks.finding import Finding
from harness.checks.scenarios import check_scenario
from harness.checks.surroundings import surroundings
from harness.contracts import Deal, Prediction, Query, Stage, Strategy
from harness.plugins import find, registered
from harness.selection import configured

PROBE = "permuted hidden labels change no byte"
SHORTER: dict[str, dict[str, Any]] = {"patch-prior": {"steps": 20}, "ranpac": {"projections": 100}}
"""Learners that take long as they are; what is claimed hangs on neither."""


def _broken(findings: Sequence[Finding]) -> dict[str, str]:
    return {finding.claim: finding.detail for finding in findings if not finding.holds}


@pytest.mark.parametrize("name", sorted(registered("strategy")))
def test_every_registered_strategy_conforms_where_it_can_take_part(name: str) -> None:
    taken_part, before = 0, surroundings()
    surfaces = configured(
        "scenario", "anomaly[categories=brick+rock,setting=continual,n_train=12,n_good=4,n_bad=4]"
    )
    short: dict[str, Any] = {"epochs": 3}  # what is claimed does not hang on how long is trained
    for world in (
        Blobs(**short),
        HiddenBlobs(),
        NovelBlobs(),
        NoisyBlobs(**short),
        Residues(**short),
        surfaces,
    ):
        make = partial(find("strategy", name).cls, **SHORTER.get(name, {}))
        findings = check_strategy(make, world, reveal=name == world.upper_bound, before=before)
        assert _broken(findings) == {}
        taken_part += not any(finding.unsuitable for finding in findings if finding.claim == PROBE)
    assert taken_part, "it refuses all worlds, so nothing has been put to the test"


@pytest.mark.parametrize(
    "name",
    [
        "happy",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("simgcd", "simgcd-lwf", "frost", "k-means", "ss-k-means", "nearest-prototype")
        ),
    ],
)
@pytest.mark.parametrize("scenario", ["cgcd[preset=clinc150]", "cgcd[preset=digits,known_k=false]"])
def test_category_discovery_passes_the_permutation_probe_on_real_data(name: str, scenario: str) -> None:
    findings = check_strategy(find("strategy", name).cls, configured("scenario", scenario))
    assert _broken(findings) == {}
    assert not any(finding.unsuitable for finding in findings)


@pytest.mark.parametrize("strategy", [Means, Trains])
def test_honest_strategies_conform(strategy: type[Strategy]) -> None:
    assert _broken(check_strategy(strategy, Blobs())) == {}


def test_class_incremental_conforms() -> None:
    assert _broken(check_scenario(find("scenario", "class-incremental").cls())) == {}


@pytest.mark.parametrize("way", ["frames", "garbage"])
def test_the_permutation_probe_catches_a_strategy_that_finds_the_truth(way: str) -> None:
    gc.freeze()  # what other tests left is walked at every search otherwise, for seconds
    broken = _broken(check_strategy(lambda: Cheats(way=way), Blobs(stages=2)))
    assert broken[PROBE].startswith("the answers differ after stage 0 (worlds.py:")


def test_the_permutation_probe_catches_ids_that_tell_the_label(monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall with a hole: ids numbered by label. The strategy only uses what the contract hands it."""

    def leaky(deal: Deal, seed: int) -> Sealed:
        sealed = sealing.seal(deal, seed)
        by_label = np.argsort(np.argsort(sealed.truth.labels, kind="stable")) * 6 + sealed.truth.labels
        episodes = [
            sealing.Episode(replace(stage, ids=by_label[stage.ids]), replace(query, ids=by_label[query.ids]))
            for stage, query in sealed.episodes
        ]
        return Sealed(tuple(episodes), sealed.truth)

    for module in (conformance, scenarios):
        monkeypatch.setattr(module, "seal", leaky)
    assert PROBE in _broken(check_strategy(lambda: Cheats(way="ids"), Blobs()))
    assert "permuted hidden labels change nothing public" in _broken(check_scenario(Blobs()))


def test_the_permutation_probe_catches_inputs_that_carry_the_label(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another hole: the query's inputs are a view, and behind the view lie the labels."""

    def leaky(deal: Deal, seed: int) -> Sealed:
        sealed = sealing.seal(deal, seed)
        episodes = []
        for stage, query in sealed.episodes:
            hidden = sealed.truth.labels[query.ids].astype(np.float32)
            behind = np.concatenate([hidden, query.inputs.ravel()])  # type: ignore[attr-defined]
            episodes.append(
                sealing.Episode(
                    stage, replace(query, inputs=behind[len(hidden) :].reshape(query.inputs.shape))
                )
            )
        return Sealed(tuple(episodes), sealed.truth)

    assert PROBE not in _broken(check_strategy(lambda: Cheats(way="base"), Blobs()))
    for module in (conformance, scenarios):
        monkeypatch.setattr(module, "seal", leaky)
    assert PROBE in _broken(check_strategy(lambda: Cheats(way="base"), Blobs()))
    assert "public arrays own their memory" in _broken(check_scenario(Blobs()))


class _Forgetful(Means):
    """Keeps nothing between stages."""

    def state(self) -> dict[str, object]:
        return {}


class _Careless(Means):
    """Changes torch's default dtype for everybody."""

    def learn(self, stage: Stage) -> None:
        super().learn(stage)
        torch.set_default_dtype(torch.float64)


class _Positional(Means):
    """Answers by position in the query."""

    def predict(self, query: Query) -> Prediction:
        return Prediction(classes=np.arange(len(query.ids)) % 2)


class _Restless(Means):
    """Draws from a generator nobody seeded."""

    def predict(self, query: Query) -> Prediction:
        return Prediction(classes=np.random.default_rng().integers(6, size=len(query.ids)))


class _Eager(Means):
    """Needs two classes in every stage."""

    def learn(self, stage: Stage) -> None:
        if len(np.unique(stage.labels)) < 2:
            raise ValueError("two classes at least")
        super().learn(stage)


@pytest.mark.parametrize(
    ("strategy", "claim"),
    [
        (_Forgetful, "a killed cell continues to the same bytes"),
        (_Careless, "leaves global state alone"),
        (_Positional, "shuffled query order changes nothing"),
        (_Restless, "same seed, same bytes"),
        (_Eager, "survives a stage with one class"),
    ],
)
def test_a_broken_claim_is_named(strategy: type[Strategy], claim: str) -> None:
    try:
        broken = _broken(check_strategy(strategy, Blobs()))
    finally:
        torch.set_default_dtype(torch.float32)
    assert claim in broken


def test_a_strategy_that_waits_for_later_stages_to_decide_is_caught() -> None:
    """Reading ahead: the list of episodes is found in a caller's frame."""

    class Clairvoyant(Means):
        def predict(self, query: Query) -> Prediction:
            import sys

            frame, coming = sys._getframe(), 0
            while frame is not None:
                coming = max(coming, len(frame.f_locals.get("episodes", ())))
                frame = frame.f_back
            return Prediction(classes=np.full(len(query.ids), coming))

    assert "removed future stages change nothing earlier" in _broken(check_strategy(Clairvoyant, Blobs()))


def test_a_single_stage_leaves_out_the_claims_about_later_ones() -> None:
    one, three = (
        {finding.claim for finding in check_strategy(Means, Blobs(stages=stages))} for stages in (1, 3)
    )
    assert three - one == {"survives a stage with one class", "removed future stages change nothing earlier"}
