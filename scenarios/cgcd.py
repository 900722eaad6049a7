"""Continual generalized category discovery: labels at the start, then stages without any that mix known classes with unknown ones.

Stage 0 hands over labelled items of `initial` classes. Every later stage is unlabelled: many items of classes never met before and a few
of every class met earlier; which is which is not told, earlier items are gone. After every stage the learner says for test items of all
classes revealed so far which of its rows (known classes and clusters of its own) they belong to; `harness.metrics.discovery` scores it.

The protocol is that of Happy (Ma et al. 2024, "Happy: A Debiased Learning Framework for Continual Generalized Category Discovery", and its
released code). It differs from the released code in this: an item shown in two stages has a new id in the second, since a known id would
tell that its class is old; the labelled part is drawn under the seed as well (the code fixes it for every seed), so that seeds vary
everything; and no test item decides which epoch counts.

Sizes are said as text: `n_new=400` items a class, `80%` of the class's training items, `all` of what there is, or one of these for every
stage, joined by `+`. `new=5x10` is five stages of ten classes, `new=19+19+22` three unequal ones; 0 is a stage without new classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, field_validator

from harness import seeds
from harness.contracts import HIDDEN, Answer, Dataset, Deal, DealtStage, IntArray, Metric, Preset, Scenario, Scores, Truth, param
from harness.errors import UserError
from harness.metrics import discovery as figures
from harness.selection import configured
from scenarios.splits import test_mask

Amount = Annotated[str, BeforeValidator(str)]
Mask = NDArray[np.bool_]

ON_DISK = ("cifar100", "tinyimagenet", "imagenet", "cub", "cars", "aircraft")
"""Data sets of the published presets; their allocation needs labels only, see `CGCD.allocate`."""

_CODE = "Happy, released code"
_SMALL = "sized here for a CPU; new to old items per class as in Happy"


def _published(dataset: str, initial: int, new: str, n_new: int, n_old: int) -> dict[str, Any]:
    """Return the values that Happy's runs share: the published test, known classes first, a DINO ViT-B/16 whose last block trains."""
    return {"dataset": dataset, "initial": initial, "new": new, "n_new": str(n_new), "n_init": str(n_old), "n_seen": str(n_old),
            "class_order": "novel", "test_fraction": 0.0, "backbone": "timm:vit_base_patch16_224.dino", "views": "crop",
            "batch_size": 128, "first_epochs": 100, "epochs": 30}  # fmt: skip


class Allocation(NamedTuple):
    """Which items go where. labels int64 (U,) numbered in order of arrival; arrival int64 (U,) stage of an item's class, one past the last
    stage for classes that never come; stages without inputs."""

    labels: IntArray
    arrival: IntArray
    stages: list[DealtStage]


