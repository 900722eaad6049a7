"""Scores of category discovery: every figure of a finished stage, and the summaries over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from harness.contracts import ClassCounts, IntArray, Metric, Scores, StoredPrediction, Truth
from harness.metrics import discovery as figures
from scenarios.shared import open_set

METRICS: tuple[Metric, ...] = (
    Metric(name="mean_all", meaning="accuracy on all classes so far, mean over the stages after the first"),
    Metric(name="mean_old", meaning="on the classes of earlier stages (soft split), mean over stages"),
    Metric(
        name="mean_new",
        meaning="on the classes of the stage (soft split), mean over stages; Happy's discovery",
    ),
    Metric(name="last_all", meaning="on all classes after the last stage"),
    Metric(name="last_old", meaning="on the classes of earlier stages, after the last"),
    Metric(
        name="last_new", meaning="on the classes of the last stage with new ones; Grow and Merge's discovery"
    ),
    Metric(name="last_initial", meaning="on the initial classes (hard split) after the last stage"),
    Metric(name="last_novel", meaning="on all classes found since (hard split) after the last stage"),
    Metric(name="first", meaning="on the initial classes after stage 0"),
    Metric(
        name="forgetting_initial",
        better="lower",
        meaning="largest drop on the initial classes; Happy's forgetting",
    ),
    Metric(
        name="forgetting_seen",
        better="lower",
        meaning="first minus the lowest Old; Grow and Merge's forgetting",
    ),
    Metric(name="balanced_all", meaning="mean over classes of the accuracy on each, mean over stages"),
    Metric(name="nmi", meaning="normalised mutual information, mean over stages"),
    Metric(name="ari", meaning="adjusted Rand index, mean over stages"),
    Metric(
        name="new_taken_for_old",
        better="lower",
        meaning="share of new-class items answered as an old row, mean over stages",
    ),
    Metric(
        name="probability_gap",
        better="lower",
        meaning="mean probability of old rows minus that of new ones; 0 is no bias",
    ),
    Metric(name="hardest_initial", meaning="accuracy on the hardest initial class after the last stage"),
    Metric(
        name="initial_variance",
        better="lower",
        meaning="variance of the initial classes' accuracies after the last stage",
    ),
    Metric(
        name="k_error",
        better="lower",
        meaning="mean distance of the number of clusters from the number of classes",
    ),
)


class Round(NamedTuple):
    """One finished stage: the assignment, the accuracies by group, and every figure by name."""

    agreement: figures.Match
    groups: figures.Groups
    figures: dict[str, float]


class CGCDScorer:
    """Matches rows to classes once an answer.

    best: the best answer of a stage on the test counts, else its last. The learner goes on from its last
    epoch either way: no test label reaches it. The rest as in the scenario.
    """

    def __init__(
        self, truth: Truth, *, known_k: bool, transductive: bool, open_set: bool, best: bool
    ) -> None:
        self.truth, self.known_k, self.transductive, self.open_set, self.best = (
            truth,
            known_k,
            transductive,
            open_set,
            best,
        )
        self.arrival, self.n_stages = arrival_of_classes(truth), len(truth.named_classes)
        self.matrix = np.full((self.n_stages, self.n_stages), np.nan)
        self.rounds: list[Round] = []
        self.ood: list[Mapping[str, float]] = []
        self.probes: list[tuple[int, int, float]] = []
        self.before: StoredPrediction | None = None
        self.leading: dict[int, tuple[StoredPrediction, float]] = {}  # by stage, of those that have not ended

    def add(self, answer: StoredPrediction) -> None:
        """Take in the next answer."""
        if answer.step is not None or self.best:
            accuracy = agreement_of(self.truth, answer, self.arrival).accuracy()
            if answer.step is not None:
                self.probes.append((answer.stage, answer.step, accuracy))
            if self.best and (answer.stage not in self.leading or accuracy > self.leading[answer.stage][1]):
                self.leading[answer.stage] = answer, accuracy
        if answer.step is not None:
            return
        chosen, _ = self.leading.pop(answer.stage, (answer, 0.0))
        found = round_of(
            self.truth,
            chosen,
            self.arrival,
            self.before,
            known_k=self.known_k,
            transductive=self.transductive,
        )
        self.matrix[len(self.rounds)] = found.agreement.per_group(self.arrival, self.n_stages)
        self.rounds.append(found)
        if self.open_set:
            self.ood.append(open_set_figures(self.truth, chosen))
        self.before = chosen

    def scores(self) -> Scores:
        """Return what the answers so far come to."""
        per_stage = {
            name: [each.figures[name] for each in self.rounds]
            for name in (self.rounds[0].figures if self.rounds else ())
        }
        ood = open_set.after_stages(self.ood)
        final = summary(self.rounds, per_stage, self.arrival) if len(self.rounds) == self.n_stages > 1 else {}
        if final and self.open_set:
            final |= open_set.summary(ood)
        return Scores(
            final=final,
            per_stage=per_stage | ood,
            probes={"all": [*self.probes]},
            matrices={"accuracy": self.matrix.copy()},
        )


def agreement_of(
    truth: Truth, answer: StoredPrediction, arrival: IntArray, *, on_test: bool = True
) -> figures.Match:
    """Match rows to classes over the test items of the classes revealed so far, or over the stage's own
    unlabelled ones.
    """
    counted = truth.facts["is_test"][answer.ids] == on_test
    labels, rows = truth.labels[answer.ids], figures.counted_rows(answer.arrays["classes"])
    revealed = counted & (truth.facts["stage"][answer.ids] <= answer.stage)
    return figures.match(rows[revealed], labels[revealed], n_classes=len(arrival))


def round_of(
    truth: Truth,
    answer: StoredPrediction,
    arrival: IntArray,
    before: StoredPrediction | None,
    *,
    known_k: bool,
    transductive: bool,
) -> Round:
    """Return everything about one finished stage; `before` is the answer of the stage before it, None after
    stage 0.
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    stage = answer.stage
    agreement = agreement_of(truth, answer, arrival)
    groups = figures.by_group(agreement, arrival, stage)
    counted = truth.facts["is_test"][answer.ids] & (truth.facts["stage"][answer.ids] <= stage)
    rows, labels = answer.arrays["classes"][counted], truth.labels[answer.ids[counted]]
    is_new = arrival[labels] == stage
    old_rows = _clusters(before) if before else 0
    if before and old_rows is None and known_k:
        old_rows = int((arrival < stage).sum())
    clusters = _clusters(answer)
    old = answer.arrays.get("old_probability")
    gap = None if old is None else old.astype(np.float64)
    counted = {
        "all": groups.everything,
        "old": groups.old,
        "new": groups.new,
        "initial": groups.initial,
        "novel": groups.novel,
        "balanced_all": agreement.balanced_accuracy(),
        "nmi": float(normalized_mutual_info_score(labels, rows)),
        "ari": float(adjusted_rand_score(labels, rows)),
        "new_taken_for_old": figures.new_taken_for_old(rows, is_new, old_rows)
        if stage and old_rows is not None
        else np.nan,
        "probability_gap": figures.probability_gap(np.stack([gap, 1 - gap], axis=1)[counted], 1)
        if stage and gap is not None
        else np.nan,
        "clusters": np.nan if clusters is None else float(clusters),
        "k_error": np.nan if clusters is None else float(clusters - (arrival <= stage).sum()),
    }
    if transductive:
        counted["transductive_all"] = agreement_of(truth, answer, arrival, on_test=False).accuracy()
    return Round(agreement, groups, counted)


