"""Continual generalized category discovery: labels at the start, then stages without any that mix known
classes with unknown ones.

Stage 0 hands over labelled items of `initial` classes. Every later stage is unlabelled: many items of classes
never met before and a few of every class met earlier; which is which is not told, earlier items are gone.
After every stage the learner says for test items of all classes revealed so far which of its rows (known
classes and clusters of its own) they belong to; `scoring` says how good that is.

The protocol is that of Happy (Ma et al. 2024, "Happy: A Debiased Learning Framework for Continual Generalized
Category Discovery", and its released code). It differs from the released code in this: an item shown in two
stages has a new id in the second, since a known id would tell that its class is old; the labelled part is
drawn under the seed as well (the code fixes it for every seed), so that seeds vary everything; and no test
item decides which epoch counts.

With `open_set=true` test items of classes still to come are predicted as well. No accuracy counts them; of
learners that give OOD scores, it is scored how well these tell them from items of classes revealed.

Which classes are initial is drawn, or said by `initial_list`: these in the order of the list, and all others
are novel ones, ascending with `class_order=natural`, drawn under the seed with `novel`.

Sizes are said as text: `n_new=400` items a class, `80%` of the class's training items, `all` of what there
is, or one of these for every stage, joined by `+`. `new=5x10` is five stages of ten classes, `new=19+19+22`
three unequal ones; 0 is a stage without new classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, field_validator, model_validator

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
from scenarios.cgcd import scoring
from scenarios.cgcd.amounts import amounts, per_stage, share_rows, stage_sizes
from scenarios.cgcd.presets import PRESETS
from scenarios.datasets.by_name import data_of, dataset_named
from scenarios.model_selection.scenario import model_selection_on
from scenarios.shared import open_set
from scenarios.shared.class_lists import ClassList, all_exist, class_list
from scenarios.shared.splits import check_filled, given_fact, tested_part

Amount = Annotated[str, BeforeValidator(str)]
Mask = NDArray[np.bool_]


class Allocation(NamedTuple):
    """Which items go where. labels int64 (U,) numbered in order of arrival; arrival int64 (U,) stage of an
    item's class, one past the last stage for classes that never come; stages without inputs.
    """

    labels: IntArray
    arrival: IntArray
    stages: list[DealtStage]


class CGCD(Scenario):
    """Known classes with labels first, then stages of unlabelled items, most of them of classes never met
    before.
    """

    dataset: str = param("digits", "data set, with parameters in brackets")
    classes: int = param(
        0, "classes of the data set that take part, drawn under the seed; 0 for all", ge=0, unit="classes"
    )
    class_order: Literal["shuffled", "novel", "natural"] = param(
        "shuffled",
        "order of arrival: all drawn under the seed, only the novel ones (as published), or as in the data set",
    )
    initial: int = param(4, "classes labelled in stage 0", ge=2, unit="classes")
    new: Amount = param(
        "3x2", "new classes per stage: 5x10 for five stages of ten, or 19+19+22; 0 is a stage without any"
    )
    labelled: float = param(
        0.8, "share of an initial class's training items that stage 0 hands over with labels", gt=0, le=1
    )
    n_new: Amount = param(
        "100", "items of every new class: a number, a share such as 80%, or all; joined by + for each stage"
    )
    n_init: Amount = param("8", "items of every initial class in a later stage, from its unlabelled part")
    n_seen: Amount = param("8", "items of every class found in an earlier stage")
    resample: Literal["independent", "disjoint", "disjoint-initial"] = param(
        "independent",
        "draw every stage anew (as published), never show an item twice, or never one of an initial class",
    )
    shortage: Literal["error", "all"] = param(
        "error", "where a class has fewer items than wanted: refuse, or take all of them"
    )
    shares: str = param(
        "",
        "per cent of a class for each stage, a row for each cohort of classes: 87/7/3/3;70/20/10;90/10;100; "
        "takes the place of labelled, n_new, n_init, n_seen and resample",
    )
    imbalance: float = param(
        1.0, "largest to smallest class within a group, falling geometrically in order of arrival", ge=1
    )
    imbalance_in: Literal["new", "old", "both"] = param("both", "which groups the imbalance applies to")
    known_k: bool = param(True, "whether the number of new classes is known")
    test_scope: Literal["cumulative", "all", "stage"] = param(
        "cumulative", "whose test items are predicted: classes so far, all, the stage's"
    )
    test_fraction: float = param(
        0.2, "share of every class (or of the groups) kept for the test; 0 for the published test", ge=0, lt=1
    )
    transductive: bool = param(False, "also ask for the stage's own unlabelled items, scored apart")
    choose: Literal["last", "best-on-test"] = param(
        "last",
        (
            "which answer of a stage counts: the last, or (as in the released code, no board takes it) the "
            "probe best on the test"
        ),
    )
    first_epochs: int = param(50, "passes over stage 0", ge=1, unit="epochs")
    augmentations: str = param(
        "same",
        "augmentations of two views: same, affine, token-dropout, noise, with parameters in brackets",
        formerly="views",
    )

    open_set: bool = param(
        False,
        "also predict test items of classes still to come, and score OOD scores of learners that give some",
    )
    initial_list: ClassList = param(
        "",
        (
            "the classes of stage 0 by number, such as 0-4 or 0+3+7, or by the name of a published list; empty "
            "for by count and order"
        ),
    )

    later: ClassVar[tuple[str, ...]] = ("open_set", "initial_list")
    lower_bound: ClassVar[str] = "simgcd"
    upper_bound: ClassVar[str] = "joint-discovery"

    presets: ClassVar[Mapping[str, Preset]] = PRESETS

    @property
    def metrics(self) -> tuple[Metric, ...]:  # type: ignore[override]
        """Accuracies by group, and with `open_set` what is made of classes still to come."""
        return (*scoring.METRICS, *open_set.METRICS) if self.open_set else scoring.METRICS

    @model_validator(mode="before")
    @classmethod
    def _counted(cls, values: Any) -> Any:
        """Let `initial` follow from `initial_list` where it is not said."""
        if isinstance(values, dict) and values.get("initial_list") and "initial" not in values:
            return {**values, "initial": len(class_list(str(values["initial_list"]), "initial_list"))}
        return values

    @model_validator(mode="after")
    def _list_agrees(self) -> Self:
        listed = class_list(self.initial_list, "initial_list")
        if listed and len(listed) != self.initial:
            raise ValueError(
                f"initial={self.initial}, but initial_list names {len(listed)} classes: set initial={len(listed)}"
            )
        if listed and self.class_order == "shuffled":
            raise ValueError(
                "class_order=shuffled draws the initial classes too, which initial_list names: set "
                "class_order=novel to draw "
                "the others alone, or natural"
            )
        if listed and self.classes:
            raise ValueError(
                f"classes={self.classes} draws which classes take part, but initial_list names some of "
                "them: set classes=0"
            )
        return self

    @field_validator("new", "n_new", "n_init", "n_seen")
    @classmethod
    def _readable(cls, text: str, info: Any) -> str:
        (stage_sizes if info.field_name == "new" else amounts)(text, info.field_name)
        return text

    @field_validator("shares")
    @classmethod
    def _readable_shares(cls, text: str) -> str:
        share_rows(text)
        return text

    def budget(self) -> TrainingBudget:
        """Return network, augmentations and budget."""
        return replace(super().budget(), first_epochs=self.first_epochs, augmentations=self.augmentations)

    def board_exclusion_reason(self) -> str:
        """Refuse the choice of an answer by its test accuracy."""
        return (
            "choose=best-on-test picks answers by their test accuracy"
            if self.choose == "best-on-test"
            else ""
        )

    def model_selection(self) -> str:
        """Return the labelled classes of stage 0 alone, half of which play novel ones."""
        return (
            ""
            if self.board_exclusion_reason() or self.initial < 3
            else model_selection_on("cgcd", self, novel=0.5)
        )

    def data_digests(self) -> Mapping[str, str]:
        """Return the digest on the card of the data set."""
        return {self.dataset: dataset_named(self.dataset).card.digest}

    def deal(self, seed: int) -> Deal:
        """Deal the stages under `seed`.

        Raises:
            UserError: the data set has too few classes, or a class too few items.
        """
        if self.choose == "best-on-test" and not self.probe_every:
            raise UserError("choose=best-on-test needs probes to choose from; set probe_every")
        data = data_of(self.dataset)
        is_test = tested_part(data, self.test_fraction, seed, name=self.dataset)
        dealt = self.allocate(data.labels, is_test, len(data.class_names), seed, names=data.class_names)
        facts = {"stage": dealt.arrival, "is_test": is_test, **given_fact(data, dealt.labels)}
        numbers = data.labels[np.unique(dealt.labels, return_index=True)[1]]
        return Deal(
            inputs=data.inputs,
            labels=dealt.labels,
            facts=facts,
            stages=dealt.stages,
            recurring=False,
            class_numbers=numbers,
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
            UserError: it cannot be done, with the class and the numbers.
        """
        new = stage_sizes(self.new, "new")
        known = np.cumsum([self.initial, *new])
        order = self._order(n_classes, known[-1], seed)
        position = np.full(n_classes, len(order), dtype=np.int64)
        position[order] = np.arange(len(order))
        labels = position[classes]
        arrival = np.searchsorted(known, labels, side="right").astype(np.int64)
        train = _by_class(np.flatnonzero(~is_test & (labels < known[-1])), labels, int(known[-1]))
        parts = {"training": ~is_test, "test": is_test}
        check_filled(labels, parts, order, self.dataset, fraction=self.test_fraction, names=names)
        if self.test_scope == "stage" and 0 in new:
            raise UserError("test_scope=stage asks for nothing after a stage without new classes")
        draw = self._shared(train, known, seed) if self.shares else self._drawn(train, known, order, seed)
        stages = []
        for index in range(len(known)):
            drawn = [draw(label, index) for label in range(known[index])]
            if len(
                missing := [
                    label
                    for label in range(known[index - 1] if index else 0, known[index])
                    if not len(drawn[label])
                ]
            ):
                label = missing[0]
                raise UserError(
                    f"{self.dataset}: stage {index}, in which class {order[label]} arrives, takes none of its "
                    f"{len(train[label])} training items; raise {'shares' if self.shares else 'n_new'}"
                )
            rows = np.sort(np.concatenate(drawn))
            query = self._query(arrival, is_test, index, len(known), rows)
            given = labels[rows] if index == 0 else np.full(len(rows), HIDDEN, dtype=np.int64)
            arriving = self.initial if index == 0 else new[index - 1] if self.known_k else None
            stages.append(
                DealtStage(
                    rows=rows,
                    observed_labels=given,
                    query=query,
                    named_classes=self.initial,
                    new_classes=arriving,
                )
            )
        return Allocation(labels, arrival, stages)

    def per_class_measure(self) -> str:
        """Return in words what `correct_by_class` counts as right."""
        return "accuracy on test items, one matching of clusters to classes a stage"

    def correct_by_class(
        self, truth: Truth, answers: Sequence[StoredPrediction], class_names: tuple[str, ...]
    ) -> list[ClassCounts]:
        """Return for every answer how often it is right under the matching of its stage, by class."""
        return scoring.correct_by_class(truth, answers, class_names)

    def scorer(self, truth: Truth) -> Scorer:
        """Score what was answered so far; summaries are there once the last stage is."""
        return scoring.CGCDScorer(
            truth,
            known_k=self.known_k,
            transductive=self.transductive,
            open_set=self.open_set,
            best=self.choose == "best-on-test",
        )

    # --- dealing --------------------------------------------------------------------------------------------

    def _order(self, n_classes: int, needed: int, seed: int) -> IntArray:
        """Return the classes of the data set that take part, in order of arrival."""
        if self.classes > n_classes:
            raise UserError(
                f"{self.dataset} has {n_classes} classes, so classes={self.classes} cannot take part"
            )
        drawn = seeds.stream("classes", seed=seed).permutation(n_classes)[: self.classes or n_classes]
        order = np.sort(drawn)
        if listed := class_list(self.initial_list, "initial_list"):
            all_exist(listed, n_classes, self.dataset)
            order = np.concatenate([np.array(listed, dtype=np.int64), np.setdiff1d(order, listed)])
        if needed > len(order):
            raise UserError(
                f"{self.initial} initial classes and new={self.new} need {needed} classes, {self.dataset} "
                f"has {len(order)}"
            )
        rng = seeds.stream("class-order", seed=seed)
        if self.class_order == "shuffled":
            order = rng.permutation(order)
        elif self.class_order == "novel":
            order = np.concatenate([order[: self.initial], rng.permutation(order[self.initial :])])
        return order[:needed]

    def _drawn(
        self, train: list[IntArray], known: IntArray, numbers: IntArray, seed: int
    ) -> Callable[[int, int], IntArray]:
        """Return the function (class, stage) -> rows, by numbers per class."""
        stages = len(known)
        sizes = {
            name: per_stage(getattr(self, name), stages - 1, name) for name in ("n_new", "n_init", "n_seen")
        }
        taken: dict[int, int] = {}

        @cache
        def initial(label: int) -> IntArray:
            return seeds.stream("labelled", seed=seed, label=label).permutation(train[label])

        def draw(label: int, stage: int) -> IntArray:
            own = train[label]
            arrived = int(np.searchsorted(known, label, side="right"))
            if arrived == 0:
                own = initial(label)
                labelled = int(self.labelled * len(own))
                if stage == 0:
                    return own[: self._count(str(max(1, labelled)), own, numbers[label], 0)]
                own = own[labelled:]
            group = "n_init" if arrived == 0 else "n_new" if arrived == stage else "n_seen"
            size = self._count(sizes[group][stage - 1], own, numbers[label], stage, whole=len(train[label]))
            size = self._tapered(size, group, label, stage, known)
            again = self.resample == "independent" or (self.resample == "disjoint-initial" and arrived > 0)
            if again:
                return seeds.stream("draw", seed=seed, label=label, stage=stage).permutation(own)[:size]
            start = taken.get(label, 0)
            if start + size > len(own) and self.shortage == "error":
                raise UserError(
                    f"{self.dataset}: class {numbers[label]} has {len(own)} items to show once each, but "
                    f"stage {stage} needs "
                    f"items {start + 1} to {start + size}; lower n_new, n_init or n_seen, or set shortage=all or "
                    "resample=independent"
                )
            taken[label] = start + size
            return seeds.stream("draw", seed=seed, label=label).permutation(own)[start : start + size]

        return draw

    def _shared(self, train: list[IntArray], known: IntArray, seed: int) -> Callable[[int, int], IntArray]:
        """Return the function (class, stage) -> rows, by shares per cohort and stage (PromptCCD)."""
        rows = share_rows(self.shares)
        stages = len(known)
        if [len(row) for row in rows] != list(range(stages, 0, -1)):
            raise UserError(
                f"shares should have {stages} rows of {stages} down to 1 figures, got {[len(row) for row in rows]}"
            )

        def draw(label: int, stage: int) -> IntArray:
            arrived = int(np.searchsorted(known, label, side="right"))
            own = seeds.stream("draw", seed=seed, label=label).permutation(train[label])
            ends = np.floor(np.cumsum([0.0, *rows[arrived]]) / 100 * len(own) + 1e-9).astype(int)
            return own[ends[stage - arrived] : ends[stage - arrived + 1]]

        return draw

    def _count(self, amount: str, own: IntArray, number: int, stage: int, *, whole: int = 0) -> int:
        """Return how many of `own`, of the data set's class `number`, an amount asks for; a share counts from
        the `whole` class.
        """
        size = (
            len(own)
            if amount == "all"
            else round(float(amount[:-1]) / 100 * whole)
            if amount.endswith("%")
            else int(amount)
        )
        if size > len(own) and self.shortage == "error":
            raise UserError(
                f"{self.dataset}: stage {stage} needs {size} items of class {number}, which has {len(own)} "
                "to draw from; "
                "lower n_new, n_init or n_seen, or set shortage=all"
            )
        return min(size, len(own))

    def _tapered(self, size: int, group: str, label: int, stage: int, known: IntArray) -> int:
        """Return the size under the imbalance: n q^(-i / (C - 1)) for rank i of C classes of the group."""
        is_new = group == "n_new"
        if self.imbalance == 1 or self.imbalance_in not in ("both", "new" if is_new else "old") or size == 0:
            return size
        first, last = {
            "n_init": (0, known[0]),
            "n_seen": (known[0], known[stage - 1]),
            "n_new": (known[stage - 1], known[stage]),
        }[group]
        share: float = self.imbalance ** (-(label - first) / max(1, last - first - 1))
        return max(1, round(size * share))

    def _query(self, arrival: IntArray, is_test: Mask, stage: int, stages: int, rows: IntArray) -> IntArray:
        counted = {"cumulative": arrival <= stage, "all": arrival < stages, "stage": arrival == stage}[
            self.test_scope
        ]
        if self.open_set:
            counted |= (arrival > stage) & (arrival < stages)
        query = np.flatnonzero(is_test & counted)
        return np.union1d(query, rows) if self.transductive and stage else query


def _by_class(rows: IntArray, labels: IntArray, n_classes: int) -> list[IntArray]:
    """Return ascending `rows` parted by class, each part ascending; all of them are of the first `n_classes`."""
    order = rows[np.argsort(labels[rows], kind="stable")]
    return np.split(order, np.cumsum(np.bincount(labels[order], minlength=n_classes))[:-1])
