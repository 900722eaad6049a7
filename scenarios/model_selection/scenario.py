"""What settings are chosen on: part of the labels that a learner was handed over anyway, and no test item.

The scenario in `of` deals; of the items that a stage hands over with a label, a share is taken out of
training and becomes the query of that stage and of all later ones. The truth is the label that was handed
over, wrong ones included. Of the rest of the deal nothing is
read: test items are in no stage, hidden labels are not in the truth, so neither can reach a choice. That
labels which are wrong at random still rank learners rightly is shown by Chen et al. 2021, "Robustness of
Accuracy Metric and its Inspirations in Learning with Noisy Labels".

With `novel` above 0, for category discovery, some of the classes that come with labels play the novel ones
(`holding_out.novel_half`), and what counts is accuracy after matching, as in discovery.

A search uses run seeds from 1000 on, results are reported under seeds below: so what was tuned on is not what
is reported. What a deal does
not say cannot be kept apart: where a data set has groups, such as font families, held-out items share theirs
with training items.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from harness.contracts import (
    HIDDEN,
    Deal,
    Metric,
    Prediction,
    Scenario,
    Scorer,
    Scores,
    StoredPrediction,
    TrainingBudget,
    Truth,
    param,
)
from harness.errors import UserError
from harness.metrics.discovery import counted_rows, match
from harness.selection import Selection, configured
from scenarios.model_selection.deals import held_out, novel_half
from scenarios.shared.wrapper import Wrapper

METRICS = (
    Metric(
        name="held_out_accuracy",
        meaning="accuracy on held-out items of the classes so far, by the labels handed over, mean over stages",
    ),
    Metric(name="final_held_out_accuracy", meaning="the same after the last stage"),
)
OF_NOVEL = (
    Metric(
        name="held_out_all",
        meaning="accuracy on held-out items after rows were matched to labels, after the last stage",
    ),
    Metric(name="held_out_old", meaning="on those of classes that stayed known"),
    Metric(name="held_out_new", meaning="on those of classes that played novel ones"),
)


class HeldOut(Wrapper):
    """Settings are chosen here: labelled training items of another scenario, some of them held out; no test
    item is dealt.
    """

    of: str = param(
        "class-incremental[dataset=digits,stages=1]", "the scenario whose training items are dealt"
    )
    fraction: float = param(
        0.2, "share of every stage's labelled items that is held out, class by class", gt=0, lt=1
    )
    novel: float = param(
        0.0, "share of the labelled classes that play novel ones; 0 for scenarios without such", ge=0, lt=1
    )
    backbone: Literal[""] = param("", "not for setting: that of the scenario in `of`")
    epochs: int = param(0, "not for setting: those of the scenario in `of`", ge=0, le=0)
    batch_size: int = param(0, "not for setting: that of the scenario in `of`", ge=0, le=0)

    named_by = "of"
    prediction = Prediction
    answers = ("classes",)
    probed = ("classes",)
    kept = ("classes",)

    @property
    def metrics(self) -> tuple[Metric, ...]:  # type: ignore[override]
        """Accuracy by number, or where classes play novel ones, after matching."""
        return OF_NOVEL if self.novel else METRICS

    def budget(self) -> TrainingBudget:
        """Return what the base scenario gives, without its probes."""
        return replace(self.base.budget(), probe_every=self.probe_every, probe_epochs=0, probe_tail=0)

    def board_exclusion_reason(self) -> str:
        """Refuse: this is no test."""
        return "held-out deals no test item: settings are chosen on it, and no board takes its figures"

    def deal(self, seed: int) -> Deal:
        """Deal the base scenario and hold items out.

        Raises:
            UserError: it hands over no labels, or so few of a class that none can be held out; or it has no
            use for `novel`.
        """
        base = self.base.deal(seed)
        deal = (
            novel_half(base, self.fraction, self.novel, seed)
            if self.novel
            else held_out(base, self.fraction, seed)
        )
        _check_every_class_held_out(deal, base)
        return deal

    def scorer(self, truth: Truth) -> Scorer:
        """Score what was answered so far; summaries count the stages that are there."""
        return _Scorer(self.metrics[0].name, truth, matched=self.novel > 0)


class _Scorer:
    """Accuracies of answers under the name of the leading metric, by number, or where `matched`, after
    matching.
    """

    def __init__(self, name: str, truth: Truth, *, matched: bool) -> None:
        self.name, self.truth, self.matched = name, truth, matched
        self.seen: list[float] = []
        self.probes: list[tuple[int, int, float]] = []
        self.final: dict[str, float] = {}

    def add(self, answer: StoredPrediction) -> None:
        figures = self._after_matching(answer) if self.matched else {}
        accuracy = (
            figures[self.name]
            if self.matched
            else float(np.mean(answer.arrays["classes"] == self.truth.labels[answer.ids]))
        )
        if answer.step is not None:
            self.probes.append((answer.stage, answer.step, accuracy))
            return
        self.seen.append(accuracy)
        self.final = figures or {self.name: float(np.mean(self.seen)), f"final_{self.name}": accuracy}

    def scores(self) -> Scores:
        return Scores(
            final=self.final, per_stage={self.name: [*self.seen]}, probes={self.name: [*self.probes]}
        )

    def _after_matching(self, answer: StoredPrediction) -> dict[str, float]:
        """Return all figures of discovery; nothing is new after the first stage."""
        labels = self.truth.labels
        agreement = match(
            counted_rows(answer.arrays["classes"]), labels[answer.ids], n_classes=int(labels.max()) + 1
        )
        old = np.arange(len(agreement.counts)) < self.truth.named_classes[0]
        figures = {
            "all": agreement.accuracy(),
            "old": agreement.accuracy(old),
            "new": agreement.accuracy(~old),
        }
        return {f"held_out_{group}": figure for group, figure in figures.items() if np.isfinite(figure)}


def model_selection_on(name: str, scenario: Scenario, **said: Any) -> str:
    """Return the selection of `held-out` over `scenario`, which is called `name`; empty where a selection
    cannot say it.
    """
    base = str(Selection(name, scenario.model_dump(mode="json", exclude_defaults=True)))
    try:
        is_said = configured("scenario", base) == scenario
        return str(Selection("held-out", {"of": base, **said})) if is_said else ""
    except UserError:  # a value with a comma or a list in it
        return ""


def _check_every_class_held_out(deal: Deal, base: Deal) -> None:
    """Do nothing where an item of every label handed over is held out by the end, so that no class is left
    out of a choice.

    Raises:
        UserError: a class has too few.
    """
    if len(missing := np.setdiff1d(deal.labels, [HIDDEN, *deal.labels[deal.stages[-1].query]])):
        rows = np.flatnonzero(deal.labels == missing[0])
        label = next(
            stage.observed_labels[stage.rows == rows[0]][0] for stage in base.stages if rows[0] in stage.rows
        )
        number = label if base.class_numbers is None else base.class_numbers[label]
        raise UserError(
            f"class {number} comes with {len(rows)} labelled training item{'s' * (len(rows) != 1)}, no two "
            "of them in one "
            "stage, and needs two there, one to learn from and one held out to choose settings by "
            f"({len(missing)} classes have too few); add items, or leave the class out"
        )


__all__ = ["HeldOut", "model_selection_on"]
