"""A world of one stage and learners that learn several cells at once, found by path; what they learn is known
in closed form.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

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
from harness.errors import Diverged

HERE = str(Path(__file__))


class Coins(Scenario):
    """Labels 0 and 1 of items that all look alike; some labels are handed over wrong."""

    epochs: int = param(6, ge=1)
    probe_every: int = param(2, ge=0)
    corrupted: float = param(0.0, "chance that a label is turned over", ge=0, le=1)
    rows: int = param(20, "training items", ge=1)
    uneven: bool = param(False, "seeds above 0 deal one training item more")

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="accuracy"),
        Metric(name="time_to_half", better="lower", censored=True),
    )
    answers: ClassVar[tuple[str, ...]] = ("classes", "scores")

    def data_digests(self) -> Mapping[str, str]:
        return {"coins": "made on the spot"}

    def deal(self, seed: int) -> Deal:
        rng = seeds.stream("coins", seed=seed)
        rows = self.rows + (self.uneven and seed > 0)
        labels = (rng.random(rows + 10) < 0.7).astype(np.int64)
        given = labels[:rows] ^ (rng.random(rows) < self.corrupted)
        stage = DealtStage(
            rows=np.arange(rows),
            observed_labels=given,
            query=np.arange(rows, rows + 10),
            named_classes=2,
            new_classes=2,
        )
        return Deal(inputs=np.ones((rows + 10, 1), dtype=np.float32), labels=labels, facts={}, stages=[stage])

    def score(self, truth: Truth, answers: Sequence[StoredPrediction]) -> Scores:
        ended = [answer for answer in answers if answer.step is None]
        right = [float(np.mean(answer.arrays["classes"] == truth.labels[answer.ids])) for answer in ended]
        reached = [
            answer.step
            for answer in answers
            if answer.step is not None and answer.arrays["scores"][0, 1] > 0.5
        ]
        return Scores(
            final={"accuracy": right[-1], "time_to_half": float(min(reached, default=np.nan))},
            per_stage={"accuracy": right},
        )


class Races(Coins):
    """The same, but the time comes first."""

    metrics: ClassVar[tuple[Metric, ...]] = Coins.metrics[::-1]


class Descent(Strategy):
    """Approach the mean label by gradient descent: after t steps  w = mean + (w at first - mean) (1 -
    rate)^t.
    """

    together: ClassVar[tuple[str, ...]] = ("rate", "trouble")
    together_at_most: ClassVar[int] = 4

    rate: float = param(0.1, "step size", gt=0)
    trouble: str = param("", "what goes wrong: raises, diverges, answers, dies, sleeps")
    group: str = param("", "something in which cells learned at once may not differ")
    mark: str = param("", "file that gets a line with the number of cells of every call to learn")

    def setup(self) -> None:
        self.weight = 0.0

    def learn(self, stage: Stage) -> None:
        self._note(1)
        mean, steps = float(stage.labels.mean()), self.context.epochs
        self.weight = float(self.context.stream("init").normal())
        for step in range(1, steps + 1):
            self.weight -= self.rate * (self.weight - mean)
            self._stumble(step)
            self.context.progress(step, steps)
            self.context.probe(step)

    @classmethod
    def learn_together(cls, strategies: Sequence[Self], stages: Sequence[Stage]) -> None:
        strategies[0]._note(len(strategies))
        means = np.array([stage.labels.mean() for stage in stages])
        rates = np.array([strategy.rate for strategy in strategies])
        weights = np.array([strategy.context.stream("init").normal() for strategy in strategies])
        steps = strategies[0].context.epochs
        for step in range(1, steps + 1):
            weights = weights - rates * (weights - means)
            for strategy, weight in zip(strategies, weights, strict=True):
                strategy.weight = float(weight)
                strategy._stumble(step)
                strategy.context.progress(step, steps)
                strategy.context.probe(step)

    def predict(self, query: Query) -> Prediction:
        weight = np.nan if self.trouble == "answers" else self.weight
        scores = np.tile([1 - weight, weight], (len(query.ids), 1))
        return Prediction(
            classes=np.full(len(query.ids), int(self.weight > 0.5)),
            scores=scores,
            health=np.array([self.weight, np.nan]),
        )

    def _note(self, cells: int) -> None:
        if self.mark:
            with Path(self.mark).open("a") as file:
                file.write(f"{cells}\n")

    def _stumble(self, step: int) -> None:
        if step < 3:
            return
        if self.trouble == "raises":
            raise ValueError("the third step is too hard")
        if self.trouble == "diverges":
            raise Diverged("the weight is not finite")
        if self.trouble == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble == "sleeps":
            time.sleep(60)


class Copycat(Descent):
    """Learns at once what the first one learns: its peers get its weight."""

    @classmethod
    def learn_together(cls, strategies: Sequence[Self], stages: Sequence[Stage]) -> None:
        super().learn_together(strategies, [stages[0]] * len(stages))
        for strategy in strategies:
            strategy.weight = strategies[0].weight


class Stranger(Descent):
    """Names a parameter that it does not have."""

    together: ClassVar[tuple[str, ...]] = ("speed",)
