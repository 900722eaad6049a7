"""Grokking under label corruption: a table of modular arithmetic, part of it to learn from, part of that with
wrong labels.

One stage. The items are all valid pairs (x, y) with the residue that an operation makes of them; a learner is
given some of them with labels, a known share of which is wrong, and is asked for the rest, and for what
became of the pairs it was given. Everything is exact: what the true labels are, which are wrong, and that
every test pair can be answered (a closed form exists for sums). Test labels stay true.

Four streams are independent: which pairs are trained on, which labels become wrong and how, and the learner's
own for initialisation and dropout. Under one seed a larger train_fraction contains the smaller one, and so
does a larger corruption, and a pair's wrong label stays
the same: so figures over either may be compared pair by pair. For sums and products the mirror image of half
of the test pairs is trained on at train_fraction 0.5, as in the published splits; `split=orbits` keeps mirror
images together.

Of the fields that speak of the learner, `weights` float32 (3, width, p) are the rows of U and V and the
columns of W of a quadratic network f = W (U e_x + V e_y)^2, in final answers, and `health` has the order of
`harness.metrics.grokking.HEALTH`. `label_losses` are by the learner's own loss.

Where train_fraction is so small that some residue is never trained on in one place, its row of the first
layer is never learned; the figure `unseen_operands` counts these.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple, Self

import numpy as np
from pydantic import field_validator, model_validator

from harness.contracts import (
    HIDDEN,
    ClassCounts,
    Deal,
    DealtStage,
    IntArray,
    Metric,
    NoiseInfo,
    Preset,
    Scenario,
    Scorer,
    StoredPrediction,
    TrainingBudget,
    Truth,
    param,
)
from harness.errors import UserError
from harness.selection import chosen, single
from scenarios.grokking.corruption import Kind, corrupted_rows, matrix_of, replacements
from scenarios.grokking.doshi import published_labels, published_split
from scenarios.grokking.encodings import ENCODINGS, LOOKED_UP
from scenarios.grokking.operations import OPERATIONS, OperationName, Table, check_modulus, commutes, table_of
from scenarios.grokking.presets import PRESETS
from scenarios.grokking.scoring import METRICS, TEST, TRAIN, GrokkingScorer
from scenarios.grokking.splitting import floored, train_rows
from scenarios.model_selection.scenario import model_selection_on

LOOKING_UP = ("quadratic", "relu", "transformer")
"""Networks that look rows up by operand numbers, and are lent the modulus."""


class Lots(NamedTuple):
    """Which pairs are trained on and with what. train: int64 (n,) rows.  corrupted: those of them chosen.
    given: int64 (U,), or HIDDEN.
    """

    train: IntArray
    corrupted: IntArray
    given: IntArray


class Grokking(Scenario):
    """Modular arithmetic from part of its table, with wrong labels: when does a learner generalise, and what
    does it memorise?
    """

    operation: OperationName = param(
        "add", "what the label of a pair (x, y) is; random_table has no rule, a control"
    )
    modulus: int = param(97, "p; residues are 0 to p - 1", ge=2, le=1009)
    train_fraction: float = param(0.5, "share of all pairs that is trained on", gt=0, lt=1)
    split: Literal["pairs", "orbits", "doshi2024"] = param(
        "pairs",
        "what is drawn: pairs, pairs with their mirror images, or nothing, for split and labels of the released code",
    )
    corruption: float = param(0.0, "share of the training labels that are corrupted", ge=0, lt=1)
    kind: Kind = param(
        "other",
        "what a corrupted label becomes: any label, any other, the next one (flip), one drawn from a matrix "
        "(transition), that of another operation (structured), or the same other one for mirror images",
    )
    other_operation: OperationName = param("sub", "the competing operation of kind=structured")
    rows: str = param(
        "", "the matrix of kind=transition, such as 0.9/0.1;0.2/0.8, a row for every true label"
    )
    file: str = param("", "or the path of a .npy or .csv file with it")
    told: Literal["nothing", "rate"] = param(
        "nothing", "what learners know of the noise: nothing, or the share of wrong labels (an oracle)"
    )
    encoding: str = param(
        "pair-index",
        "encoding of a pair: pair-index, one-hot, tokens-2, tokens-3 (with a sign =), binary[bits=14]",
    )
    backbone: str = param(
        "quadratic[width=500]",
        "network that every strategy trains: quadratic, relu, transformer, or mlp for one-hot",
    )
    steps: int = param(500, "gradient steps", ge=1, unit="steps")
    batch_size: int = param(0, "pairs per gradient step; 0 for all of them at once", ge=0, unit="items")
    probe_every: int = param(5, "gradient steps between probes; 0 for none but the last", ge=0, unit="steps")
    follow: Literal["everything", "detection", "fates"] = param(
        "everything",
        "what is kept of answers: everything; all but weights, so no spectra and no pruning; or no losses "
        "in mid-stage either, so "
        "no detection over time. A board of many cells has room for the last",
    )
    epochs: int = param(0, "not for setting: follows from the steps", ge=0, le=0)

    metrics: ClassVar[tuple[Metric, ...]] = METRICS
    lower_bound: ClassVar[str] = "constant"
    upper_bound: ClassVar[str] = "closed-form"
    presets: ClassVar[Mapping[str, Preset]] = PRESETS

    @field_validator("encoding")
    @classmethod
    def _readable(cls, text: str) -> str:
        chosen("encoding", text, ENCODINGS, given=("pairs", "modulus", "seed"))
        return text

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        """Refuse what does not go together, in one sentence."""
        check_modulus(self.operation, self.modulus)
        if self.kind == "structured":
            check_modulus(self.other_operation, self.modulus)
            if self.other_operation == self.operation:
                raise UserError(
                    f"kind=structured needs another operation than {self.operation}: set other_operation"
                )
            if _drops_zero(self.other_operation) and not _drops_zero(self.operation):
                raise UserError(
                    f"other_operation={self.other_operation} has no label where y is 0, {self.operation} has such pairs"
                )
        if self.kind == "pair_consistent" and not commutes(self.operation):
            raise UserError(
                f"kind=pair_consistent needs an operation that commutes; {self.operation} does not"
            )
        if self.split == "doshi2024" and self.kind != "any":
            raise UserError(
                f"split=doshi2024 brings its own labels, drawn from all {self.modulus}: set kind=any"
            )
        if self.kind == "transition":
            matrix_of(self.rows, self.file, self.modulus)
        elif self.rows or self.file:
            raise UserError(f"rows and file are for kind=transition, not for kind={self.kind}")
        looks_up, backbone = self.encoding in LOOKED_UP, single(self.backbone)
        if backbone.name in LOOKING_UP and not looks_up:
            raise UserError(
                f"{backbone.name} looks operands up, which encoding={self.encoding} does not show: set "
                "encoding=pair-index, or "
                "backbone=mlp"
            )
        if backbone.params.get("modulus", self.modulus) != self.modulus:
            raise UserError(
                f"backbone={self.backbone} says another modulus than {self.modulus}; it is lent the right one by itself"
            )
        return self

    @property
    def probed(self) -> tuple[str, ...]:  # type: ignore[override]
        """Classes and health, and losses where detection is followed."""
        return (
            ("classes", "health")
            if self.follow == "fates"
            else ("classes", "label_losses", "suspicion", "health")
        )

    @property
    def kept(self) -> tuple[str, ...]:  # type: ignore[override]
        """All that grokking learners answer, but weights only where everything is followed."""
        fields = ("classes", "label_losses", "suspicion", "kept", "health")
        return (*fields, "weights") if self.follow == "everything" else fields

    def budget(self) -> TrainingBudget:
        """Return network, batch and budget. The steps count; the passes are as many as they take."""
        n_pairs = self.modulus * (self.modulus - _drops_zero(self.operation))
        n_train = floored(self.train_fraction, n_pairs)
        batch_size = self.batch_size or n_pairs
        passes = math.ceil(self.steps / max(1, math.ceil(n_train / batch_size)))
        backbone = single(self.backbone)
        if backbone.name in LOOKING_UP:
            backbone = backbone.changed(modulus=self.modulus)
        return TrainingBudget(
            backbone=str(backbone),
            epochs=passes,
            batch_size=batch_size,
            gradient_steps=self.steps,
            probe_every=self.probe_every,
        )

    def model_selection(self) -> str:
        """Return the same table with part of the pairs that are trained on held out, by the labels given."""
        return model_selection_on("grokking", self)

    def data_digests(self) -> Mapping[str, str]:
        """Return nothing to look up: the tables are computed."""
        return {}

    def deal(self, seed: int) -> Deal:
        """Deal the one stage under `seed`.

        Raises:
            UserError: no pair would be left to train on or to test with.
        """
        table = table_of(self.operation, self.modulus, seed=seed)
        lots = self._lots(table, seed)
        rows = np.sort(lots.train)
        query = np.flatnonzero(lots.given == HIDDEN)
        role = np.full(len(table.ids), TEST, dtype=np.int64)
        role[rows] = TRAIN
        corrupted = np.zeros(len(table.ids), dtype=np.bool_)
        corrupted[lots.corrupted] = True
        wrong = (role == TRAIN) & (lots.given != table.labels)
        stage = DealtStage(
            rows=rows,
            observed_labels=lots.given[rows],
            query=query,
            monitored=rows,
            named_classes=self.modulus,
            new_classes=self.modulus,
            noise_info=NoiseInfo(rate=float(wrong[rows].mean())) if self.told == "rate" else None,
        )
        encode = chosen("encoding", self.encoding, ENCODINGS, given=("pairs", "modulus", "seed"))
        facts = {"role": role, "given": lots.given, "corrupted": corrupted, "wrong": wrong, "pair": table.ids}
        return Deal(
            inputs=encode(table.pairs, self.modulus, seed), labels=table.labels, facts=facts, stages=[stage]
        )

    def per_class_measure(self) -> str:
        """Return in words what `correct_by_class` counts as right."""
        return "accuracy on test items"

    def correct_by_class(
        self, truth: Truth, answers: Sequence[StoredPrediction], class_names: tuple[str, ...]
    ) -> list[ClassCounts]:
        """Return for every answer how often it is right on test items, by class."""
        tested = [answer.subset(truth.facts["role"][answer.ids] == TEST) for answer in answers]
        return super().correct_by_class(truth, tested, class_names)

    def scorer(self, truth: Truth) -> Scorer:
        """Score what was answered so far; the figures are there once the end is."""
        return GrokkingScorer(truth, steps=self.steps, corruption=self.corruption, modulus=self.modulus)

    def _lots(self, table: Table, seed: int) -> Lots:
        if self.split == "doshi2024":
            train = published_split(len(table.ids), floored(self.train_fraction, len(table.ids)))
            corrupted = train[: floored(self.corruption, len(train))]
            becoming = published_labels(self.modulus, len(corrupted))
        else:
            train = train_rows(table, self.train_fraction, by_orbit=self.split == "orbits", seed=seed)
            corrupted = corrupted_rows(table, train, self.corruption, self.kind, seed=seed)
            matrix = matrix_of(self.rows, self.file, self.modulus) if self.kind == "transition" else None
            becoming = replacements(table, self.kind, seed=seed, other=self.other_operation, matrix=matrix)[
                corrupted
            ]
        if not 0 < len(train) < len(table.ids):
            raise UserError(
                f"train_fraction={self.train_fraction} of {len(table.ids)} pairs leaves {len(train)} to train on and "
                f"{len(table.ids) - len(train)} to test with"
            )
        given = np.full(len(table.ids), HIDDEN, dtype=np.int64)
        given[train] = table.labels[train]
        given[corrupted] = becoming
        return Lots(train, corrupted, given)


def train_digest(deal: Deal, modulus: int) -> str:
    """Return the SHA-256 of the training table: rows x, y and the label given, int64 little-endian, in order
    of x and then y.
    """
    stage = deal.stages[0]
    x, y = np.divmod(deal.facts["pair"][stage.rows], modulus)
    table = np.column_stack([x, y, stage.observed_labels])[np.lexsort((y, x))]
    return hashlib.sha256(np.ascontiguousarray(table, dtype="<i8").tobytes()).hexdigest()


def _drops_zero(operation: OperationName) -> bool:
    return operation in OPERATIONS and OPERATIONS[operation].drops_zero