class CGCD(Scenario):
    """Known classes with labels first, then stages of unlabelled items, most of them of classes never met before."""

    dataset: str = param("digits", "data set, with parameters in brackets")
    classes: int = param(0, "classes of the data set that take part, drawn under the seed; 0 for all", ge=0, unit="classes")
    class_order: Literal["shuffled", "novel", "natural"] = param(
        "shuffled", "order of arrival: all drawn under the seed, only the novel ones (as published), or as in the data set"
    )
    initial: int = param(4, "classes labelled in stage 0", ge=2, unit="classes")
    new: Amount = param("3x2", "new classes per stage: 5x10 for five stages of ten, or 19+19+22; 0 is a stage without any")
    labelled: float = param(0.8, "share of an initial class's training items that stage 0 hands over with labels", gt=0, le=1)
    n_new: Amount = param("100", "items of every new class: a number, a share such as 80%, or all; joined by + for each stage")
    n_init: Amount = param("8", "items of every initial class in a later stage, from its unlabelled part")
    n_seen: Amount = param("8", "items of every class found in an earlier stage")
    resample: Literal["independent", "disjoint", "disjoint-initial"] = param(
        "independent", "draw every stage anew (as published), never show an item twice, or never one of an initial class"
    )
    shortage: Literal["error", "all"] = param("error", "where a class has fewer items than asked: refuse, or take all of them")
    shares: str = param("", "per cent of a class for each stage, a row for each cohort of classes: 87/7/3/3;70/20/10;90/10;100; "
                        "takes the place of labelled, n_new, n_init, n_seen and resample")  # fmt: skip
    imbalance: float = param(1.0, "largest to smallest class within a group, falling geometrically in order of arrival", ge=1)
    imbalance_in: Literal["new", "old", "both"] = param("both", "which groups the imbalance applies to")
    known_k: bool = param(True, "whether the number of new classes is told")
    test_scope: Literal["cumulative", "all", "stage"] = param("cumulative", "whose test items are asked: classes so far, all, the stage's")
    test_fraction: float = param(0.2, "share of every class (or of the groups) kept for the test; 0 for the published test", ge=0, lt=1)
    transductive: bool = param(False, "also ask for the stage's own unlabelled items, scored apart")
    choose: Literal["last", "best-on-test"] = param(
        "last", "which answer of a stage counts: the last, or (as in the released code, no board takes it) the probe best on the test"
    )
    first_epochs: int = param(50, "passes over stage 0", ge=1, unit="epochs")
    views: str = param("same", "how an item is shown twice: same, affine, token-dropout, noise, with parameters in brackets")

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="mean_all", meaning="accuracy on all classes so far, mean over the stages after the first"),
        Metric(name="mean_old", meaning="on the classes of earlier stages (soft split), mean over stages"),
        Metric(name="mean_new", meaning="on the classes of the stage (soft split), mean over stages; Happy's discovery"),
        Metric(name="last_all", meaning="on all classes after the last stage"),
        Metric(name="last_old", meaning="on the classes of earlier stages, after the last"),
        Metric(name="last_new", meaning="on the classes of the last stage with new ones; Grow and Merge's discovery"),
        Metric(name="last_initial", meaning="on the initial classes (hard split) after the last stage"),
        Metric(name="last_novel", meaning="on all classes found since (hard split) after the last stage"),
        Metric(name="first", meaning="on the initial classes after stage 0"),
        Metric(name="forgetting_initial", better="lower", meaning="largest drop on the initial classes; Happy's forgetting"),
        Metric(name="forgetting_seen", better="lower", meaning="first minus the lowest Old; Grow and Merge's forgetting"),
        Metric(name="balanced_all", meaning="mean over classes of the accuracy on each, mean over stages"),
        Metric(name="nmi", meaning="normalised mutual information, mean over stages"),
        Metric(name="ari", meaning="adjusted Rand index, mean over stages"),
        Metric(name="new_taken_for_old", better="lower", meaning="share of new-class items answered as an old row, mean over stages"),
        Metric(name="probability_gap", better="lower", meaning="mean probability of old rows minus that of new ones; 0 is no bias"),
        Metric(name="hardest_initial", meaning="accuracy on the hardest initial class after the last stage"),
        Metric(name="initial_variance", better="lower", meaning="variance of the initial classes' accuracies after the last stage"),
        Metric(name="k_error", better="lower", meaning="mean distance of the number of clusters from the number of classes"),
    )
    lower_bound: ClassVar[str] = "simgcd"
    upper_bound: ClassVar[str] = "joint-discovery"

    presets: ClassVar[Mapping[str, Preset]] = MappingProxyType(
        {
            "digits": Preset(values={"dataset": "digits", "initial": 4, "new": "3x2", "n_new": "100", "n_init": "8", "n_seen": "8",
                                     "backbone": "mlp", "views": "affine[shift=0.1]", "batch_size": 64, "first_epochs": 40, "epochs": 40},
                             source=_SMALL),
            "chars47": Preset(values={"dataset": "chars47", "initial": 27, "new": "5x4", "n_new": "32", "n_init": "2", "n_seen": "2",
                                      "backbone": "cnn", "views": "affine", "batch_size": 64, "first_epochs": 80, "epochs": 80},
                              source=_SMALL),
            "glyphs": Preset(values={"dataset": "glyphs", "initial": 32, "new": "5x6", "n_new": "48", "n_init": "4", "n_seen": "4",
                                     "backbone": "cnn", "views": "affine", "batch_size": 128, "first_epochs": 20, "epochs": 30},
                             source=_SMALL),
            "clinc150": Preset(values={"dataset": "clinc150", "initial": 75, "new": "5x15", "n_new": "96", "n_init": "6", "n_seen": "6",
                                       "backbone": "adapter", "views": "token-dropout", "batch_size": 128, "first_epochs": 50,
                                       "epochs": 30}, source=_SMALL),
            "happy-cifar100": Preset(values=_published("cifar100", 50, "5x10", 400, 25), source=f"{_CODE}, README; Table 1"),
            "happy-cifar100-10": Preset(values=_published("cifar100", 50, "10x5", 400, 25), source="Happy, Tables 4 and 9"),
            "happy-tinyimagenet": Preset(values=_published("tinyimagenet", 100, "5x20", 400, 25), source=f"{_CODE}, README; Table 1"),
            "happy-tinyimagenet-10": Preset(values=_published("tinyimagenet", 100, "10x10", 400, 25), source="Happy, Tables 4 and 10"),
            "happy-imagenet100": Preset(values={**_published("imagenet", 50, "5x10", 1000, 60), "classes": 100, "shortage": "all"},
                                        source=f"{_CODE}, logs; Table 1. The 100 classes follow the seed"),
            "happy-cub": Preset(values={**_published("cub", 100, "5x20", 25, 5), "epochs": 20}, source=f"{_CODE}, README"),
            "happy-cars": Preset(values={**_published("cars", 98, "19+19+19+19+22", 30, 6), "shortage": "all"},
                                 source=f"{_CODE}; sizes derived from its comments; known classes first"),
            "happy-aircraft": Preset(values=_published("aircraft", 50, "5x10", 55, 10),
                                     source=f"{_CODE}; sizes derived from its comments; known classes first"),
            "metagcd-cifar100": Preset(values={**_published("cifar100", 80, "4x5", 300, 25), "n_seen": "300", "class_order": "natural",
                                               "resample": "disjoint-initial"},
                                       source="MetaGCD, released code, but answers of the learner are scored"),
            "class-incd-cifar100": Preset(values={**_published("cifar100", 80, "2x10", 500, 0), "labelled": 1.0, "class_order": "natural"},
                                          source="FRoST, released code: stages of novel classes alone"),
            "promptccd-cifar100": Preset(values={**_published("cifar100", 70, "3x10", 0, 0),
                                                 "shares": "87/7/3/3;70/20/10;90/10;100", "transductive": True},
                                         source="PromptCCD, released configuration, shares of a class per stage"),
        }
    )  # fmt: skip

    @field_validator("new", "n_new", "n_init", "n_seen")
    @classmethod
    def _readable(cls, text: str, info: Any) -> str:
        (_stage_sizes if info.field_name == "new" else _amounts)(text, info.field_name)
        return text

    @field_validator("shares")
    @classmethod
    def _readable_shares(cls, text: str) -> str:
        _share_rows(text)
        return text

    def lent(self) -> dict[str, Any]:
        """Return network, views and budget."""
        return {**super().lent(), "first_epochs": self.first_epochs, "views": self.views}

    def inadmissible(self) -> str:
        """Refuse the choice of an answer by its test accuracy."""
        return "choose=best-on-test picks answers by their test accuracy" if self.choose == "best-on-test" else ""

    def data_digests(self) -> Mapping[str, str]:
        """Return the digest on the card of the data set."""
        return {self.dataset: self._dataset().card.digest}

    def deal(self, seed: int) -> Deal:
        """Deal the stages under `seed`.

        Raises:
            UserError: the data set has too few classes, or a class too few items.
        """
        if self.choose == "best-on-test" and not self.probe_every:
            raise UserError("choose=best-on-test needs probes to choose from; set probe_every")
        data = self._dataset().load()
        is_test = data.published_test if self.test_fraction == 0 else test_mask(data, self.test_fraction, seed)
        if is_test is None:
            raise UserError(f"{self.dataset} has no published test split; set test_fraction")
        dealt = self.allocate(data.labels, is_test, len(data.class_names), seed)
        facts = {"stage": dealt.arrival, "is_test": is_test}
        return Deal(inputs=data.inputs, labels=dealt.labels, facts=facts, stages=dealt.stages, recurring=False)

    def allocate(self, classes: IntArray, is_test: Mask, n_classes: int, seed: int) -> Allocation:
        """Return which items go into which stage; no inputs are needed.

        Args:
            classes: int (U,) class of every item as the data set numbers it.
            is_test: bool (U,).
            n_classes: how many classes the data set has.
            seed: of the deal.

        Raises:
            UserError: it cannot be done, with the class and the numbers.
        """
        new = _stage_sizes(self.new, "new")
        known = np.cumsum([self.initial, *new])
        order = self._order(n_classes, known[-1], seed)
        position = np.full(n_classes, len(order), dtype=np.int64)
        position[order] = np.arange(len(order))
        labels = position[classes]
        arrival = np.searchsorted(known, labels, side="right").astype(np.int64)
        train = [np.flatnonzero((labels == label) & ~is_test) for label in range(known[-1])]
        tested = np.bincount(labels[is_test], minlength=known[-1])[: known[-1]]
        if len(missing := np.flatnonzero(tested == 0)):
            raise UserError(f"{self.dataset}: {len(missing)} of the classes have no test item, so their accuracy is undefined")
        if self.test_scope == "stage" and 0 in new:
            raise UserError("test_scope=stage asks for nothing after a stage without new classes")
        draw = self._shared(train, known, seed) if self.shares else self._drawn(train, known, seed)
        stages = []
        for index in range(len(known)):
            rows = np.sort(np.concatenate([draw(label, index) for label in range(known[index])]))
            query = self._query(arrival, is_test, index, len(known), rows)
            given = labels[rows] if index == 0 else np.full(len(rows), HIDDEN, dtype=np.int64)
            arriving = self.initial if index == 0 else new[index - 1] if self.known_k else None
            stages.append(DealtStage(rows=rows, given=given, query=query, named_classes=self.initial, new_classes=arriving))
        return Allocation(labels, arrival, stages)

    def score(self, truth: Truth, answers: Sequence[Answer]) -> Scores:
        """Score what was answered so far; summaries are there once the last stage is."""
        arrival = _arrival_of_classes(truth)
        ended = [self._chosen(truth, answers, answer, arrival) for answer in answers if answer.step is None]
        rounds = [self._round(truth, answer, arrival, before) for answer, before in zip(ended, [None, *ended], strict=False)]
        per_stage = {name: [each.figures[name] for each in rounds] for name in (rounds[0].figures if rounds else ())}
        probes = [(a.stage, a.step, self._agreement(truth, a, arrival).accuracy()) for a in answers if a.step is not None]
        n_stages = len(truth.named_classes)
        matrix = np.full((n_stages, n_stages), np.nan)
        for row, each in enumerate(rounds):
            matrix[row] = [each.agreement.accuracy(arrival == cohort) if cohort <= row else np.nan for cohort in range(n_stages)]
        final = _summary(rounds, per_stage, arrival) if len(rounds) == n_stages > 1 else {}
        return Scores(final=final, per_stage=per_stage, probes={"all": probes}, matrices={"accuracy": matrix})

    # --- dealing ---------------------------------------------------------------------------------------------------------------

    def _dataset(self) -> Dataset:
        try:
            dataset: Dataset = configured("dataset", self.dataset)
        except UserError as error:
            if self.dataset in ON_DISK and str(error).startswith("unknown dataset"):
                raise UserError(f"{self.dataset!r} has to be read from your disk, which no installed data set does; a package can register "
                                "one of that name under openworld.datasets") from None  # fmt: skip
            raise
        return dataset

    def _order(self, n_classes: int, needed: int, seed: int) -> IntArray:
        """Return the classes of the data set that take part, in order of arrival."""
        if self.classes > n_classes:
            raise UserError(f"{self.dataset} has {n_classes} classes, so classes={self.classes} cannot take part")
        drawn = seeds.stream("classes", seed=seed).permutation(n_classes)[: self.classes or n_classes]
        order = np.sort(drawn)
        if needed > len(order):
            raise UserError(f"{self.initial} initial classes and new={self.new} need {needed} classes, {self.dataset} has {len(order)}")
        rng = seeds.stream("class-order", seed=seed)
        if self.class_order == "shuffled":
            order = rng.permutation(order)
        elif self.class_order == "novel":
            order = np.concatenate([order[: self.initial], rng.permutation(order[self.initial :])])
        return order[:needed]

    def _drawn(self, train: list[IntArray], known: IntArray, seed: int) -> Callable[[int, int], IntArray]:
        """Return the function (class, stage) -> rows, by numbers per class."""
        stages = len(known)
        amounts = {name: _per_stage(getattr(self, name), stages - 1, name) for name in ("n_new", "n_init", "n_seen")}
        taken: dict[int, int] = {}

        def draw(label: int, stage: int) -> IntArray:
            own = train[label]
            arrived = int(np.searchsorted(known, label, side="right"))
            if arrived == 0:
                own = seeds.stream("labelled", seed=seed, label=label).permutation(own)
                labelled = int(self.labelled * len(own))
                if stage == 0:
                    return own[: self._count(str(max(1, labelled)), own, label, 0)]
                own = own[labelled:]
            group = "n_init" if arrived == 0 else "n_new" if arrived == stage else "n_seen"
            size = self._count(amounts[group][stage - 1], own, label, stage, whole=len(train[label]))
            size = self._tapered(size, group, label, stage, known)
            again = self.resample == "independent" or (self.resample == "disjoint-initial" and arrived > 0)
            if again:
                return seeds.stream("draw", seed=seed, label=label, stage=stage).permutation(own)[:size]
            start = taken.get(label, 0)
            if start + size > len(own) and self.shortage == "error":
                raise UserError(f"class {label} has {len(own)} items to show once each, but stage {stage} needs items {start + 1} to "
                                f"{start + size}; lower n_new, n_init or n_seen, or set shortage=all or resample=independent")  # fmt: skip
            taken[label] = start + size
            return seeds.stream("draw", seed=seed, label=label).permutation(own)[start : start + size]

        return draw

    def _shared(self, train: list[IntArray], known: IntArray, seed: int) -> Callable[[int, int], IntArray]:
        """Return the function (class, stage) -> rows, by shares per cohort and stage (PromptCCD)."""
        rows = _share_rows(self.shares)
        stages = len(known)
        if [len(row) for row in rows] != list(range(stages, 0, -1)):
            raise UserError(f"shares should have {stages} rows of {stages} down to 1 figures, got {[len(row) for row in rows]}")

        def draw(label: int, stage: int) -> IntArray:
            arrived = int(np.searchsorted(known, label, side="right"))
            own = seeds.stream("draw", seed=seed, label=label).permutation(train[label])
            ends = np.floor(np.cumsum([0.0, *rows[arrived]]) / 100 * len(own) + 1e-9).astype(int)
            return own[ends[stage - arrived] : ends[stage - arrived + 1]]

        return draw

    def _count(self, amount: str, own: IntArray, label: int, stage: int, *, whole: int = 0) -> int:
        """Return how many of `own` an amount asks for; a share counts from the `whole` class."""
        size = len(own) if amount == "all" else round(float(amount[:-1]) / 100 * whole) if amount.endswith("%") else int(amount)
        if size > len(own) and self.shortage == "error":
            raise UserError(f"stage {stage} needs {size} items of class {label}, which has {len(own)} to draw from; lower n_new, n_init or "
                            "n_seen, or set shortage=all")  # fmt: skip
        return min(size, len(own))

    def _tapered(self, size: int, group: str, label: int, stage: int, known: IntArray) -> int:
        """Return the size under the imbalance: n q^(-i / (C - 1)) for rank i of C classes of the group."""
        is_new = group == "n_new"
        if self.imbalance == 1 or self.imbalance_in not in ("both", "new" if is_new else "old") or size == 0:
            return size
        first, last = {"n_init": (0, known[0]), "n_seen": (known[0], known[stage - 1]), "n_new": (known[stage - 1], known[stage])}[group]
        share: float = self.imbalance ** (-(label - first) / max(1, last - first - 1))
        return max(1, round(size * share))

    def _query(self, arrival: IntArray, is_test: Mask, stage: int, stages: int, rows: IntArray) -> IntArray:
        asked = {"cumulative": arrival <= stage, "all": arrival < stages, "stage": arrival == stage}[self.test_scope]
        query = np.flatnonzero(is_test & asked)
        return np.union1d(query, rows) if self.transductive and stage else query

    # --- scoring ---------------------------------------------------------------------------------------------------------------

    def _chosen(self, truth: Truth, answers: Sequence[Answer], last: Answer, arrival: IntArray) -> Answer:
        """Return the answer of a stage that counts. The learner goes on from its last epoch either way: no test label reaches it."""
        if self.choose == "last":
            return last
        probes = [answer for answer in answers if answer.stage == last.stage]
        return max(probes, key=lambda answer: self._agreement(truth, answer, arrival).accuracy())

    def _agreement(self, truth: Truth, answer: Answer, arrival: IntArray, *, on_test: bool = True) -> figures.Match:
        asked = truth.facts["is_test"][answer.ids] == on_test
        labels, rows = truth.labels[answer.ids], _rows(answer)
        revealed = asked & (truth.facts["stage"][answer.ids] <= answer.stage)
        return figures.match(rows[revealed], labels[revealed], n_classes=len(arrival))

    def _round(self, truth: Truth, answer: Answer, arrival: IntArray, before: Answer | None) -> _Round:
        """Return everything about one finished stage."""
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

        stage = answer.stage
        agreement = self._agreement(truth, answer, arrival)
        groups = figures.by_group(agreement, arrival, stage)
        asked = truth.facts["is_test"][answer.ids] & (truth.facts["stage"][answer.ids] <= stage)
        rows, labels = answer.arrays["classes"][asked], truth.labels[answer.ids[asked]]
        is_new = arrival[labels] == stage
        old_rows = _clusters(before) if before else 0
        if before and old_rows is None and self.known_k:
            old_rows = int((arrival < stage).sum())
        clusters = _clusters(answer)
        gap = answer.arrays.get("old_probability")
        counted = {
            "all": groups.everything,
            "old": groups.old,
            "new": groups.new,
            "initial": groups.initial,
            "novel": groups.novel,
            "balanced_all": agreement.balanced_accuracy(),
            "nmi": float(normalized_mutual_info_score(labels, rows)),
            "ari": float(adjusted_rand_score(labels, rows)),
            "new_taken_for_old": figures.new_taken_for_old(rows, is_new, old_rows) if stage and old_rows is not None else np.nan,
            "probability_gap": float(2 * gap[asked].mean(dtype=np.float64) - 1) if stage and gap is not None else np.nan,
            "clusters": np.nan if clusters is None else float(clusters),
            "k_error": np.nan if clusters is None else float(clusters - (arrival <= stage).sum()),
        }
        if self.transductive:
            counted["transductive_all"] = self._agreement(truth, answer, arrival, on_test=False).accuracy()
        return _Round(agreement, groups, counted)


