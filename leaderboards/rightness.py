"""How often one cell's predictions are right, by class: the part of a score that can be compared class by class and stage by stage.

What is right is the scenario's own rule: the class itself where classes have names; under the matching of the stage in category discovery;
with the known rows fixed and the others matched in novel class discovery; test items alone where items given for training are asked too;
the AUROC of a category's images, which is the share of pairs of a defective and a normal one in the right order, in anomaly detection.
Classes that have not arrived are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.contracts import OF_LEARNER, Answer, IntArray, Scenario, Truth
from harness.errors import UserError
from harness.metrics.discovery import Match


class Marks(NamedTuple):
    """What one cell got right after `stage`, by class.

    right: float64 (C,) how many of the `asked`, int64 (C,).  arrival: int64 (C,) the stage each class came in.
    classes: C names, the same for a class whatever its place in the order of arrival.
    """

    stage: int
    right: NDArray[np.float64]
    asked: IntArray
    arrival: IntArray
    classes: tuple[str, ...]


class Rule(NamedTuple):
    """How a scenario tells right from wrong, in words, and the function that applies it to the answers of a cell."""

    words: str
    mark: Callable[[Scenario, Truth, Sequence[Answer], tuple[str, ...]], list[Marks]]


def rule_of(scenario: Scenario) -> Rule:
    """Return the rule of `scenario`; one that is not ours is taken to name its classes.

    Raises:
        UserError: its predictions do not say classes.
    """
    from scenarios.anomaly.scenario import Anomaly
    from scenarios.cgcd.scenario import CGCD
    from scenarios.grokking.scenario import Grokking
    from scenarios.ncd.scenario import NCD
    from scenarios.noisy_labels.scenario import NoisyLabels

    if isinstance(scenario, NoisyLabels):
        beneath = rule_of(scenario.base)
        return Rule(beneath.words, lambda own, truth, answers, names: beneath.mark(own, truth, _of_part(truth, answers, "part"), names))
    if isinstance(scenario, Anomaly):
        return Rule("AUROC of images, by category", _by_category)
    if isinstance(scenario, CGCD):
        return Rule("accuracy on test items, one matching of clusters to classes a stage", _matched)
    if isinstance(scenario, NCD):
        return Rule("accuracy on test items, known rows fixed and the others matched", _strictly_matched)
    if isinstance(scenario, Grokking):
        return Rule(
            "accuracy on test items", lambda own, truth, answers, names: _named(own, truth, _of_part(truth, answers, "role"), names)
        )
    if "classes" not in scenario.answers:
        raise UserError(f"{type(scenario).__name__} asks for {', '.join(scenario.answers) or 'no classes'}, not for classes to be compared")
    return Rule("accuracy", _named)


def _named(_: Scenario, truth: Truth, answers: Sequence[Answer], names: tuple[str, ...]) -> list[Marks]:
    """Classes are answered by name and have arrived when they are named."""
    arrival = np.searchsorted(truth.named_classes, np.arange(len(names)), side="right").astype(np.int64)
    found = []
    for answer in answers:
        labels = truth.labels[answer.ids]
        come = labels < truth.named_classes[answer.stage]
        hits = (answer.arrays["classes"] == labels)[come]
        asked = np.bincount(labels[come], minlength=len(names))
        right = np.bincount(labels[come], weights=hits, minlength=len(names)).astype(np.float64)
        found.append(Marks(answer.stage, right, asked, arrival, names))
    return found


def _matched(_: Scenario, truth: Truth, answers: Sequence[Answer], names: tuple[str, ...]) -> list[Marks]:
    from scenarios.cgcd.scoring import agreement_of, arrival_of_classes

    arrival = arrival_of_classes(truth)
    return [_of_match(answer.stage, agreement_of(truth, answer, arrival), arrival, names) for answer in answers]


def _strictly_matched(_: Scenario, truth: Truth, answers: Sequence[Answer], names: tuple[str, ...]) -> list[Marks]:
    """Novel classes have arrived with the second stage."""
    from harness.metrics.novel_classes import strict_match
    from scenarios.ncd.scoring import moment_of

    found = []
    for moment in map(moment_of, [truth] * len(answers), answers):
        own = moment.tested & (~moment.novel if moment.answer.stage == 0 else True)
        agreement = strict_match(moment.rows[own], moment.labels[own], moment.known, n_classes=moment.n_classes)
        arrival = (np.arange(moment.n_classes) >= moment.known).astype(np.int64)
        found.append(_of_match(moment.answer.stage, agreement, arrival, names))
    return found


def _of_match(stage: int, agreement: Match, arrival: IntArray, names: tuple[str, ...]) -> Marks:
    return Marks(stage, agreement.matched.astype(np.float64), agreement.counts, arrival, names[: len(arrival)])


def _by_category(scenario: Scenario, truth: Truth, answers: Sequence[Answer], _: tuple[str, ...]) -> list[Marks]:
    """Every category counts once, whatever its number of images; those that have no AUROC are left out."""
    prefix = "image_auroc_of_"
    scores = scenario.score(truth, answers)
    table = scores.matrices["image_auroc"]
    names = tuple(name.removeprefix(prefix) for name in scores.final if name.startswith(prefix))
    asked = np.isfinite(table)
    arrival = np.argmax(asked, axis=0).astype(np.int64)
    last = max(answer.stage for answer in answers)
    stages = range(len(table)) if len(table) > 1 else [last]
    return [
        Marks(stage, np.nan_to_num(row), known.astype(np.int64), arrival, names)
        for stage, row, known in zip(stages, table, asked, strict=True)
    ]


def _of_part(truth: Truth, answers: Sequence[Answer], fact: str) -> list[Answer]:
    """Return what `answers` say of test items, which have 1 in `fact`."""
    found = []
    for answer in answers:
        tested = truth.facts[fact][answer.ids] == 1
        arrays = {name: values if name in OF_LEARNER else values[tested] for name, values in answer.arrays.items()}
        found.append(replace(answer, ids=answer.ids[tested], arrays=arrays))
    return found


__all__ = ["Marks", "Rule", "rule_of"]
