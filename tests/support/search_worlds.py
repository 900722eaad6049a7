"""What searches are tried on: blobs that settings may be chosen on, and learners whose worth, or whose end,
follows from their setting.

Found by path, also by processes that do not know the folder of the tests: so nothing here imports another
file of it.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from harness import seeds
from harness.contracts import (
    Deal,
    DealtStage,
    Metric,
    Prediction,
    Query,
    Scenario,
    Scores,
    Stage,
    StoredPrediction,
    Strategy,
    Truth,
    param,
)
from harness.errors import Diverged, Unsuitable
from scenarios.model_selection.scenario import model_selection_on

HERE = str(Path(__file__))


class Chosen(Scenario):
    """Stages of two far-apart blobs in eight dimensions, on which settings may be chosen."""

    stages: int = param(2, ge=1)
    items: int = param(25, "items per class and split", ge=1)

    metrics: ClassVar[tuple[Metric, ...]] = (Metric(name="accuracy"),)

    def model_selection(self) -> str:
        return model_selection_on(f"{HERE}:Chosen", self)

    def data_digests(self) -> Mapping[str, str]:
        return {}

    def deal(self, seed: int) -> Deal:
        rng = seeds.stream("blobs", seed=seed)
        labels = np.tile(np.arange(2 * self.stages), 2 * self.items).astype(np.int64)
        inputs = (
            20 * rng.normal(size=(2 * self.stages, 8))[labels] + rng.normal(size=(len(labels), 8))
        ).astype(np.float32)
        is_test = np.arange(len(labels)) >= len(labels) // 2
        parts = [np.flatnonzero(~is_test & (labels // 2 == index)) for index in range(self.stages)]
        stages = [
            DealtStage(
                rows=rows,
                observed_labels=labels[rows],
                query=np.flatnonzero(is_test),
                named_classes=2 * index + 2,
                new_classes=2,
            )
            for index, rows in enumerate(parts)
        ]
        return Deal(inputs=inputs, labels=labels, facts={"stage": labels // 2}, stages=stages)

    def score(self, truth: Truth, answers: Sequence[StoredPrediction]) -> Scores:
        hits = [
            float(np.mean(answer.arrays["classes"] == truth.labels[answer.ids]))
            for answer in answers
            if answer.step is None
        ]
        return Scores(
            final={"accuracy": hits[-1]} if len(hits) == self.stages else {}, per_stage={"accuracy": hits}
        )


class Knob(Strategy):
    """Nearest class mean, but wrong on a share |x - 0.3| of the items, and on more of them in its first
    epochs.
    """

    x: float = param(0.5, "best at 0.3", ge=0, le=1)
    side: Literal["left", "right"] = param("left", "makes no difference")

    def setup(self) -> None:
        self.means: dict[int, np.ndarray] = {}
        self.epoch = 0

    def learn(self, stage: Stage) -> None:
        for label in np.unique(stage.labels):
            self.means[int(label)] = stage.inputs[np.flatnonzero(stage.labels == label)].mean(axis=0)
        for epoch in range(self.context.epochs):
            self.epoch = epoch + 1
            self.context.epoch_ended(self.epoch)

    def predict(self, query: Query) -> Prediction:
        far = np.stack(
            [
                np.square(query.inputs[np.arange(len(query.ids))] - mean).sum(axis=1)
                for mean in self.means.values()
            ]
        )
        right = np.array(list(self.means))[far.argmin(axis=0)]
        share = abs(self.x - 0.3) + 0.02 * (self.context.epochs - self.epoch)
        wrong = np.argsort(np.argsort(query.ids)) < share * len(query.ids)
        return Prediction(classes=np.where(wrong, right + 1, right))


class Fate(Knob):
    """Ends in one of many ways."""

    way: Literal["well", "diverged", "raises", "unsuitable", "hangs", "dies", "looks for the truth"] = param(
        "well"
    )

    def learn(self, stage: Stage) -> None:
        super().learn(stage)
        match self.way:
            case "diverged":
                raise Diverged("the loss is not finite")
            case "raises":
                raise ValueError("it does not add up")
            case "unsuitable":
                raise Unsuitable("it wants pictures")
            case "hangs":
                time.sleep(60)
            case "dies":
                os._exit(3)
            case "looks for the truth":
                if any(type(thing) is Truth for thing in gc.get_objects()):
                    raise ValueError("the truth was here")
