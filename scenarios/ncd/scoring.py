"""Scores of novel class discovery: what one answer says of training and test items, of known and novel
classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.contracts import ClassCounts, IntArray, Metric, Scores, StoredPrediction, Truth
from harness.metrics import ncd as figures
from harness.metrics.discovery import match, mean_of_finite

TEST, UNLABELLED, LABELLED, HELD = 1, 2, 3, 4
"""The fact `role` of an item: asked after every stage, given without a label, given with one, or held out; 0
for the rest.
"""

NAN = float("nan")

METRICS: tuple[Metric, ...] = (
    Metric(
        name="novel_train",
        meaning="on unlabelled novel items by among_novel (else classes), own matching: transductive, task-aware",
    ),
    Metric(
        name="novel_train_nmi",
        meaning="normalised mutual information of the same (arithmetic mean of the entropies)",
    ),
    Metric(name="novel_train_ari", meaning="adjusted Rand index of the same"),
    Metric(name="novel_train_heads", meaning="novel_train, mean over the heads that were answered"),
    Metric(name="novel_train_balanced", meaning="novel_train, mean over classes"),
    Metric(name="novel_test", meaning="as novel_train on novel test items: inductive, task-aware"),
    Metric(name="novel_test_nmi", meaning="normalised mutual information of the same"),
    Metric(name="novel_test_ari", meaning="adjusted Rand index of the same"),
    Metric(name="all_joint", meaning="on all test items by classes, one matching for all (v2)"),
    Metric(name="known_joint", meaning="the known classes of all_joint; known rows may have changed places"),
    Metric(name="novel_joint", meaning="the novel classes of all_joint"),
    Metric(
        name="all_strict",
        meaning="on all test items by classes, known rows fixed, a matching among the others (v3)",
    ),
    Metric(name="known_strict", meaning="the known classes of all_strict: plain accuracy"),
    Metric(name="novel_strict", meaning="the novel classes of all_strict"),
    Metric(
        name="novel_own",
        meaning="on novel test items by classes, a matching of their own over all rows (v1); optimistic",
    ),
    Metric(name="known_test", meaning="on known test items by among_known: task-aware"),
    Metric(
        name="balance",
        meaning="entropy of among_novel on unlabelled novel items / log of their classes; 0 is a single row",
    ),
    Metric(
        name="empty_rows",
        better="lower",
        meaning="number of novel rows that no unlabelled novel item got, of as many as classes",
    ),
    Metric(
        name="novel_taken_for_known",
        better="lower",
        meaning="share of novel test items answered as a known row",
    ),
    Metric(
        name="known_taken_for_novel",
        better="lower",
        meaning="share of known test items answered as another row",
    ),
    Metric(name="relation_shift", better="lower", meaning="mean of that answer over unlabelled novel items"),
    Metric(
        name="relation_agreement",
        meaning="share of novel test items whose nearest known class is that of stage 0",
    ),
    Metric(name="first_known", meaning="on known test items by classes after stage 0"),
)

GENERALISED: tuple[Metric, ...] = (
    Metric(
        name="unlabelled_all_joint",
        meaning="on all unlabelled items by classes, one matching for all (v2): transductive",
    ),
    Metric(
        name="unlabelled_known_joint",
        meaning="the known classes of unlabelled_all_joint; Old of the published tables",
    ),
    Metric(
        name="unlabelled_novel_joint",
        meaning="the novel classes of unlabelled_all_joint; New of the published tables",
    ),
)
"""What leads where unlabelled items may be of known classes."""

PER_STAGE = ("all_strict", "known_strict", "novel_strict", "known_test", "novel_train")
CURVES = ("novel_train", "novel_test", "known_strict")
_MOST_PICTURED = 100


@dataclass(frozen=True)
class Moment:
    """One answer taken apart, N items of C classes, the first `known` of them known.

    labels, rows: int64 (N,) true classes, and rows by `classes`: known ones as answered, others renumbered
    upwards from `known`.
    heads: int64 (N, H) rows among the novel ones, None where they were not answered.
    tested, hidden, novel: bool (N,) whether an item is of the test, was given without a label, is of a novel
    class.
    """

    answer: StoredPrediction
    known: int
    n_classes: int
    labels: IntArray
    rows: IntArray
    heads: IntArray | None
    tested: NDArray[np.bool_]
    hidden: NDArray[np.bool_]
    novel: NDArray[np.bool_]


def moment_of(truth: Truth, answer: StoredPrediction) -> Moment:
    """Take `answer` apart."""
    known, labels, role = truth.named_classes[0], truth.labels[answer.ids], truth.facts["role"]
    heads = answer.arrays.get("among_novel")
    return Moment(
        answer=answer,
        known=known,
        n_classes=int(truth.labels[role == TEST].max()) + 1,
        labels=labels,
        rows=_renumbered(answer.arrays["classes"], known),
        heads=None if heads is None else _renumbered(heads, 0).reshape(len(labels), -1),
        tested=role[answer.ids] == TEST,
        hidden=role[answer.ids] == UNLABELLED,
        novel=labels >= known,
    )


def figures_of(moment: Moment) -> dict[str, float]:
    """Return every figure that needs no other answer, by name; NaN where what it is made of was not asked or
    not answered.
    """
    arrays, labels, rows, known = moment.answer.arrays, moment.labels, moment.rows, moment.known
    sought, tested = moment.hidden & moment.novel, moment.tested
    joint = figures.split(match(rows[tested], labels[tested], n_classes=moment.n_classes), known)
    strict = figures.split(
        figures.strict_match(rows[tested], labels[tested], known, n_classes=moment.n_classes), known
    )
    among = figures.split(
        match(rows[moment.hidden], labels[moment.hidden], n_classes=moment.n_classes), known
    )
    leaked = figures.leakage(rows[tested], labels[tested], known)
    own_known = tested & ~moment.novel
    return {
        **_clustering(moment, sought, "novel_train"),
        **_spread(moment, sought),
        **_clustering(moment, tested & moment.novel, "novel_test"),
        "all_joint": joint.everything,
        "known_joint": joint.known,
        "novel_joint": joint.novel,
        "all_strict": strict.everything,
        "known_strict": strict.known,
        "novel_strict": strict.novel,
        "novel_own": figures.own_matching(rows, labels, tested & moment.novel),
        "known_test": _share(arrays["among_known"] == labels, own_known) if "among_known" in arrays else NAN,
        "novel_taken_for_known": leaked[0],
        "known_taken_for_novel": leaked[1],
        "relation_shift": _share(arrays["relation_shift"], sought) if "relation_shift" in arrays else NAN,
        "unlabelled_all_joint": among.everything,
        "unlabelled_known_joint": among.known,
        "unlabelled_novel_joint": among.novel,
    }


def relation_agreement(first: Moment, last: Moment) -> float:
    """Return the share of novel test items that are likened to the same known class in both answers; NaN
    where one says nothing.
    """
    if not all("among_known" in moment.answer.arrays for moment in (first, last)):
        return NAN
    before, now = (
        moment.answer.arrays["among_known"][moment.tested & moment.novel] for moment in (first, last)
    )
    return mean_of_finite((before == now).astype(np.float64))


class NCDScorer:
    """Scores answers after stages and in mid-stage; the figures of the run are there once both stages are."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.moments: list[Moment] = []
        self.figures: list[dict[str, float]] = []
        self.curves: dict[str, list[tuple[int, int, float]]] = {name: [] for name in CURVES}

    def add(self, answer: StoredPrediction) -> None:
        """Take in the next answer."""
        moment = moment_of(self.truth, answer)
        counted = figures_of(moment)
        if answer.step is None:
            self.moments.append(moment)
            self.figures.append(counted)
            return
        for name, curve in self.curves.items():
            if np.isfinite(counted[name]):
                curve.append((answer.stage, answer.step, counted[name]))

    def scores(self) -> Scores:
        """Return what the answers so far come to."""
        per_stage = {name: [counted[name] for counted in self.figures] for name in PER_STAGE}
        curves = {name: [*curve] for name, curve in self.curves.items()}
        if len(self.moments) < len(self.truth.named_classes):
            return Scores(final={}, per_stage=per_stage, probes=curves)
        first, last = self.moments[0], self.moments[-1]
        again = {
            "relation_agreement": relation_agreement(first, last),
            "first_known": self.figures[0]["known_strict"],
        }
        return Scores(
            final={**self.figures[-1], **again},
            per_stage=per_stage,
            probes=curves,
            matrices=_matrices(last),
            histograms=_histograms(last),
        )