def summary(
    rounds: Sequence[Round], per_stage: Mapping[str, Sequence[float]], arrival: IntArray
) -> dict[str, float]:
    """Return the figures of a whole run by name; arguments as in `round_of`."""
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


def open_set_figures(truth: Truth, answer: StoredPrediction) -> dict[str, float]:
    """Return the figures of `open_set.METRICS` after a stage, over test items; nothing where strangeness was
    not answered.

    Args:
        truth: with the facts `stage` and `is_test`.
        answer: of the finished stage. Novel are classes that have not been revealed; those found so far count
            as known.
    """
    return open_set.of_answer(
        answer, truth.facts["is_test"][answer.ids], truth.facts["stage"][answer.ids] > answer.stage
    )


def arrival_of_classes(truth: Truth) -> IntArray:
    """Return the stage that reveals each class, int64 (C,), for the classes that come at all."""
    comes = truth.facts["stage"] < len(truth.named_classes)
    arrival = np.zeros(int(truth.labels[comes].max()) + 1, dtype=np.int64)
    arrival[truth.labels[comes]] = truth.facts["stage"][comes]
    return arrival


def correct_by_class(
    truth: Truth, answers: Sequence[StoredPrediction], class_names: tuple[str, ...]
) -> list[ClassCounts]:
    """Return for every answer how often it is right under the matching of its stage, by class."""
    arrival = arrival_of_classes(truth)
    found = []
    for answer in answers:
        agreement = agreement_of(truth, answer, arrival)
        right = agreement.matched.astype(np.float64)
        found.append(ClassCounts(answer.stage, right, agreement.counts, arrival, class_names[: len(arrival)]))
    return found


def _clusters(answer: StoredPrediction) -> int | None:
    counted = answer.arrays.get("clusters")
    return None if counted is None or not len(counted) else int(counted[0])
