"""What a cell's answers say over the steps: what is generalised and memorised and when, in which phase it
ends, which labels look wrong.

A look is an answer in mid-stage or at the end; a probe at the last step is the end and counts once. Every
phase is a figure of its own, 1
or 0: its mean over seeds is the share of seeds in that phase, where the mean of phases numbered from 1 to 7
would mean nothing. Wrong
labels are sought in three ways: by the loss of the label given (`loss_`), by the learner's own suspicion
(`own_`; for grokking learners the logarithm of the loss, which keeps apart what float16 rounds to zero), and
by predictions that differ from the label (`disagreement_`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.contracts import Metric, Scores, StoredPrediction, Truth
from harness.metrics import grokking as figures
from harness.metrics.detection import auroc, average_precision, levels
from harness.metrics.grokking import HEALTH, NAN, PHASES, PUBLISHED_PHASES, Fates
from harness.metrics.noisy_labels import clean_selection
from scenarios.grokking import spectra
from scenarios.grokking.spectra import QueryItems

TEST, TRAIN = 1, 2
"""The fact `role` of a pair."""

MOMENTS = ("25", "100", "t95", "end")
"""When wrong labels are sought: at these steps, at the time of 95 % on the test, at the end. NaN where no
look was taken then.
"""

_PHASE = "1 where it ends in this phase: "

# Boards show seven figures side by side, so they come in sevens: what leads, phases, times, and what remains.
METRICS = (
    Metric(name="test_accuracy", meaning="on the test pairs, at the end"),
    Metric(
        name="train_accuracy",
        meaning="share of the training labels, right or wrong, that are predicted, at the end",
    ),
    Metric(
        name="clean_accuracy", meaning="on the training pairs that were not chosen for corruption, at the end"
    ),
    Metric(
        name="memorised",
        better="lower",
        meaning="share of the really wrong labels that are predicted, at the end",
    ),
    Metric(
        name="recovered",
        meaning="share of the pairs with really wrong labels that are predicted right, at the end",
    ),
    Metric(name="area_test", meaning="test accuracy, mean over the steps of the budget"),
    Metric(
        name="time_to_test_95",
        better="lower",
        censored=True,
        meaning="first step from which test accuracy is 0.95 for three looks",
    ),
    Metric(name="phase_generalised", meaning=f"{_PHASE}test 0.9, no label wrong"),
    Metric(name="phase_coexistence", meaning=f"{_PHASE}test 0.9, memorised 0.9"),
    Metric(name="phase_partial_inversion", meaning=f"{_PHASE}test 0.9, memorised between"),
    Metric(name="phase_full_inversion", meaning=f"{_PHASE}test 0.9, memorised at most 0.05"),
    Metric(
        name="phase_memorisation",
        better="lower",
        meaning=f"{_PHASE}test below 0.9, clean 0.9 and memorised 0.9",
    ),
    Metric(
        name="phase_forgetting", better="lower", meaning=f"{_PHASE}test below 0.9, which it had been before"
    ),
    Metric(name="phase_confusion", better="lower", meaning=f"{_PHASE}none of these"),
    Metric(
        name="time_to_train_99",
        better="lower",
        censored=True,
        meaning="first step from which train_accuracy is 0.99 for three looks",
    ),
    Metric(name="time_to_clean_99", better="lower", censored=True, meaning="the same of clean_accuracy"),
    Metric(name="time_to_test_99", better="lower", censored=True, meaning="the same of test accuracy"),
    Metric(
        name="time_to_inversion",
        better="lower",
        censored=True,
        meaning="first step, after memorised was 0.9, from which it is 0.05 for three looks; see ever_memorised",
    ),
    Metric(name="ever_memorised", better="lower", meaning="1 where memorised was 0.9 at some look"),
    Metric(name="peak_memorised", better="lower", meaning="the largest memorised at any look"),
    Metric(
        name="delay", better="lower", meaning="time_to_test_95 - time_to_clean_99, where both were reached"
    ),
    Metric(
        name="loss_auroc_fitting",
        meaning="how well losses tell wrong labels from right ones, mean over looks before time_to_clean_99",
    ),
    Metric(name="loss_auroc_before", meaning="the same before time_to_test_95"),
    Metric(name="loss_auroc_after", meaning="the same from then on"),
    *(
        Metric(name=f"loss_auroc_{when}", meaning=f"the same at {said}")
        for when, said in zip(MOMENTS, ("step 25", "step 100", "time_to_test_95", "the end"), strict=True)
    ),
    Metric(
        name="loss_precision_25",
        meaning="share of right labels among the 1 - corruption smallest losses at step 25",
    ),
    Metric(name="loss_precision_end", meaning="the same at the end"),
    Metric(
        name="own_auroc_end",
        meaning="how well the learner's suspicion tells wrong labels from right ones at the end",
    ),
    Metric(
        name="disagreement_precision_end",
        meaning="share of wrong labels among those that are not predicted, at the end",
    ),
    Metric(
        name="disagreement_recall_end", meaning="share of the wrong labels that are not predicted, at the end"
    ),
    Metric(
        name="zero_loss_fraction",
        better="lower",
        meaning="share of training pairs whose loss is exactly 0, at the end",
    ),
    Metric(
        name="softmax_collapse",
        better="lower",
        meaning="share of training pairs whose softmax is exactly 1 on the label, at the end",
    ),
    Metric(
        name="ipr_mean", meaning="inverse participation ratio of the neurons, mean; 1 is one frequency each"
    ),
    Metric(name="high_ipr_share", meaning="share of the neurons with a ratio above 0.5"),
    Metric(name="dead_neurons", better="lower", meaning="number of neurons with a row of zeros"),
    Metric(
        name="prune_memorised_drop",
        meaning="largest fall of memorised at no more than a point of test, removing low ratios first",
    ),
    Metric(name="prune_best_test", meaning="best test accuracy while removing low ratios first"),
    Metric(name="weight_norm", better="lower", meaning="Euclidean norm of all weights, at the end"),
    Metric(
        name="delay_ratio",
        better="lower",
        meaning="time_to_test_95 / time_to_clean_99, where both were reached",
    ),
)

_SHARES = tuple(Fates._fields)
_DETECTED = ("loss_auroc", "own_auroc", "disagreement_auroc", "loss_precision")
_COLLAPSE = ("zero_loss_fraction", "softmax_collapse", "zero_gradient_share")


@dataclass(frozen=True)
class Look:
    """One answer taken apart. curves: by name, what is followed over the steps; NaN where it was not
    answered.
    """

    step: int
    arrays: Mapping[str, NDArray[Any]]
    fates: Fates
    curves: Mapping[str, float]


class GrokkingScorer:
    """Takes looks in order of time; `steps` is the budget."""

    def __init__(self, truth: Truth, *, steps: int, corruption: float, modulus: int) -> None:
        self.truth, self.steps, self.corruption, self.modulus = truth, steps, corruption, modulus
        self.items: QueryItems | None = None
        self.looks: list[Look] = []
        self.ended = False

    def add(self, answer: StoredPrediction) -> None:
        """Take in the next answer."""
        self.items = self.items or _query_items(self.truth, answer, self.modulus)
        self.ended = answer.step is None
        if self.ended:
            self.looks = [look for look in self.looks if look.step < self.steps]
        self.looks.append(_look(answer, self.items, self.steps))

    def scores(self) -> Scores:
        """Return what the answers so far come to."""
        if not self.items:
            return Scores(final={})
        looks = self.looks
        curves = {
            name: [(0, look.step, look.curves[name]) for look in looks if np.isfinite(look.curves[name])]
            for name in looks[0].curves
        }
        panels = {"fates": _SHARES, "detection": _DETECTED, "collapse": _COLLAPSE}
        seen = {name: list(together) for name, together in panels.items()}
        if not self.ended:
            return Scores(final={}, probes=curves, panels=seen)
        last = looks[-1]
        spectrum = spectra.spectrum_of(
            last.arrays.get("weights"), self.items, last.arrays["classes"], modulus=self.modulus
        )
        final = {
            **_course(looks, self.corruption),
            **spectrum.figures,
            **_detection(looks, self.items),
            **{name: last.curves[name] for name in HEALTH},
            **_counts(self.items, self.modulus),
        }
        matrices = {} if spectrum.pruning is None else {"pruning": spectrum.pruning}
        histograms = {"ipr": {"neurons": spectrum.ratios}} if len(spectrum.ratios) else {}
        per_stage = {"test_accuracy": [last.fates.test]}
        return Scores(
            final=final,
            per_stage=per_stage,
            probes=curves,
            panels=seen,
            matrices=matrices,
            histograms=histograms,
        )


def _query_items(truth: Truth, answer: StoredPrediction, modulus: int) -> QueryItems:
    """Return everything known of the pairs of the query; all answers of a cell are about the same."""
    facts = {name: values[answer.ids] for name, values in truth.facts.items()}
    pairs = np.stack(np.divmod(facts["pair"], modulus), axis=1)
    labels = truth.labels[answer.ids]
    return QueryItems(
        pairs, labels, facts["given"], facts["role"] == TRAIN, facts["corrupted"], facts["wrong"]
    )


def _look(answer: StoredPrediction, items: QueryItems, steps: int) -> Look:
    fates = items.fates(answer.arrays["classes"])
    sought = _sought(answer.arrays, items)
    wrong = items.wrong[items.train]
    found = {f"{name}_auroc": auroc(levels(scores, wrong)) for name, scores in sought.items()}
    found["loss_precision"] = _kept(sought["loss"], items)[0] if "loss" in sought and wrong.any() else NAN
    health = answer.arrays.get("health")
    measured = (
        dict(zip(HEALTH, map(float, health), strict=True))
        if health is not None and len(health) == len(HEALTH)
        else {}
    )
    names = (*_DETECTED, *HEALTH)
    curves = {**fates._asdict(), **dict.fromkeys(names, NAN), **found, **measured}
    return Look(steps if answer.step is None else answer.step, answer.arrays, fates, curves)


def _sought(arrays: Mapping[str, NDArray[Any]], items: QueryItems) -> dict[str, NDArray[Any]]:
    """Return what may tell wrong labels, by name: scores of the training pairs, larger where the label looks
    wrong.
    """
    own = {
        "loss": arrays.get("label_losses"),
        "own": arrays.get("suspicion"),
        "disagreement": arrays["classes"] != items.given,
    }
    return {name: scores[items.train] for name, scores in own.items() if scores is not None}


def _kept(losses: NDArray[Any], items: QueryItems) -> tuple[float, float]:
    """Return precision and recall of the labels with the smallest losses, as many as were not corrupted."""
    size = int(items.train.sum() - items.corrupted.sum())
    return clean_selection(figures.smallest(losses, size), items.wrong[items.train])


def _course(looks: Sequence[Look], corruption: float) -> dict[str, float]:
    """Return accuracies, times and phases."""
    steps, last = [look.step for look in looks], looks[-1].fates
    shares = {name: np.array([getattr(look.fates, name) for look in looks]) for name in _SHARES}
    to_clean, to_test = (
        figures.first_held(steps, shares[name] >= level) for name, level in (("clean", 0.99), ("test", 0.95))
    )
    phase = figures.phase(last, forgotten=figures.has_forgotten(shares["test"]))
    published = figures.published_phase(last.train, last.test, corruption)
    peak = float(shares["memorised"].max())
    return {
        "test_accuracy": last.test,
        "train_accuracy": last.train,
        "clean_accuracy": last.clean,
        "memorised": last.memorised,
        "recovered": last.recovered,
        "peak_memorised": peak,
        "area_test": figures.mean_over_steps(steps, shares["test"]),
        "time_to_train_99": figures.first_held(steps, shares["train"] >= 0.99),
        "time_to_clean_99": to_clean,
        "time_to_test_95": to_test,
        "time_to_test_99": figures.first_held(steps, shares["test"] >= 0.99),
        "time_to_inversion": figures.time_of_inversion(steps, shares["memorised"]),
        "ever_memorised": NAN if np.isnan(peak) else float(peak >= 0.9),
        "delay": to_test - to_clean,
        "delay_ratio": to_test / to_clean,
        "forgot": float(figures.has_forgotten(shares["test"])),
        **{f"phase_{name}": float(name == phase) for name in PHASES},
        **{f"published_{name}": float(name == published) for name in PUBLISHED_PHASES},
    }


def _detection(looks: Sequence[Look], items: QueryItems) -> dict[str, float]:
    """Return how well wrong labels were found: at the moments, while rows were fitted, and on either side of
    95 % on the test.
    """
    steps = np.array([look.step for look in looks])
    to_test = figures.first_held(steps, [look.fates.test >= 0.95 for look in looks])
    to_clean = figures.first_held(steps, [look.fates.clean >= 0.99 for look in looks])
    when: dict[str, float] = dict(zip(MOMENTS, (25, 100, to_test, looks[-1].step), strict=True))
    at = {name: [look for look in looks if look.step == step] for name, step in when.items()}
    found: dict[str, float] = {}
    for name, there in at.items():
        found |= _found_at(there[0] if there else None, items, name)
    for name in ("loss", "own", "disagreement"):
        values = np.array([look.curves[f"{name}_auroc"] for look in looks])
        later = steps >= to_test  # nothing is later, or earlier, than NaN
        for side, chosen in (
            ("fitting", values[steps < to_clean]),
            ("before", values[~later]),
            ("after", values[later]),
        ):
            found[f"{name}_auroc_{side}"] = float(chosen.mean()) if len(chosen) else NAN
    kept = looks[-1].arrays.get("kept")
    precision, recall = (
        clean_selection(kept[items.train], items.wrong[items.train]) if kept is not None else (NAN, NAN)
    )
    collapsed = [look.step for look in looks if look.curves["softmax_collapse"] > 0.5]
    return {
        **found,
        "kept_precision": precision,
        "kept_recall": recall,
        "time_to_collapse": float(collapsed[0]) if collapsed else NAN,
    }


def _found_at(look: Look | None, items: QueryItems, when: str) -> dict[str, float]:
    """Return how well wrong labels are found at `look`; NaN where there was none or no label is wrong."""
    names = [
        f"{name}_{kind}_{when}"
        for name in ("loss", "own", "disagreement")
        for kind in ("auroc", "ap", "precision", "recall")
    ]
    found = dict.fromkeys(names, NAN)
    wrong = items.wrong[items.train]
    if look is None or not wrong.any():
        return found
    sought = _sought(look.arrays, items)
    for name, scores in sought.items():
        found[f"{name}_auroc_{when}"] = look.curves[f"{name}_auroc"]
        found[f"{name}_ap_{when}"] = average_precision(levels(scores, wrong), without_negatives=1.0)
        precision, recall = _flagged(scores, wrong) if name == "disagreement" else _kept(scores, items)
        found[f"{name}_precision_{when}"], found[f"{name}_recall_{when}"] = precision, recall
    return found


def _flagged(flagged: NDArray[Any], wrong: NDArray[np.bool_]) -> tuple[float, float]:
    """Return precision and recall of the labels taken for wrong, bool (n,) each."""
    return float(wrong[flagged].mean()) if flagged.any() else NAN, float(flagged[wrong].mean())


def _counts(items: QueryItems, modulus: int) -> dict[str, float]:
    """Return sizes: rows, corrupted ones, really wrong ones, and residues that are never trained on as x or
    as y.
    """
    unseen = sum(modulus - len(np.unique(place)) for place in items.pairs[items.train].T)
    counts = {
        "n_train": items.train.sum(),
        "n_corrupt": items.corrupted.sum(),
        "n_really_wrong": items.wrong.sum(),
    }
    return {**{name: float(count) for name, count in counts.items()}, "unseen_operands": float(unseen)}
