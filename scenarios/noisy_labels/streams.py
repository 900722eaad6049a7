"""Wrong labels in a deal: which items are held out, what every other one is labelled, and which stage it then
belongs to.

Classes arrive in stages, so a label may name a class of another stage than the item's own. Four answers
(`Mode`):

- `by-observed`: items go where their label goes, as in the literature on noisy streams. A stage then holds
  items of foreign classes.
- `within-stage`: labels are wrong only within the classes of a stage. Symmetric noise over two classes a
  stage is a pair flip.
- `by-true-open`: items stay; labels may name classes before they arrive.
- `by-true-masked`: items stay; those whose label names a class that has not arrived are left out, so fewer
  labels are wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness import seeds
from harness.contracts import HIDDEN, Deal, DealtStage, IntArray, NoiseInfo
from harness.errors import UserError
from harness.metrics.noisy_labels import transition
from scenarios.shared.noise import Known, Noise

Mode = Literal["by-observed", "within-stage", "by-true-open", "by-true-masked"]
Told = Literal["nothing", "rate", "matrix"]


@dataclass(frozen=True, kw_only=True)
class Lots:
    """Labelled items of a deal in one list. rows int64 (N,) of the deal; stage (N,) where they were dealt;
    held (N,) for validation.
    """

    rows: IntArray
    stage: IntArray
    held: NDArray[np.bool_]

    @classmethod
    def of(cls, deal: Deal, fraction: float, seed: int) -> Lots:
        """Collect the labelled items and set a share of every class apart, at least one item; at least one
        stays for training.

        What the deal itself holds out stays out of both.

        Raises:
            UserError: a share is wanted of a class that has a single item.
        """
        labelled = [dealt.rows[dealt.observed_labels != HIDDEN] for dealt in deal.stages]
        rows = np.concatenate(labelled)
        stage = np.repeat(np.arange(len(labelled)), [len(own) for own in labelled])
        held = np.zeros(len(rows), dtype=bool)
        if fraction:
            rng = seeds.stream("validation", seed=seed)
            for label in np.unique(deal.labels[rows]):
                own = rng.permutation(np.flatnonzero(deal.labels[rows] == label))
                if len(own) < 2:
                    number = label if deal.class_numbers is None else deal.class_numbers[label]
                    raise UserError(
                        f"class {number} has 1 labelled training item, and needs two where one is held out "
                        "for validation; "
                        "add items, leave the class out, or set validation=none"
                    )
                held[own[: min(max(1, round(fraction * len(own))), len(own) - 1)]] = True
        return cls(rows=rows, stage=stage, held=held)

    def with_those_of(self, deal: Deal) -> Lots:
        """Return these and the items that the deal itself holds out, for validation.

        Raises:
            UserError: it holds none out.
        """
        held = [dealt.validation for dealt in deal.stages]
        if not (count := sum(map(len, held))):
            raise UserError(
                "validation=published needs data whose publisher set items apart to choose by, such as "
                "clothing1m[validation=true], under class-incremental with test_fraction=0"
            )
        return Lots(
            rows=np.concatenate([self.rows, *held]),
            held=np.append(self.held, np.ones(count, dtype=bool)),
            stage=np.append(self.stage, np.repeat(np.arange(len(held)), [len(own) for own in held])),
        )


def observed_labels(deal: Deal, lots: Lots, noises: Sequence[Noise], mode: Mode, seed: int) -> IntArray:
    """Return the label of every one of `lots`, int64 (N,), classes in order of arrival.

    Args:
        deal: what is corrupted.
        lots: its labelled items.
        noises: one for all stages, or one for each.
        mode: only `within-stage` changes what is drawn.
        seed: of the streams `noise`.

    Raises:
        UserError: the noise does not fit the classes.
    """
    labels = deal.labels[lots.rows]
    stages = np.unique(lots.stage)
    if len(noises) not in (1, len(stages)):
        raise UserError(
            f"{len(noises)} kinds of noise are joined by +, the base scenario has {len(stages)} stages with labels"
        )
    apart = mode == "within-stage" or len(noises) > 1
    observed = labels.copy()
    for place, own in enumerate(
        [lots.stage == stage for stage in stages] if apart else [np.ones(len(labels), dtype=bool)]
    ):
        arrived = np.unique(labels[own] if mode == "within-stage" else labels)
        numbers = arrived if deal.class_numbers is None else deal.class_numbers[arrived]
        natural = np.argsort(numbers)  # classes as the data set orders them
        rows = lots.rows[own]
        given = deal.facts["given"][rows] if "given" in deal.facts else None
        known = Known(
            labels=np.argsort(natural)[np.searchsorted(arrived, labels[own])],
            class_numbers=numbers[natural],
            rows=rows,
            inputs=partial(deal.inputs.__getitem__, rows),
            parts=lots.held[own].astype(np.int64),
            given=None
            if given is None
            else np.where(
                np.isin(given, arrived), np.argsort(natural)[np.searchsorted(arrived[:-1], given)], -1
            ),
        )
        drawn = noises[place if len(noises) > 1 else 0].corrupted(
            known, seeds.stream("noise", seed=seed, part=place)
        )
        observed[own] = arrived[natural[drawn]]
    return observed


def restaged(deal: Deal, lots: Lots, observed: IntArray, mode: Mode) -> list[DealtStage]:
    """Return the stages with wrong labels in place and a validation split, its labels as observed.

    Raises:
        UserError: a stage without items, or a class without any right label.
    """
    labels = deal.labels[lots.rows]
    named = np.array([dealt.named_classes for dealt in deal.stages])
    stage = np.searchsorted(named, observed, side="right") if mode == "by-observed" else lots.stage
    visible = observed < named[stage] if mode == "by-true-masked" else np.ones(len(labels), dtype=bool)
    train = visible & ~lots.held
    right = np.bincount(labels[train & (labels == observed)], minlength=labels.max() + 1)
    if len(lost := np.flatnonzero(right[np.unique(labels)] == 0)):
        raise UserError(
            f"the noise leaves {len(lost)} of {len(np.unique(labels))} classes without a single right label"
        )
    stages, so_far, announced = [], 0, 0
    for index, dealt in enumerate(deal.stages):
        own, apart = (np.flatnonzero(chosen & (stage == index)) for chosen in (train, visible & lots.held))
        hidden = dealt.rows[dealt.observed_labels == HIDDEN]
        if not len(own) and not len(hidden):
            raise UserError(
                f"no item is labelled as a class of stage {index}; lower the rate, or use another stream mode"
            )
        rows = np.concatenate([lots.rows[own], hidden])
        labels_seen = np.concatenate([observed[own], np.full(len(hidden), HIDDEN, dtype=np.int64)])
        order = np.argsort(rows)
        before, so_far = so_far, max(so_far, dealt.named_classes)
        if mode == "by-true-open":
            so_far = max(
                so_far, int(observed[own].max(initial=-1)) + 1, int(observed[apart].max(initial=-1)) + 1
            )
        as_dealt = (before, so_far) == (announced, dealt.named_classes)
        new, announced = dealt.new_classes if as_dealt else so_far - before, dealt.named_classes
        stages.append(
            replace(
                dealt,
                rows=rows[order],
                observed_labels=labels_seen[order],
                validation=lots.rows[apart],
                validation_labels=observed[apart],
                named_classes=so_far,
                new_classes=new,
            )
        )
    return stages


def noise_info_of(deal: Deal, stage: DealtStage, told: Told) -> NoiseInfo | None:
    """Return what learners know of the noise of `stage`: its rate and its transition matrix, as counted."""
    if told == "nothing":
        return None
    labelled = stage.observed_labels != HIDDEN
    labels, observed = deal.labels[stage.rows[labelled]], stage.observed_labels[labelled]
    rate = float(np.mean(labels != observed)) if len(labels) else 0.0
    if told == "rate":
        return NoiseInfo(rate=rate)
    size = max(stage.named_classes, int(labels.max(initial=-1)) + 1)
    matrix = transition(labels, observed, size)[
        : stage.named_classes, : stage.named_classes
    ]  # true classes may be yet to come
    return NoiseInfo(rate=rate, matrix=matrix.astype(np.float32))
