"""Figures from stored predictions and the truth: the same way for a board that is made and for one that is
checked.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.cell.sealing import build
from harness.contracts import IntArray, Scenario, StoredPrediction, Truth, of_learner
from harness.store.predictions import digest, read_answers


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalSet:
    """The test items of a scenario under one seed, and the truth. `asked`: their ids per stage, ascending."""

    scenario: Scenario
    truth: Truth
    test_ids: Sequence[IntArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescored:
    """The figures of one cell, the digest of its predictions, and what is wrong with them."""

    digest: str
    metrics: Mapping[str, float]
    problems: Sequence[str]


def eval_set_of(scenario: Scenario, seed: int) -> EvalSet:
    """Deal `scenario` under `seed`; keep what scoring needs and drop the inputs."""
    sealed = build(scenario, seed)
    return EvalSet(
        scenario=scenario,
        truth=sealed.truth,
        test_ids=[np.sort(episode.query.ids) for episode in sealed.episodes],
    )


def rescore(eval_set: EvalSet, predictions: Path) -> Rescored:
    """Score the stored predictions of a finished cell; those that leave out, repeat or invent items are not
    scored.

    Raises:
        UserError: not a file of predictions.
    """
    answers = read_answers(predictions)
    problems = _problems(eval_set, answers)
    if problems:
        return Rescored(digest=digest(answers), metrics={}, problems=problems)
    try:
        scores = eval_set.scenario.score(eval_set.truth, answers)
    except (
        Exception
    ) as error:  # the predictions may come from a stranger: whatever scoring makes of them is a finding
        return Rescored(
            digest=digest(answers),
            metrics={},
            problems=[f"cannot be scored: {type(error).__name__}: {error}"],
        )
    metrics = {name: float(value) for name, value in scores.final.items() if math.isfinite(value)}
    return Rescored(digest=digest(answers), metrics=metrics, problems=[])


def differences(stated: Mapping[str, float], recomputed: Mapping[str, float]) -> list[str]:
    """Return one sentence per metric that differs by more than rounding between machines."""
    missing = float("nan")
    pairs = {
        name: (stated.get(name, missing), recomputed.get(name, missing))
        for name in dict.fromkeys([*recomputed, *stated])
    }
    return [
        f"{name} is stated as {given:.6g}, recomputed as {found:.6g}"
        for name, (given, found) in pairs.items()
        if not math.isclose(given, found, rel_tol=1e-9, abs_tol=1e-12)
    ]


def _problems(eval_set: EvalSet, answers: Sequence[StoredPrediction]) -> list[str]:
    problems, whole = [], of_learner(eval_set.scenario.prediction)
    ends = Counter(answer.stage for answer in answers if answer.step is None)
    if ends != Counter(range(len(eval_set.test_ids))):
        problems.append(
            f"answers after stages {sorted(ends.elements())}, expected one after each of "
            f"{len(eval_set.test_ids)} stages"
        )
    for answer in answers:
        when = f"stage {answer.stage}" if answer.step is None else f"stage {answer.stage}, step {answer.step}"
        if answer.stage < len(eval_set.test_ids) and not np.array_equal(
            answer.ids, eval_set.test_ids[answer.stage]
        ):
            problems.append(f"the ids answered in {when} are not those of the query")
        short = [
            name
            for name, array in answer.arrays.items()
            if name not in whole and array.shape[:1] != answer.ids.shape
        ]
        if short:
            problems.append(f"{', '.join(short)} in {when} has not one row per id")
    return problems


__all__ = ["EvalSet", "Rescored", "differences", "eval_set_of", "rescore"]
