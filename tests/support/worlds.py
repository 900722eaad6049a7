"""Tiny worlds for tests, found by path: a scenario of Gaussian blobs, and strategies that behave well or
badly on purpose.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from harness import seeds
from harness.contracts import (
    HIDDEN,
    Deal,
    DealtStage,
    Metric,
    NoiseInfo,
    Prediction,
    Query,
    Scenario,
    Scores,
    Stage,
    StoredPrediction,
    Strategy,
    TrainingBudget,
    Truth,
    param,
)
from harness.errors import Unsuitable
from harness.metrics.class_incremental import accuracy_matrix, average_accuracy

HERE = str(Path(__file__))


class Blobs(Scenario):
    """Three stages of two Gaussian blobs each, in eight dimensions."""

    stages: int = param(3, ge=1)
    items: int = param(20, "items per class and split", ge=1)

    metrics: ClassVar[tuple[Metric, ...]] = (Metric(name="average_accuracy"),)

    def data_digests(self) -> Mapping[str, str]:
        return {"blobs": "made on the spot"}

    def deal(self, seed: int) -> Deal:
        rng = seeds.stream("blobs", seed=seed)
        classes = 2 * self.stages
        labels = np.tile(np.arange(classes), 2 * self.items).astype(np.int64)
        inputs = (3 * rng.normal(size=(classes, 8))[labels] + rng.normal(size=(len(labels), 8))).astype(
            np.float32
        )
        is_test = np.arange(len(labels)) >= len(labels) // 2
        arrival = labels // 2
        stages = []
        for index in range(self.stages):
            rows = np.flatnonzero(~is_test & (arrival == index))
            query = np.flatnonzero(is_test)
            stages.append(
                DealtStage(
                    rows=rows,
                    observed_labels=labels[rows],
                    query=query,
                    named_classes=2 * index + 2,
                    new_classes=2,
                )
            )
        return Deal(inputs=inputs, labels=labels, facts={"stage": arrival}, stages=stages)

    def score(self, truth: Truth, answers: Sequence[StoredPrediction]) -> Scores:
        ended = [answer for answer in answers if answer.step is None]
        labels = [truth.labels[answer.ids] for answer in ended]
        arrival = [truth.facts["stage"][answer.ids] for answer in ended]
        predicted = [answer.arrays["classes"] for answer in ended]
        matrix = accuracy_matrix([answer.stage for answer in ended], predicted, labels, arrival, self.stages)
        seen = [float(np.mean(matrix[answer.stage, : answer.stage + 1])) for answer in ended]
        final = {"average_accuracy": average_accuracy(matrix)} if len(ended) == self.stages else {}
        return Scores(final=final, per_stage={"seen_accuracy": seen}, matrices={"accuracy": matrix})


class UnscoredBlobs(Blobs):
    """The same blobs, whose scoring gives up once a stage has ended."""

    ended: int = param(1, "stages that can be scored", ge=0)

    def score(self, truth: Truth, answers: Sequence[StoredPrediction]) -> Scores:
        if len(answers) > self.ended:
            raise TypeError("no figure for this")
        return super().score(truth, answers)


class HiddenBlobs(Blobs):
    """The same blobs, with labels in the first stage alone."""

    upper_bound: ClassVar[str] = "joint-discovery"

    def budget(self) -> TrainingBudget:
        return replace(super().budget(), first_epochs=3, augmentations="noise")

    def deal(self, seed: int) -> Deal:
        whole = super().deal(seed)
        hidden = [
            replace(stage, observed_labels=np.full(len(stage.rows), HIDDEN), named_classes=2)
            for stage in whole.stages[1:]
        ]
        return replace(whole, stages=[whole.stages[0], *hidden], recurring=False)


class NovelBlobs(Blobs):
    """The same blobs: labels of the first two classes, and these again beside items of the others without
    labels.
    """

    stages: int = param(2, ge=2)

    upper_bound: ClassVar[str] = "joint-novel"

    def budget(self) -> TrainingBudget:
        return replace(super().budget(), first_epochs=3, gradient_steps=12, augmentations="noise")

    def deal(self, seed: int) -> Deal:
        whole = super().deal(seed)
        known, *novel = whole.stages
        rows = np.sort(np.concatenate([stage.rows for stage in whole.stages]))
        given = np.where(whole.labels[rows] < 2, whole.labels[rows], HIDDEN)
        later = replace(
            novel[-1], rows=rows, observed_labels=given, named_classes=2, new_classes=2 * len(novel)
        )
        return replace(whole, stages=[known, later], recurring=True)


class NoisyBlobs(Blobs):
    """The same blobs, some with wrong labels: items are held out to choose by, and learners are told how
    labels are confused.
    """

    def deal(self, seed: int) -> Deal:
        whole = super().deal(seed)
        rng = seeds.stream("noise", seed=seed)
        stages = []
        for stage in whole.stages:
            given = np.where(
                rng.random(len(stage.rows)) < 0.3, stage.observed_labels ^ 1, stage.observed_labels
            )  # within the pair of the stage
            matrix = np.kron(np.eye(stage.named_classes // 2), [[0.7, 0.3], [0.3, 0.7]]).astype(np.float32)
            stages.append(
                replace(
                    stage,
                    rows=stage.rows[4:],
                    observed_labels=given[4:],
                    validation=stage.rows[:4],
                    validation_labels=given[:4],
                    monitored=stage.rows[4:14],
                    noise_info=NoiseInfo(rate=0.3, matrix=matrix),
                )
            )
        return replace(whole, stages=stages)


class Residues(Scenario):
    """Sums modulo 7 as pairs of residues, in two stages that name all classes; every fourth pair is asked."""

    lower_bound: ClassVar[str] = "constant"
    upper_bound: ClassVar[str] = "closed-form"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric(name="accuracy"),)
    backbone: str = param("quadratic[width=16,modulus=7]")

    def data_digests(self) -> Mapping[str, str]:
        return {}

    def deal(self, seed: int) -> Deal:
        pairs = np.stack(np.divmod(np.arange(49), 7), axis=1)
        labels, order = pairs.sum(axis=1) % 7, seeds.stream("order", seed=seed).permutation(49)
        query, parts = np.sort(order[:12]), (np.sort(order[12:32]), np.sort(order[32:]))
        stages = [
            DealtStage(
                rows=rows,
                observed_labels=labels[rows],
                query=query,
                named_classes=7,
                new_classes=7 * (index == 0),
            )
            for index, rows in enumerate(parts)
        ]
        return Deal(inputs=pairs, labels=labels, facts={}, stages=stages)

    def score(self, truth: Truth, answers: Sequence[StoredPrediction]) -> Scores:
        hits = [
            float(np.mean(answer.arrays["classes"] == truth.labels[answer.ids]))
            for answer in answers
            if answer.step is None
        ]
        return Scores(final={"accuracy": hits[-1]} if len(hits) == 2 else {}, per_stage={"accuracy": hits})


class Means(Strategy):
    """Nearest class mean; the well-behaved one."""

    offset: float = param(0.0, "added to every mean")
    pause: float = param(0.0, "seconds of sleep per stage", ge=0)

    def setup(self) -> None:
        self.means: dict[int, np.ndarray] = {}

    def learn(self, stage: Stage) -> None:
        time.sleep(self.pause)
        noise = self.context.stream("method").normal(scale=1e-3)
        for label in np.unique(stage.labels):
            self.means[int(label)] = (
                stage.inputs[np.flatnonzero(stage.labels == label)].mean(axis=0) + self.offset + noise
            )

    def predict(self, query: Query) -> Prediction:
        far = np.stack([np.square(query.inputs - mean).sum(axis=1) for mean in self.means.values()])
        return Prediction(classes=np.array(list(self.means))[far.argmin(axis=0)])


class Guess(Strategy):
    """Answer zeros; the base for the bad ones to be compared with."""

    def learn(self, stage: Stage) -> None:
        pass

    def predict(self, query: Query) -> Prediction:
        return Prediction(classes=np.zeros(len(query.ids), dtype=int))


class Raises(Strategy):
    """Raise in the second stage."""

    def learn(self, stage: Stage) -> None:
        if stage.index == 1:
            raise ValueError("the second stage is too hard")

    predict = Guess.predict


class TooShort(Strategy):
    """Answer with too few rows."""

    learn = Guess.learn

    def predict(self, query: Query) -> Prediction:
        return Prediction(classes=np.zeros(3, dtype=int))


class NotANumber(Strategy):
    """Answer NaN scores."""

    learn = Guess.learn

    def predict(self, query: Query) -> Prediction:
        return Prediction(
            classes=np.zeros(len(query.ids), dtype=int), scores=np.full((len(query.ids), 2), np.nan)
        )


class WrongField(Strategy):
    """Answer anomaly scores where classes are asked."""

    learn = Guess.learn

    def predict(self, query: Query) -> Prediction:
        return Prediction(anomaly_scores=np.zeros(len(query.ids)))


class Sleeps(Strategy):
    """Sleep for ever, holding on to the interpreter lock as far as Python allows."""

    def learn(self, stage: Stage) -> None:
        while True:
            time.sleep(60)

    predict = Guess.predict


class Eats(Strategy):
    """Take 100 MiB at a time until stopped."""

    def learn(self, stage: Stage) -> None:
        self.eaten = []
        while True:
            self.eaten.append(np.ones(100 * 2**17))
            time.sleep(0.02)

    predict = Guess.predict


class Dies(Strategy):
    """Kill its own process."""

    def learn(self, stage: Stage) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    predict = Guess.predict


class Refuses(Strategy):
    """Say that the scenario does not suit it."""

    def learn(self, stage: Stage) -> None:
        raise Unsuitable("needs labels that lie")

    predict = Guess.predict


class Chatty(Strategy):
    """Print and answer zeros."""

    def learn(self, stage: Stage) -> None:
        print(f"hello from stage {stage.index}")

    predict = Guess.predict


class Announces(Strategy):
    """Means that writes its process id to a file and takes its time, so that a test can kill it in mid-cell."""

    mark: str = param("", "file to write the process id to; one line per started stage")
    pause: float = param(0.7, "how long a stage takes", ge=0, unit="s")

    def setup(self) -> None:
        self.means: dict[int, np.ndarray] = {}

    def learn(self, stage: Stage) -> None:
        with Path(self.mark).open("a") as file:
            file.write(f"{os.getpid()} {stage.index}\n")
        time.sleep(self.pause)
        noise = self.context.stream("method").normal(scale=1e-3)
        for label in np.unique(stage.labels):
            self.means[int(label)] = stage.inputs[np.flatnonzero(stage.labels == label)].mean(axis=0) + noise

    predict = Means.predict


class Trains(Strategy):
    """A linear layer trained by gradient steps with probes, drawing on every kind of randomness."""

    def setup(self) -> None:
        self.layer = torch.nn.Linear(8, 6)

    def learn(self, stage: Stage) -> None:
        optimiser = torch.optim.SGD(self.layer.parameters(), lr=0.1)
        inputs, labels = torch.from_numpy(np.array(stage.inputs)), torch.tensor(stage.labels)
        for step in range(20):
            rows = torch.randperm(len(labels))[:16]  # torch's global generator, on purpose
            loss = torch.nn.functional.cross_entropy(self.layer(inputs[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            self.context.progress(step + 1, 20, loss=float(loss.detach()))
            self.context.probe(step + 1)

    def predict(self, query: Query) -> Prediction:
        with torch.no_grad():
            scores = self.layer(torch.from_numpy(np.array(query.inputs)))
        return Prediction(classes=scores.argmax(dim=1).numpy(), scores=scores.numpy())


class Cheats(Strategy):
    """Look for the truth in everything within reach, and answer it where it is found."""

    way: str = param("frames", "where to look: frames, garbage, ids, base")

    def learn(self, stage: Stage) -> None:
        pass

    def predict(self, query: Query) -> Prediction:
        truth = getattr(self, f"_by_{self.way}")(query)
        return Prediction(classes=np.zeros(len(query.ids), dtype=int) if truth is None else truth)

    def _by_frames(self, query: Query) -> np.ndarray | None:
        frame = sys._getframe()
        while frame is not None:
            for value in frame.f_locals.values():
                truth = value if isinstance(value, Truth) else getattr(value, "truth", None)
                if isinstance(truth, Truth):
                    return truth.labels[query.ids]
            frame = frame.f_back
        return None

    def _by_garbage(self, query: Query) -> np.ndarray | None:
        # brings all objects into one generation, the youngest last; other tests may have left truths of their
        # own
        gc.collect()
        found = [thing for thing in gc.get_objects() if type(thing) is Truth]
        return found[-1].labels[query.ids] if found else None

    def _by_ids(self, query: Query) -> np.ndarray:
        return query.ids % 6

    def _by_base(self, query: Query) -> np.ndarray | None:
        base = getattr(query.inputs, "base", None)
        return None if base is None else np.asarray(base).reshape(-1)[: len(query.ids)].astype(int)
