"""Novel class discovery: labels of some classes, and unlabelled items of others that are to be told apart.

Stage 0 hands over labelled items of the known classes. Stage 1 hands the same ones over again, beside
unlabelled items. In novel class discovery proper (`unlabelled_known=drop`) all of these are of novel classes;
in the generalised form (`mix`) those of the known items that keep no label are among them, and which is which
is not told. After either stage the whole test set is asked, of known and novel classes, so that answers of
both stages can be compared; after stage 1 the unlabelled items are asked too, since papers score on them.

Classes are 0 to Cl - 1 where known and Cl to C - 1 where novel. The protocols are those of UNO (Fini et al.
2021), Cr-KD (Gu et al. 2023) and, generalised, GCD (Vaze et al. 2022). Differences from their released code:
true labels of unlabelled items reach no learner; the labelled half of GCD is drawn under the seed (the code
fixes it); no test item and no hidden label decides which epoch or head counts. How labelled and unlabelled
items are mixed in a batch is the strategy's, and so is the check that its batches hold enough unlabelled ones
for an even assignment (2.5 a novel class or more).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, field_validator

from harness import seeds
from harness.contracts import (
    HIDDEN,
    ClassCounts,
    Deal,
    DealtStage,
    IntArray,
    Metric,
    Preset,
    Scenario,
    Scorer,
    StoredPrediction,
    TrainingBudget,
    Truth,
    param,
)
from harness.errors import UserError
from scenarios.datasets.by_name import data_of, dataset_named
from scenarios.ncd.presets import PRESETS
from scenarios.ncd.scoring import (
    GENERALISED,
    HELD,
    LABELLED,
    METRICS,
    TEST,
    UNLABELLED,
    NCDScorer,
    correct_by_class,
)
from scenarios.shared.class_lists import ClassList, all_exist, class_list
from scenarios.shared.splits import check_filled, given_fact, tested_part

Text = Annotated[str, BeforeValidator(str)]
Mask = NDArray[np.bool_]


class Allocation(NamedTuple):
    """Which items go where. labels int64 (U,), known classes first, C for classes that take no part; role
    int64 (U,) as in `scoring`; numbers int64 (C,) the data set's own numbers of the classes; stages without
    inputs.
    """

    labels: IntArray
    role: IntArray
    numbers: IntArray
    stages: list[DealtStage]


class NCD(Scenario):
    """Some classes come with labels, others without: tell the novel ones apart and keep the known ones."""

    dataset: str = param("digits", "data set, with parameters in brackets")
    known: int = param(
        0, "known classes; 0 for half of all, or for what novel_list leaves", ge=0, unit="classes"
    )
    novel: int = param(0, "novel classes; 0 for the rest", ge=0, unit="classes")
    class_order: Literal["shuffled", "natural"] = param(
        "shuffled", "which classes are known: drawn under the seed, or the first ones"
    )
    known_list: ClassList = param(
        "",
        "the known classes by number, such as 0-4 or 0+3+7, or by the name of a published list; empty for by count",
    )
    novel_list: ClassList = param("", "the novel classes in the same way")
    labelled_fraction: float = param(
        1.0, "share of the known classes' training items, all classes together, that keep labels", gt=0, le=1
    )
    unlabelled_known: Literal["drop", "mix"] = param(
        "drop", "what happens to the others: left out, or mixed with the novel items (GCD)"
    )
    novel_fraction: float = param(1.0, "share of every novel class's training items that is used", gt=0, le=1)
    imbalance: float = param(
        1.0, "largest to smallest class within a group, falling geometrically in order of the classes", ge=1
    )
    imbalance_in: Literal["novel", "known", "both"] = param("both", "which groups the imbalance applies to")
    cap: int = param(0, "training items of a class at most; 0 for no limit", ge=0, unit="items")
    told_novel: Text = param(
        "true", "the number of novel classes that learners know: true, none, or wrong by a share such as -0.2"
    )
    validation_fraction: float = param(
        0.0, "share of every known class's labelled items that is the validation split", ge=0, lt=1
    )
    test_fraction: float = param(
        0.2, "share of every class (or of the groups) kept for the test; 0 for the published test", ge=0, lt=1
    )
    first_epochs: int = param(20, "passes over stage 0", ge=1, unit="epochs")
    gradient_steps: int = param(0, "steps in stage 1; 0 for as many as the epochs take", ge=0, unit="steps")
    augmentations: str = param(
        "same",
        (
            "augmentations of two views: same, affine, crop, resized-crop, token-dropout, noise, with "
            "parameters in brackets"
        ),
        formerly="views",
    )

    first_batch_size: int = param(
        0, "items per gradient step in stage 0; 0 for batch_size", ge=0, unit="items"
    )

    later: ClassVar[tuple[str, ...]] = ("first_batch_size",)
    lower_bound: ClassVar[str] = "ncd-k-means"
    upper_bound: ClassVar[str] = "joint-novel"

    presets: ClassVar[Mapping[str, Preset]] = PRESETS

    @field_validator("told_novel")
    @classmethod
    def _readable_error(cls, text: str) -> str:
        return _canonical(text)

    @property
    def metrics(self) -> tuple[Metric, ...]:  # type: ignore[override]
        """The figures, those of all unlabelled items first where these are mixed."""
        return (*GENERALISED, *METRICS) if self.unlabelled_known == "mix" else METRICS

    def budget(self) -> TrainingBudget:
        """Return network, augmentations and budget."""
        return replace(
            super().budget(),
            first_epochs=self.first_epochs,
            first_batch_size=self.first_batch_size or None,
            gradient_steps=self.gradient_steps,
            augmentations=self.augmentations,
        )

    def data_digests(self) -> Mapping[str, str]:
        """Return the digest on the card of the data set."""
        return {self.dataset: dataset_named(self.dataset).card.digest}

    def deal(self, seed: int) -> Deal:
        """Deal both stages under `seed`.

        Raises:
            UserError: the classes or shares do not fit the data set.
        """
        data = data_of(self.dataset)
        is_test = tested_part(data, self.test_fraction, seed, name=self.dataset)
        dealt = self.allocate(data.labels, is_test, len(data.class_names), seed, names=data.class_names)
        return Deal(
            inputs=data.inputs,
            labels=dealt.labels,
            facts={"role": dealt.role, **given_fact(data, dealt.labels)},
            stages=dealt.stages,
            class_numbers=dealt.numbers,
        )

    def allocate(
        self, classes: IntArray, is_test: Mask, n_classes: int, seed: int, *, names: Sequence[str] = ()
    ) -> Allocation:
        """Return which items go into which stage; no inputs are needed.

        Args:
            classes: int (U,) class of every item as the data set numbers it.
            is_test: bool (U,).
            n_classes: how many classes the data set has.
            seed: of the deal.
            names: of the classes, for messages.

        Raises:
            UserError: it cannot be done, with the classes and the numbers.
        """
        if self.unlabelled_known == "mix" and self.labelled_fraction == 1:
            raise UserError(
                "unlabelled_known=mix needs known items without labels to mix in; set labelled_fraction below 1"
            )
        known, novel = self._groups(n_classes, seed)
        numbers = np.array(known + novel, dtype=np.int64)
        place = np.full(n_classes, len(numbers), dtype=np.int64)
        place[numbers] = np.arange(len(numbers))
        labels = place[classes]
        parts = {"training": ~is_test, "test": is_test}
        check_filled(labels, parts, numbers, self.dataset, fraction=self.test_fraction, names=names)
        train = _by_class(np.flatnonzero(~is_test & (labels < len(numbers))), labels, len(numbers))
        own = [self._kept(rows, label, len(known), len(novel), seed) for label, rows in enumerate(train)]
        labelled, rest = self._labelled_parts(own[: len(known)], seed)
        validation = self._validation(labelled, labels, numbers[: len(known)], seed)
        unlabelled = np.sort(np.concatenate([*own[len(known) :], rest]))
        labelled = np.setdiff1d(labelled, validation)
        query = np.flatnonzero(is_test & (labels < len(numbers)))
        role = np.zeros(len(labels), dtype=np.int64)
        for part, rows in ((TEST, query), (UNLABELLED, unlabelled), (LABELLED, labelled), (HELD, validation)):
            role[rows] = part
        both = np.union1d(labelled, unlabelled)
        common: dict[str, Any] = {
            "query": query,
            "named_classes": len(known),
            "validation": validation,
            "validation_labels": labels[validation],
        }
        stages = [
            DealtStage(rows=labelled, observed_labels=labels[labelled], new_classes=len(known), **common),
            DealtStage(
                rows=both,
                observed_labels=np.where(role[both] == LABELLED, labels[both], HIDDEN),
                new_classes=self._announced_novel(len(novel)),
                monitored=unlabelled,
                **common,
            ),
        ]
        return Allocation(labels, role, numbers, stages)

    def per_class_measure(self) -> str:
        """Return in words what `correct_by_class` counts as right."""
        return "accuracy on test items, known rows fixed and the others matched"

    def correct_by_class(
        self, truth: Truth, answers: Sequence[StoredPrediction], class_names: tuple[str, ...]
    ) -> list[ClassCounts]:
        """Return for every answer how often it is right in the strict reading, by class."""
        return correct_by_class(truth, answers, class_names)

    def scorer(self, truth: Truth) -> Scorer:
        """Score what was answered so far; the figures are there once stage 1 is."""
        return NCDScorer(truth)

    # --- dealing --------------------------------------------------------------------------------------------

    def _groups(self, n_classes: int, seed: int) -> tuple[list[int], list[int]]:
        """Return the known and the novel classes as the data set numbers them; lists keep their order."""
        known, novel = (class_list(getattr(self, name), name) for name in ("known_list", "novel_list"))
        listed = {*known, *novel}
        all_exist(listed, n_classes, self.dataset)
        if len(listed) < len(known) + len(novel):
            raise UserError(f"class {min({*known} & {*novel})} is both in known_list and in novel_list")
        for name, numbers in (("known", known), ("novel", novel)):
            if numbers and getattr(self, name) not in (0, len(numbers)):
                raise UserError(f"{name}={getattr(self, name)}, but {name}_list names {len(numbers)} classes")
        order = (
            seeds.stream("class-order", seed=seed).permutation(n_classes)
            if self.class_order == "shuffled"
            else range(n_classes)
        )
        free = [int(number) for number in order if int(number) not in listed]
        if not known:
            wanted = self.known or (len(free) if novel else n_classes // 2)
            known, free = free[:wanted], free[wanted:]
        novel = novel or free[: self.novel or None]
        if len(known) < self.known or len(novel) < self.novel:
            raise UserError(
                f"known={self.known} and novel={self.novel} do not fit the {n_classes} classes of {self.dataset}"
            )
        if min(len(known), len(novel)) < 2:
            raise UserError(
                f"two known and two novel classes are the least, here are {len(known)} and {len(novel)} of "
                f"{self.dataset}"
            )
        return known, novel

    def _kept(self, own: IntArray, label: int, n_known: int, n_novel: int, seed: int) -> IntArray:
        """Return the training items of a class that are used, one at least: the share, the cap, then n q^(-i
        / (C - 1)) for the i-th.
        """
        group, rank, size_of_group = (
            ("known", label, n_known) if label < n_known else ("novel", label - n_known, n_novel)
        )
        size = round(self.novel_fraction * len(own)) if group == "novel" else len(own)
        size = min(size, self.cap) if self.cap else size
        if self.imbalance_in in ("both", group):
            size = round(size * self.imbalance ** (-rank / (size_of_group - 1)))
        return seeds.stream("kept", seed=seed, label=label).permutation(own)[: max(1, size)]

    def _labelled_parts(self, own: list[IntArray], seed: int) -> tuple[IntArray, IntArray]:
        """Return the items of known classes that keep their labels, and those to mix in; one draw over all
        classes, as in GCD.
        """
        pool = seeds.stream("labelled", seed=seed).permutation(np.sort(np.concatenate(own)))
        size = int(self.labelled_fraction * len(pool) + 1e-9)
        return pool[:size], pool[size:] if self.unlabelled_known == "mix" else pool[:0]

    def _validation(self, labelled: IntArray, labels: IntArray, numbers: IntArray, seed: int) -> IntArray:
        """Return the validation split of labelled items, the same share of every class; each class keeps one to learn
        from.
        """
        held = []
        for label, own in enumerate(_by_class(np.sort(labelled), labels, len(numbers))):
            size = max(1, round(self.validation_fraction * len(own))) if self.validation_fraction else 0
            if size >= len(own):
                raise UserError(
                    f"{self.dataset}: the known class {numbers[label]} has {len(own)} labelled items, "
                    f"{size} of them held out, "
                    "so none is left to learn from; raise labelled_fraction or cap, or lower validation_fraction"
                )
            held.append(seeds.stream("held", seed=seed, label=label).permutation(own)[:size])
        return np.sort(np.concatenate(held))

    def _announced_novel(self, n_novel: int) -> int | None:
        """Return the number of novel classes that learners know, right or wrong."""
        if self.told_novel == "none":
            return None
        return n_novel if self.told_novel == "true" else max(1, round(n_novel * (1 + float(self.told_novel))))


def _by_class(rows: IntArray, labels: IntArray, n_classes: int) -> list[IntArray]:
    """Return `rows` parted by class, each part in their order; all of them are of the first `n_classes`."""
    order = rows[np.argsort(labels[rows], kind="stable")]
    return np.split(order, np.cumsum(np.bincount(labels[order], minlength=n_classes))[:-1])


def _canonical(text: str) -> str:
    """Return `text` as one of true, none or a number; raise ValueError for anything else."""
    if text.lower() in ("true", "none"):
        return text.lower()
    try:
        error = float(text)
    except ValueError:
        error = float("nan")
    if not -1 < error < float("inf"):
        raise ValueError(
            f"told_novel should be true, none, or a relative error above -1 such as -0.2, got {text!r}"
        )
    return f"{error:g}"
