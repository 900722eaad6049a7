"""Scoring a cell answer by answer: the same as from scratch after every stage, and nothing is worked out
twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from harness.cell.sealing import Sealed, build
from harness.contracts import Deal, Metric, Scenario, Scores, StoredPrediction, Truth, scorer_of
from harness.metrics.grokking import HEALTH
from harness.selection import configured
from scenarios.class_incremental.scenario import ClassIncremental

FAMILIES = (
    "class-incremental[dataset=digits,stages=5]",
    "class-incremental[dataset=digits,open_set=true,task_access=test]",
    "cgcd[preset=digits]",
    "cgcd[preset=digits,open_set=true,choose=best-on-test,probe_every=7]",
    "cgcd[preset=digits,transductive=true,known_k=false]",
    "ncd[dataset=digits]",
    "noisy-labels[over=class-incremental[dataset=digits],report=stream]",
    "noisy-labels[over=class-incremental[dataset=digits,stages=1]]",
    "grokking[preset=tiny,corruption=0.2]",
    "anomaly[setting=continual,n_good=4,n_bad=5,size=16]",
    "anomaly[setting=single,n_good=4,n_bad=5,size=16,pooled=true]",
    "held-out[of=class-incremental[dataset=digits]]",
    "held-out[of=cgcd[preset=digits],novel=0.5]",
    "smoke[over=cgcd[preset=digits]]",
    "two-gaussians",
)


def answers_to(sealed: Sealed, rng: np.random.Generator) -> Iterator[StoredPrediction]:
    """Yield answers that are sometimes right: two probes and an end in every stage, and every field of a
    prediction.
    """
    for index, (_, query) in enumerate(sealed.episodes):
        ids = np.sort(query.ids)
        for step in (1, 2, None):
            labels, size = sealed.truth.labels[ids], len(ids)
            classes = np.where(rng.random(size) < 0.6, labels, rng.integers(-1, labels.max() + 3, size))
            arrays: dict[str, Any] = {
                "classes": classes,
                "clusters": np.full(size, rng.integers(2, 12)),
                "among_known": np.where(rng.random(size) < 0.5, labels, 0),
                "among_novel": rng.integers(0, 4, (size, 2)),
                "kept": rng.random(size) < 0.5,
                "anomaly_maps": rng.random((size, 8, 8)).astype(np.float16),
                "health": rng.random(len(HEALTH)).astype(np.float32),
            }
            floats = ("old_probability", "anomaly_scores", "suspicion", "label_losses", "relation_shift")
            arrays |= {name: rng.random(size).astype(np.float32) for name in floats}
            yield StoredPrediction(stage=index, step=step, ids=ids, arrays=arrays)


def same(one: Any, other: Any) -> bool:
    """Return whether both are equal to the last bit, NaN to NaN."""
    if dataclasses.is_dataclass(one):
        return all(
            same(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(one)
        )
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    if isinstance(one, Sequence) and not isinstance(one, str):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray):
        return bool(
            one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
        )
    return bool(one == other or (one != one and other != other))


@pytest.mark.parametrize("family", FAMILIES)
def test_answer_by_answer_is_from_scratch_after_every_stage(family: str) -> None:
    scenario = configured("scenario", family)
    sealed = build(scenario, 0)
    given = list(answers_to(sealed, np.random.default_rng(0)))
    scorer, kept = scorer_of(scenario, sealed.truth), []
    for count, answer in enumerate(given, 1):
        scorer.add(answer)
        if answer.step is None:
            kept.append((count, scorer.scores()))
    assert len(kept) == len(sealed.episodes)
    for count, scores in kept:  # only now, so that what is scored later must have changed nothing
        assert same(scores, scenario.score(sealed.truth, given[:count]))
    assert {metric.name for metric in scenario.metrics} <= kept[-1][1].final.keys()
    assert kept[-1][1].final[scenario.metrics[0].name] < 1


class _Read(dict[str, Any]):
    """Arrays that note that they were read."""

    read = False

    def __getitem__(self, name: str) -> Any:
        self.read = True
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.read = True
        return super().get(name, default)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "two-gaussians"])
def test_an_answer_is_read_when_it_comes_and_not_again_for_later_stages(family: str) -> None:
    scenario = configured("scenario", family)
    sealed = build(scenario, 0)
    scorer, before = scorer_of(scenario, sealed.truth), list[_Read]()
    for answer in answers_to(sealed, np.random.default_rng(0)):
        arrays = _Read(answer.arrays)
        scorer.add(dataclasses.replace(answer, arrays=arrays))
        before.append(arrays)
        if answer.step is None and answer.stage + 1 < len(sealed.episodes):
            scorer.scores()
            again = [place for place, each in enumerate(before[:-6]) if each.read]
            assert not again, "of two stages ago or more"
            for each in before:
                each.read = False


class Counts(Scenario):
    """Scores by `score` alone, as the contract was before there were scorers."""

    metrics = (Metric(name="answers"),)

    def data_digests(self) -> Mapping[str, str]:
        return {}

    def deal(self, seed: int) -> Deal:
        raise NotImplementedError

    def score(self, truth: Truth, answers: Sequence[StoredPrediction]) -> Scores:
        return Scores(
            final={"answers": float(len(answers))},
            per_stage={"answers": [answer.stage for answer in answers]},
        )


class Doubled(ClassIncremental):
    """Adds to the score of a scenario that has a scorer."""

    def score(self, truth: Truth, answers: Sequence[StoredPrediction]) -> Scores:
        scores = super().score(truth, answers)
        return dataclasses.replace(scores, final={name: 2 * value for name, value in scores.final.items()})


class Further(Doubled):
    """Says nothing of scoring."""


class Neither(Counts):
    """Lost what it scored by."""

    score = Scenario.score


def test_a_scenario_that_only_scores_from_scratch_has_a_scorer() -> None:
    nothing = Truth(labels=np.zeros(0, dtype=np.int64), facts={}, named_classes=[2, 4])
    scorer = scorer_of(Counts(), nothing)
    for stage in range(3):
        scorer.add(StoredPrediction(stage=stage, step=None, ids=np.zeros(0, dtype=np.int64), arrays={}))
        assert scorer.scores().final == {"answers": stage + 1}
    with pytest.raises(NotImplementedError, match="Neither has neither score nor scorer"):
        Neither().score(nothing, [])


@pytest.mark.parametrize("kind", [Doubled, Further])
def test_a_subclass_that_writes_score_anew_is_scored_by_that(kind: type[ClassIncremental]) -> None:
    sealed = build(ClassIncremental(), 0)
    own, plain = scorer_of(kind(), sealed.truth), scorer_of(ClassIncremental(), sealed.truth)
    for answer in answers_to(sealed, np.random.default_rng(0)):
        own.add(answer)
        plain.add(answer)
    assert own.scores().final == {name: 2 * value for name, value in plain.scores().final.items()}