class _Round(NamedTuple):
    """One finished stage: the assignment, the accuracies by group, and every figure by name."""

    agreement: figures.Match
    groups: figures.Groups
    figures: dict[str, float]


def _summary(rounds: Sequence[_Round], per_stage: Mapping[str, Sequence[float]], arrival: IntArray) -> dict[str, float]:
    groups = [each.groups for each in rounds]
    last, initial = rounds[-1], arrival == 0
    mean_new, last_new = figures.discovery(groups)

    def mean(name: str) -> float:
        return figures.mean_of_finite(np.array(per_stage[name][1:]))

    return {
        "mean_all": mean("all"),
        "mean_old": mean("old"),
        "mean_new": mean_new,
        "last_all": last.groups.everything,
        "last_old": last.groups.old,
        "last_new": last_new,
        "last_initial": last.groups.initial,
        "last_novel": last.groups.novel,
        "first": groups[0].everything,
        "forgetting_initial": figures.forgetting_of_initial(groups),
        "forgetting_seen": figures.forgetting_of_seen(groups),
        "balanced_all": mean("balanced_all"),
        "nmi": mean("nmi"),
        "ari": mean("ari"),
        "new_taken_for_old": mean("new_taken_for_old"),
        "probability_gap": mean("probability_gap"),
        "hardest_initial": last.agreement.hardest(initial),
        "initial_variance": float(np.nanvar(last.agreement.per_class()[initial])),
        "k_error": figures.mean_of_finite(np.abs(per_stage["k_error"][1:])),
    }


