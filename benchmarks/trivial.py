"""A scenario and a strategy that do next to nothing, so that what is measured is the harness."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

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


class Coin(Scenario):
    """One stage of ten items of two classes."""

    metrics: ClassVar[tuple[Metric, ...]] = (Metric(name="accuracy"),)

    def data_digests(self) -> Mapping[str, str]:
        """There are no data."""
        return {}

    def deal(self, seed: int) -> Deal:
        """Deal the items."""
        labels = np.arange(20) % 2
        stage = DealtStage(
            rows=np.arange(10),
            observed_labels=labels[:10],
            query=np.arange(10, 20),
            named_classes=2,
            new_classes=2,
        )
        return Deal(inputs=np.zeros((20, 1), np.float32), labels=labels, facts={}, stages=[stage])

    def score(self, truth: Truth, answers: Sequence[StoredPrediction]) -> Scores:
        """Return the accuracy."""
        hits = [float(np.mean(answer.arrays["classes"] == truth.labels[answer.ids])) for answer in answers]
        return Scores(final={"accuracy": hits[-1]}, per_stage={"accuracy": hits})


class Heads(Strategy):
    """Always answer the same."""

    def learn(self, stage: Stage) -> None:
        """Learn nothing."""

    def predict(self, query: Query) -> Prediction:
        """Answer class 0."""
        return Prediction(classes=np.zeros(len(query.ids), dtype=np.int64))


class Clock(Heads):
    """Write down when it begins; then sleep, or read all of the stage."""

    mark: str = param("", "file for the time on the monotonic clock, in seconds")
    sleep: float = param(0.0, ge=0, unit="seconds")
    touch: bool = param(False)

    def setup(self) -> None:
        """Write down the time."""
        Path(self.mark).write_text(str(time.monotonic()))

    def learn(self, stage: Stage) -> None:
        """Do what it is told."""
        if self.touch:
            for row in range(len(stage.ids)):
                float(np.asarray(stage.inputs)[row].sum())
        time.sleep(self.sleep)
