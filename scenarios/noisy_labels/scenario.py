"""Learning with noisy labels: a transform over any scenario that hands over labels.

The base scenario (`over`) deals items and stages; here a share of the labels handed over becomes wrong,
some items may be held out to choose by, and training items are asked along with the test to see what became
of their labels. Test labels stay true. Over one class-incremental stage this is the classic protocol; over
several it is a noisy stream; over `cgcd` the labels of stage 0 lie.

Noise is drawn once per seed from its own stream, so all strategies, and all networks of a strategy, are given
the same labels. Figures are taken from answers alone, in the process that scores. Conventions follow the
published ones where these agree; `docs/noisy-labels.md` says where they do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import field_validator

from harness import seeds
from harness.contracts import (
    HIDDEN,
    ClassCounts,
    Deal,
    DealtStage,
    Metric,
    Preset,
    Scorer,
    Scores,
    StoredPrediction,
    TrainingBudget,
    Truth,
    param,
    rules_of,
    scorer_of,
)
from harness.errors import UserError
from harness.metrics.noisy_labels import transition
from harness.selection import single, split_outside
from scenarios.datasets.by_name import dataset_named
from scenarios.datasets.own.base import Labelling, labelling_of
from scenarios.model_selection.scenario import model_selection_on
from scenarios.noisy_labels import scoring
from scenarios.noisy_labels.presets import PRESETS
from scenarios.noisy_labels.streams import Lots, Mode, Told, noise_info_of, observed_labels, restaged
from scenarios.shared.human_labels import digests_of_files
from scenarios.shared.noise import Human, Noise, Published, noise_of
from scenarios.shared.wrapper import Wrapper


class NoisyLabels(Wrapper):
    """Some of the labels are wrong: any scenario with labels, corrupted."""

    over: str = param("class-incremental[dataset=digits,stages=1]", "the scenario whose labels are corrupted")
    noise: str = param(
        "symmetric[rate=0.4]",
        "none, symmetric, asymmetric, pair, superclass, matrix, instance or human, with parameters; "
        "published for labels that are wrong as they come, your own given ones too; "
        "several joined by +, one for each stage with labels",
    )
    stream: Mode = param("by-observed", "what a label of another stage's class does to an item")
    validation: Literal["none", "noisy", "clean", "published"] = param(
        "none",
        (
            "validation split, and whether its labels are as noisy as all; or the one that the "
            "publisher set apart, clean"
        ),
    )
    validation_fraction: float = param(
        0.1, "share of every class that is held out, where it is noisy or clean", gt=0, lt=1
    )
    told: Told = param(
        "nothing",
        "what learners know of the noise: nothing, its rate, or the transition matrix too (an oracle)",
    )
    unidentifiable: bool = param(
        False, "allow noise under which a class is labelled as another one more often than as itself"
    )
    report: Literal["labels", "stream"] = param(
        "labels", "whose metrics lead: those of noisy labels, or those of the base scenario"
    )
    watched: int = param(
        500,
        "labelled training items per stage that are predicted too, to monitor them; 0 for all",
        ge=0,
        unit="items",
    )
    probe_epochs: int = param(
        5, "epochs between two probes; 0 for none but the last ones", ge=0, unit="epochs"
    )
    tail: int = param(10, "last epochs that are all probed, and averaged", ge=1, unit="epochs")
    backbone: str = param("", "network that every strategy trains; empty for that of the base scenario")
    augmentations: str = param(
        "", "augmentations of training items; empty for those of the base scenario", formerly="views"
    )
    epochs: int = param(
        0, "passes over a stage's training items; 0 for those of the base scenario", ge=0, unit="epochs"
    )
    batch_size: int = param(0, "items per gradient step; 0 for that of the base scenario", ge=0, unit="items")

    probed: ClassVar[tuple[str, ...]] = ("classes",)
    presets: ClassVar[Mapping[str, Preset]] = PRESETS

    @field_validator("noise")
    @classmethod
    def _readable(cls, text: str) -> str:
        _noises(text)
        return text

    @property
    def knows_truth(self) -> bool:
        """Whether it is known which of the labels handed over are wrong."""
        return all(noise.knows_truth for noise in _noises(self.noise)) or self._labelling == (True, True)

    @property
    def not_known(self) -> str:  # type: ignore[override]
        """The figures that need true labels, where there are none."""
        if self.knows_truth:
            return ""
        names = [metric.name.replace("_", " ") for metric in scoring.METRICS[len(scoring.ACCURACIES) :]]
        return f"not known, as the true labels are not: {', '.join(names)}"

    @property
    def metrics(self) -> tuple[Metric, ...]:  # type: ignore[override]
        """The figures of noisy labels, behind or without those of the base scenario."""
        own = scoring.METRICS if self.knows_truth else scoring.ACCURACIES
        return own if self.report == "labels" else (*self.base.metrics, *own)

    @property
    def kept(self) -> tuple[str, ...]:  # type: ignore[override]
        """All that may be answered."""
        return tuple(rules_of(self.prediction))

    @property
    def lower_bound(self) -> str:  # type: ignore[override]
        """Cross-entropy, which believes every label; where the base scenario reports, its own."""
        return "cross-entropy" if self.report == "labels" else self.base.lower_bound

    def budget(self) -> TrainingBudget:
        """Return what the base scenario gives, where nothing else is said here."""
        base = self.base.budget()
        return replace(
            base,
            backbone=self.backbone or base.backbone,
            augmentations=self.augmentations or base.augmentations,
            epochs=self.epochs or base.epochs,
            batch_size=self.batch_size or base.batch_size,
            probe_every=self.probe_every,
            probe_epochs=self.probe_epochs,
            probe_tail=self.tail,
        )

    def model_selection(self) -> str:
        """Return the same labels, right and wrong, with part of them held out; nothing where the base
        scenario has nothing.
        """
        base = self.base.model_selection()
        said = {name: value for name, value in single(base).params.items() if name != "of"} if base else {}
        return model_selection_on("noisy-labels", self, **said) if base else ""

    def data_digests(self) -> Mapping[str, str]:
        """Return those of the base scenario, and those of files with labels that people gave."""
        return {
            **self.base.data_digests(),
            **digests_of_files(noise.file for noise in _noises(self.noise) if isinstance(noise, Human)),
        }

    def deal(self, seed: int) -> Deal:
        """Deal the base scenario and corrupt its labels.

        Raises:
            UserError: the noise does not fit the classes, or what it leaves cannot be learned.
        """
        if self.probe_every:
            raise UserError("noisy-labels looks at learners by epochs: set probe_epochs, not probe_every")
        self._check_truth()
        if not self.knows_truth and self.told != "nothing":
            raise UserError(
                f"told={self.told} cannot be had with noise=published: which labels are wrong is not known"
            )
        deal = self.base.deal(seed)
        lots = Lots.of(deal, self.validation_fraction if self.validation in ("noisy", "clean") else 0.0, seed)
        if self.validation == "published":
            lots = lots.with_those_of(deal)
        observed = observed_labels(deal, lots, _noises(self.noise), self.stream, seed)
        self._check(deal, lots, observed)
        part = np.zeros(len(deal.labels), dtype=np.int64)
        part[np.concatenate([stage.query for stage in deal.stages])] = scoring.TEST
        part[lots.rows] = np.where(lots.held, scoring.VALIDATION, scoring.TRAIN)
        if self.validation in ("clean", "published"):
            observed = np.where(lots.held, deal.labels[lots.rows], observed)
        stages = restaged(deal, lots, observed, self.stream)
        shown = np.full(len(deal.labels), HIDDEN, dtype=np.int64)
        shown[lots.rows] = observed
        facts = {**deal.facts, "part": part, "observed": shown}
        return replace(deal, facts=facts, stages=self._watched(deal, stages, part, seed))

    def per_class_measure(self) -> str:
        """Return in words what the scenario below counts as right."""
        return self.base.per_class_measure()

    def correct_by_class(
        self, truth: Truth, answers: Sequence[StoredPrediction], class_names: tuple[str, ...]
    ) -> list[ClassCounts]:
        """Return for every answer how often it is right on test items, by class, as the scenario below
        counts.
        """
        tested = [_base_answer(self, truth, answer) for answer in answers]
        return self.base.correct_by_class(truth, tested, class_names)

    def scorer(self, truth: Truth) -> Scorer:
        """Score what was answered so far; summaries are there once the last stage is."""
        return _Scorer(self, truth)

    @cached_property
    def _labelling(self) -> Labelling:
        """Which labels the data set of the base scenario has."""
        name = getattr(self.base, "dataset", None)
        try:
            return labelling_of(dataset_named(name)) if name else Labelling(true=True, given=False)
        except UserError:  # data that are gone; results of them are still shown
            return Labelling(true=True, given=False)

    def _check_truth(self) -> None:
        """Refuse to call labels true of which many are not, and to corrupt data whose wrong labels are there."""
        noises = _noises(self.noise)
        as_they_come = all(isinstance(noise, Published) for noise in noises)
        if as_they_come or getattr(self.base, "dataset", None) is None:
            return
        name = self.base.dataset  # type: ignore[attr-defined]
        if not self._labelling.true:
            raise UserError(
                f"{name} comes with labels of which an unknown share is wrong: say noise=published"
            )
        if self._labelling.given:
            raise UserError(
                f"{name} has given labels beside the true ones: say noise=published to hand these over, or leave them "
                "away to corrupt the true ones"
            )

    def _check(self, deal: Deal, lots: Lots, observed: np.ndarray[Any, Any]) -> None:
        labels = deal.labels[lots.rows]
        matrix = transition(labels, observed, int(max(labels.max(), observed.max())) + 1)
        shares = np.diag(matrix)
        worse = np.flatnonzero(shares < matrix.max(axis=1) - 0.02)  # a tie that luck broke is none
        if len(worse) and not self.unidentifiable:
            raise UserError(
                f"noise={self.noise} labels {len(worse)} of {len(np.unique(labels))} classes as another "
                "one more often than as "
                "themselves, so nothing can tell which is which; lower the rate, or set unidentifiable=true"
            )

    def _watched(
        self, deal: Deal, stages: Sequence[DealtStage], part: np.ndarray[Any, Any], seed: int
    ) -> list[DealtStage]:
        """Add to every stage the labelled items of this and earlier stages to look at, and all held-out ones
        so far.
        """
        watched: list[np.ndarray[Any, Any]] = []
        found = []
        for index, stage in enumerate(stages):
            own = seeds.stream("watched", seed=seed, stage=index).permutation(
                stage.rows[part[stage.rows] == scoring.TRAIN]
            )
            watched += [own[: self.watched or len(own)], stage.validation]
            rows = np.setdiff1d(np.concatenate(watched), stage.query)
            found.append(replace(stage, monitored=rows, noise_info=noise_info_of(deal, stage, self.told)))
        return found


class _Scorer:
    """Scores what became of labels beside what the base scenario scores."""

    def __init__(self, scenario: NoisyLabels, truth: Truth) -> None:
        self.scenario, self.truth, self.n_stages, self.known = (
            scenario,
            truth,
            len(truth.named_classes),
            scenario.knows_truth,
        )
        budget = scenario.budget()
        self.epochs = [budget.for_stage(stage).epochs for stage in range(self.n_stages)]
        self.base = scorer_of(scenario.base, truth)
        self.moments: list[scoring.Moment] = []

    def add(self, answer: StoredPrediction) -> None:
        self.moments.append(scoring.moment_of(self.truth, answer, known=self.known))
        self.base.add(_base_answer(self.scenario, self.truth, answer))

    def scores(self) -> Scores:
        if not self.moments:
            return Scores(final={})
        base = self.base.scores()
        ended = [moment for moment in self.moments if moment.answer.step is None]
        final: dict[str, float] = {}
        if len(ended) == self.n_stages:
            last = [moment for moment in self.moments if moment.answer.stage == self.n_stages - 1]
            final = scoring.accuracies(last, self.scenario.tail, self.epochs[self.n_stages - 1])
            final |= scoring.label_metrics(self.truth, last[-1]) if self.known else {}
            final = (
                {**base.final, **final} if self.n_stages > 1 or self.scenario.report == "stream" else final
            )
        followed = ("accuracy", "memorised", "corrected") if self.known else ("accuracy", "fitted")
        per_stage = {name: [moment.figures[name] for moment in ended] for name in followed}
        seen = scoring.pictures(self.truth, self.moments, self.epochs, known=self.known)
        further = base.matrices if self.n_stages > 1 else {}
        return replace(
            seen,
            final=final,
            per_stage={**base.per_stage, **per_stage},
            matrices={**further, **seen.matrices},
        )


def _base_answer(scenario: NoisyLabels, truth: Truth, answer: StoredPrediction) -> StoredPrediction:
    """Return the part of `answer` that the base scenario asked for."""
    return answer.subset(truth.facts["part"][answer.ids] == scoring.TEST, scenario.prediction)


def _noises(text: str) -> list[Noise]:
    """Return the noises joined by +."""
    return [noise_of(part) for part in split_outside(text, "+")]
