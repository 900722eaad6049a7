"""What a cell's answers say of a learner under wrong labels: how well it predicts, what it memorises, which
labels it distrusts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.contracts import Metric, Scores, StoredPrediction, Truth
from harness.metrics import noisy_labels as figures
from harness.metrics.detection import auroc, levels

TEST, TRAIN, VALIDATION = 1, 2, 3
"""The fact `part` of an item: asked by the base scenario, given with a label, or held out."""

NAN = float("nan")

ACCURACIES = (
    Metric(
        name="tail_accuracy",
        meaning="on the test items of all classes named, mean over the last epochs (10 unless said) that were probed",
    ),
    Metric(name="last_accuracy", meaning="the same after the last epoch"),
    Metric(name="chosen_accuracy", meaning="at the epoch that is best on the validation items"),
    Metric(name="best_accuracy", meaning="ORACLE: at the epoch that is best on the test"),
)
"""What can be said where nobody knows which labels are wrong."""

METRICS = (
    *ACCURACIES,
    Metric(
        name="memorised", better="lower", meaning="share of the wrong labels that are predicted, at the end"
    ),
    Metric(
        name="corrected", meaning="share of the items with wrong labels that are predicted right, at the end"
    ),
    Metric(name="wrong_auroc", meaning="how well the learner's suspicion tells wrong labels from right ones"),
    Metric(name="kept_precision", meaning="share of right ones among the labels that the learner keeps"),
    Metric(name="kept_recall", meaning="share of the right labels that the learner keeps"),
    Metric(
        name="matrix_error",
        better="lower",
        meaning="sum |T^ - T| / sum |T|, T^ as the learner's predictions on its own items imply it",
    ),
)


@dataclass(frozen=True)
class Moment:
    """One answer taken apart. `figures` holds shares; the arrays speak of the items given with labels so far
    that are watched, and are
    made when they are asked for: of hundreds of moments the last one's are.
    """

    truth: Truth
    answer: StoredPrediction
    figures: Mapping[str, float]

    @property
    def rows(self) -> NDArray[np.int64]:
        """Where in the answer they stand."""
        return np.flatnonzero(self.truth.facts["part"][self.answer.ids] == TRAIN)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Their true classes."""
        return self.truth.labels[self.answer.ids[self.rows]]

    @property
    def observed(self) -> NDArray[np.int64]:
        """The labels handed over with them."""
        observed: NDArray[np.int64] = self.truth.facts["observed"][self.answer.ids[self.rows]]
        return observed

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Their classes as answered."""
        return self.answer.arrays["classes"][self.rows]


def moment_of(truth: Truth, answer: StoredPrediction, *, known: bool = True) -> Moment:
    """Return what `answer` says; test accuracy is over the classes named so far.

    Where it is not `known` which labels are wrong, nothing is said of right and wrong ones, but how many
    labels are predicted as given.
    """
    part, observed = truth.facts["part"][answer.ids], truth.facts["observed"][answer.ids]
    labels, predicted = truth.labels[answer.ids], answer.arrays["classes"]
    tested = (part == TEST) & (labels < truth.named_classes[answer.stage])
    held, rows = part == VALIDATION, np.flatnonzero(part == TRAIN)
    shares = {
        "accuracy": _share(predicted[tested] == labels[tested]),
        "validation": _share(predicted[held] == observed[held]),
    }
    if known:
        right = rows[labels[rows] == observed[rows]]
        shares["right_fitted"] = _share(predicted[right] == labels[right])
        shares |= figures.memorisation(predicted[rows], labels[rows], observed[rows])._asdict()
    else:
        shares["fitted"] = _share(predicted[rows] == observed[rows])
    return Moment(truth, answer, shares)


def accuracies(moments: Sequence[Moment], tail: int, epochs: int) -> dict[str, float]:
    """Return test accuracies over the answers of the last stage; `moments` in order of time, the end last."""
    accuracy = [moment.figures["accuracy"] for moment in moments]
    in_tail = [
        moment.figures["accuracy"]
        for moment in moments
        if moment.answer.step is None or moment.answer.step > epochs - tail
    ]
    validated = np.array([moment.figures["validation"] for moment in moments])
    chosen = accuracy[int(np.argmax(validated))] if np.isfinite(validated).all() else NAN
    found = float(np.mean(in_tail)), accuracy[-1], chosen, max(accuracy)
    return {metric.name: value for metric, value in zip(ACCURACIES, found, strict=True)}


def label_metrics(truth: Truth, last: Moment) -> dict[str, float]:
    """Return what became of right and wrong labels at the end, and how well the learner tells them apart."""
    wrong, rows = last.labels != last.observed, last.rows
    arrays = {
        name: last.answer.arrays[name][rows] for name in ("kept", "suspicion") if name in last.answer.arrays
    }
    kept = figures.clean_selection(arrays["kept"], wrong) if "kept" in arrays else (NAN, NAN)
    true, implied = transitions(truth, last)
    return {
        "memorised": last.figures["memorised"],
        "corrected": last.figures["corrected"],
        "wrong_auroc": auroc(levels(arrays["suspicion"], wrong)) if "suspicion" in arrays else NAN,
        "kept_precision": kept[0],
        "kept_recall": kept[1],
        "matrix_error": figures.transition_error(implied, true),
        "wrong_labels": _share(wrong),
    }


def pictures(truth: Truth, moments: Sequence[Moment], epochs: Sequence[int], *, known: bool = True) -> Scores:
    """Return curves over the epochs of every stage and, where it is `known` which labels are wrong, both
    transition matrices and the losses of right and wrong labels at the end.
    """
    last = moments[-1]
    at = [
        (
            moment.answer.stage,
            epochs[moment.answer.stage] if moment.answer.step is None else moment.answer.step,
        )
        for moment in moments
    ]
    curves = {
        name: [
            (*when, moment.figures[name])
            for when, moment in zip(at, moments, strict=True)
            if np.isfinite(moment.figures[name])
        ]
        for name in last.figures
    }
    if not known:
        return Scores(final={}, probes=curves, panels={"learning": ["accuracy", "fitted", "validation"]})
    true, implied = transitions(truth, last)
    histograms = {}
    if "label_losses" in last.answer.arrays:
        losses, wrong = (
            last.answer.arrays["label_losses"][last.rows].astype(np.float64),
            last.labels != last.observed,
        )
        if wrong.any() and not wrong.all():
            histograms["label_losses"] = {"right labels": losses[~wrong], "wrong labels": losses[wrong]}
    panels = {
        "learning": ["accuracy", "right_fitted", "corrected", "validation"],
        "memorisation": ["memorised", "corrected", "other"],
    }
    matrices = {"transition": true, "implied_transition": implied}
    return Scores(final={}, probes=curves, panels=panels, matrices=matrices, histograms=histograms)


def transitions(truth: Truth, moment: Moment) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return T as counted over the watched items, and as it would be were the predictions true; both float64
    (C, C).
    """
    size = truth.named_classes[moment.answer.stage]
    true, implied = (
        figures.transition(classes[inside], moment.observed[inside], size)
        for classes in (moment.labels, moment.predicted)
        for inside in [(classes >= 0) & (classes < size) & (moment.observed < size)]
    )
    return true, implied


def _share(hits: NDArray[np.bool_]) -> float:
    return float(hits.mean()) if len(hits) else NAN