def _arrival_of_classes(truth: Truth) -> IntArray:
    """Return the stage that reveals each class, int64 (C,), for the classes that come at all."""
    comes = truth.facts["stage"] < len(truth.named_classes)
    arrival = np.zeros(int(truth.labels[comes].max()) + 1, dtype=np.int64)
    arrival[truth.labels[comes]] = truth.facts["stage"][comes]
    return arrival


def _rows(answer: Answer) -> IntArray:
    """Return the rows answered; numbers that are negative or beyond the items are renumbered, so that no table is sized by them."""
    rows: IntArray = answer.arrays["classes"]
    return rows if rows.min(initial=0) >= 0 and rows.max(initial=0) < max(1024, len(rows)) else np.unique(rows, return_inverse=True)[1]


def _clusters(answer: Answer) -> int | None:
    counted = answer.arrays.get("clusters")
    return None if counted is None or not len(counted) else int(counted[0])


def _stage_sizes(text: str, name: str) -> list[int]:
    """Return the new classes per stage that `text` says: 5x10, or 19+19+22."""
    times, cross, size = text.partition("x")
    parts = [size] * int(times) if cross and times.isdecimal() else text.split("+")
    if not parts or not all(part.isdecimal() for part in parts):
        raise ValueError(f"{name} should be stages x classes such as 5x10, or one number per stage such as 19+19+22, got {text!r}")
    return [int(part) for part in parts]


def _amounts(text: str, name: str) -> list[str]:
    parts = text.split("+")
    for part in parts:
        if not (part == "all" or part.isdecimal() or (part.endswith("%") and _is_share(part[:-1]))):
            raise ValueError(f"{name} should be a number of items, a share such as 80%, or all, got {part!r}")
    return parts


def _per_stage(text: str, stages: int, name: str) -> list[str]:
    parts = _amounts(text, name)
    if len(parts) not in (1, stages):
        raise UserError(f"{name}={text} says {len(parts)} amounts for {stages} stages")
    return parts * stages if len(parts) == 1 else parts


def _share_rows(text: str) -> list[list[float]]:
    rows = [row.strip().split("/") for row in text.split(";")] if text else []
    if not all(_is_share(part) for row in rows for part in row):
        raise ValueError(f"shares should be per cent such as 87/7/3/3;70/20/10;90/10;100, got {text!r}")
    shares = [[float(part) for part in row] for row in rows]
    if any(sum(row) > 100 + 1e-9 for row in shares):
        raise ValueError(f"no row of shares can exceed 100 per cent, got {text!r}")
    return shares


def _is_share(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal() and float(text) <= 100