def _renumbered(rows: IntArray, fixed: int) -> IntArray:
    """Return rows with those outside [0, fixed) renumbered upwards from `fixed`, so that no table is sized by
    a number answered.
    """
    outside = (rows < 0) | (rows >= fixed)
    found = rows.copy()
    found[outside] = fixed + np.unique(rows[outside], return_inverse=True)[1]
    return found


def _clustering(moment: Moment, counted: NDArray[np.bool_], name: str) -> dict[str, float]:
    """Return accuracy, NMI and ARI of the chosen head; a learner that says nothing among novel rows is taken
    at its `classes`.
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    labels = moment.labels[counted] - moment.known
    rows = (moment.rows if moment.heads is None else moment.heads[:, 0])[counted]
    return {
        name: match(rows, labels).accuracy(),
        f"{name}_nmi": float(normalized_mutual_info_score(labels, rows)) if len(rows) else NAN,
        f"{name}_ari": float(adjusted_rand_score(labels, rows)) if len(rows) else NAN,
        f"{name}_balanced": match(rows, labels).balanced_accuracy(),
    }


def _spread(moment: Moment, sought: NDArray[np.bool_]) -> dict[str, float]:
    """Return what is said of novel rows alone, over the heads and over the rows of the chosen one."""
    if moment.heads is None or not sought.any():
        return dict.fromkeys(("novel_train_heads", "balance", "empty_rows"), NAN)
    labels, heads, n_novel = (
        moment.labels[sought] - moment.known,
        moment.heads[sought],
        moment.n_classes - moment.known,
    )
    return {
        "novel_train_heads": float(np.mean([match(head, labels).accuracy() for head in heads.T])),
        "balance": figures.balance(heads[:, 0], n_novel),
        "empty_rows": float(figures.empty_rows(heads[:, 0], n_novel)),
    }


def _matrices(moment: Moment) -> dict[str, NDArray[np.float64]]:
    """Return how unlabelled novel items spread over novel rows, where a picture of it can be read."""
    sought, n_novel = moment.hidden & moment.novel, moment.n_classes - moment.known
    if moment.heads is None or not sought.any() or n_novel > _MOST_PICTURED:
        return {}
    return {
        "novel_rows": figures.rows_by_class(
            moment.heads[sought, 0], moment.labels[sought] - moment.known, n_novel
        )
    }


def _histograms(moment: Moment) -> dict[str, dict[str, NDArray[np.float64]]]:
    shift = moment.answer.arrays.get("relation_shift")
    if shift is None:
        return {}
    groups = {
        "unlabelled novel items": moment.hidden & moment.novel,
        "known test items": moment.tested & ~moment.novel,
    }
    return {
        "relation_shift": {
            name: shift[group].astype(np.float64) for name, group in groups.items() if group.any()
        }
    }


def _share(values: NDArray[np.bool_] | NDArray[np.float16], counted: NDArray[np.bool_]) -> float:
    return mean_of_finite(values[counted].astype(np.float64))


def correct_by_class(
    truth: Truth, answers: Sequence[StoredPrediction], class_names: tuple[str, ...]
) -> list[ClassCounts]:
    """Return for every answer how often it is right on test items in the strict reading, by class; novel ones
    arrive in stage 1.
    """
    found = []
    for answer in answers:
        moment = moment_of(truth, answer)
        own = moment.tested & (~moment.novel if answer.stage == 0 else True)
        agreement = figures.strict_match(
            moment.rows[own], moment.labels[own], moment.known, n_classes=moment.n_classes
        )
        arrival = (np.arange(moment.n_classes) >= moment.known).astype(np.int64)
        right = agreement.matched.astype(np.float64)
        found.append(ClassCounts(answer.stage, right, agreement.counts, arrival, class_names[: len(arrival)]))
    return found
