"""Class-incremental learning: the classes of one data set arrive in stages, each fully labelled, each seen
once.

After every stage the whole test set is asked, also the classes still to come, so that the query tells nothing
about what arrives next and the accuracy matrix R[i, j] is complete. Task access "train" is class-incremental
learning proper; "test" tells the stage of every item at prediction (task-incremental learning). Terms as in
van de Ven, Tuytelaars and Tolias 2022, "Three types of incremental learning".

With `test_fraction=0` the test is the part that the publisher of the data set set apart, the same under every
seed, and every other item is trained on but those that the publisher set apart to choose by
(`Stage.validation`).

With `open_set=true` it is scored as well how well the OOD scores of a learner that gives some tell items of
classes still to come from those that have come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np

from harness import seeds
from harness.contracts import (
    Deal,
    DealtStage,
    Metric,
    Scenario,
    Scorer,
    Scores,
    StoredPrediction,
    TaskAccess,
    TrainingBudget,
    Truth,
    param,
)
from harness.errors import UserError
from harness.metrics import class_incremental as figures
from scenarios.datasets.by_name import data_of, dataset_named
from scenarios.model_selection.scenario import model_selection_on
from scenarios.shared import open_set
from scenarios.shared.splits import check_filled, given_fact, tested_part, validation_part

METRICS: tuple[Metric, ...] = (
    Metric(name="average_accuracy", meaning="mean accuracy over stages at the end"),
    Metric(
        name="average_incremental_accuracy", meaning="accuracy on the classes seen so far, mean over time"
    ),
    Metric(name="forgetting", better="lower", meaning="drop from the best earlier accuracy of a stage"),
    Metric(name="backward_transfer", meaning="change of a stage's accuracy since it was learned"),
    Metric(
        name="forward_transfer",
        meaning="head start on a stage before it is learned; 0 where its classes cannot be named earlier",
    ),
)


class ClassIncremental(Scenario):
    """Classes arrive in stages, fully labelled; accuracy on old and new ones is what counts."""

    dataset: str = param("digits", "data set, with parameters in brackets")
    stages: int = param(5, "number of stages", ge=1, unit="stages")
    first_classes: int = param(
        0, "classes in the first stage; 0 shares all classes equally", ge=0, unit="classes"
    )
    class_order: Literal["shuffled", "natural"] = param(
        "shuffled", "order of arrival: drawn under the seed, or as in the data set"
    )
    test_fraction: float = param(
        0.2,
        (
            "share of every class (or of the groups, where the data set has some) kept for the test; 0 for the "
            "published test"
        ),
        ge=0,
        lt=1,
    )
    task_access: TaskAccess = param(
        "train", "whether the stage of an item is known while training only, or at prediction too"
    )
    open_set: bool = param(
        False, "also score OOD scores, of learners that give some, of items of classes still to come"
    )
    augmentations: str = param(
        "same",
        "augmentations of training items: same, or such as padded-crop[mirror=0.5], several joined by +",
        formerly="views",
    )

    later: ClassVar[tuple[str, ...]] = ("open_set", "augmentations")

    @property
    def metrics(self) -> tuple[Metric, ...]:  # type: ignore[override]
        """Accuracies, and with `open_set` what is made of classes still to come."""
        return (*METRICS, *open_set.METRICS) if self.open_set else METRICS

    def budget(self) -> TrainingBudget:
        """Return network, augmentations and budget."""
        return replace(super().budget(), augmentations=self.augmentations)

    def model_selection(self) -> str:
        """Return the same stages with part of the training items held out."""
        return model_selection_on("class-incremental", self)

    def data_digests(self) -> Mapping[str, str]:
        """Return the digest on the card of the data set."""
        return {self.dataset: dataset_named(self.dataset).card.digest}

    def deal(self, seed: int) -> Deal:
        """Deal the stages under `seed`.

        Raises:
            UserError: the data set has too few classes for the stages, no published test where that is asked
            for, or a class too few items.
        """
        data = data_of(self.dataset)
        sizes = self._stage_sizes(len(data.class_names))
        order = np.arange(len(data.class_names))
        if self.class_order == "shuffled":
            order = seeds.stream("class-order", seed=seed).permutation(order)
        named = np.cumsum(sizes)
        labels = np.argsort(order)[data.labels].astype(np.int64)
        arrival = np.searchsorted(named, labels, side="right").astype(np.int64)
        is_test = tested_part(data, self.test_fraction, seed, name=self.dataset)
        is_validation = validation_part(data, is_test)
        parts = {"training": ~is_test & ~is_validation, "test": is_test}
        check_filled(
            data.labels,
            parts,
            np.arange(len(order)),
            self.dataset,
            fraction=self.test_fraction,
            names=data.class_names,
        )
        query = np.flatnonzero(is_test)
        stages = []
        for index, size in enumerate(sizes):
            rows, held = (
                np.flatnonzero(chosen & (arrival == index))
                for chosen in (~is_test & ~is_validation, is_validation)
            )
            stages.append(
                DealtStage(
                    rows=rows,
                    observed_labels=labels[rows],
                    query=query,
                    named_classes=int(named[index]),
                    new_classes=size,
                    validation=held,
                    validation_labels=labels[held],
                )
            )
        facts = {"stage": arrival, **given_fact(data, labels)}
        return Deal(
            inputs=data.inputs,
            labels=labels,
            facts=facts,
            stages=stages,
            task_access=self.task_access,
            class_numbers=order,
        )

    def scorer(self, truth: Truth) -> Scorer:
        """Score what was answered so far; figures that need the last stage are left out until it is there."""
        return _Scorer(self, truth)

    def _stage_sizes(self, classes: int) -> list[int]:
        first = self.first_classes
        rest = self.stages - 1 if first else self.stages
        if first + rest > classes or (first and not rest and first != classes):
            raise UserError(
                f"{self.dataset} has {classes} classes, which {self.stages} stages with "
                f"first_classes={first} cannot share"
            )
        # numpy's array_split puts the larger shares first
        shares = [len(part) for part in np.array_split(np.arange(classes - first), rest)] if rest else []
        return ([first] if first else []) + shares


class _Scorer:
    """Fills the accuracy matrix row by row."""

    def __init__(self, scenario: ClassIncremental, truth: Truth) -> None:
        self.scenario, self.truth, self.n_stages = scenario, truth, len(truth.named_classes)
        self.matrix = np.full((self.n_stages, self.n_stages), np.nan)
        self.seen: list[float] = []
        self.ood: list[Mapping[str, float]] = []
        self.probes: list[tuple[int, int, float]] = []

    def add(self, answer: StoredPrediction) -> None:
        labels, predicted = self.truth.labels[answer.ids], answer.arrays["classes"]
        novel = labels >= self.truth.named_classes[answer.stage]
        seen = float(np.mean(predicted[~novel] == labels[~novel]))
        if answer.step is not None:
            self.probes.append((answer.stage, answer.step, seen))
            return
        self.matrix[answer.stage] = figures.accuracy_row(
            predicted, labels, self.truth.facts["stage"][answer.ids], self.n_stages
        )
        self.seen.append(seen)
        if self.scenario.open_set:
            self.ood.append(open_set.of_answer(answer, np.ones_like(novel), novel))

    def scores(self) -> Scores:
        ood = open_set.after_stages(self.ood)
        final = self._final() if len(self.seen) == self.n_stages else {}
        if final and self.scenario.open_set:
            final |= open_set.summary(ood)
        return Scores(
            final=final,
            per_stage={"seen_accuracy": [*self.seen], **ood},
            probes={"seen_accuracy": [*self.probes]},
            matrices={"accuracy": self.matrix.copy()},
        )

    def _final(self) -> dict[str, float]:
        sizes = np.diff([0, *self.truth.named_classes])
        untrained = (
            1.0 / np.maximum(sizes, 1) if self.scenario.task_access == "test" else np.zeros(len(sizes))
        )
        return {
            "average_accuracy": figures.average_accuracy(self.matrix),
            "average_incremental_accuracy": figures.average_incremental_accuracy(self.seen),
            "forgetting": figures.forgetting(self.matrix),
            "backward_transfer": figures.backward_transfer(self.matrix),
            "forward_transfer": figures.forward_transfer(self.matrix, list(untrained)),
        }
