"""Two Gaussians that a line tells apart: the linear model in which Liu et al. 2020 ("Early-Learning
Regularization") prove their point.

x ~ N(+v, sigma^2 I) or N(-v, sigma^2 I) in p dimensions, v a unit vector. With wrong labels, n training items
and p/n in (1 - rate/2, 1), gradient descent on cross-entropy finds v first and then, slowly, every wrong
label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from harness import seeds
from harness.contracts import Deal, DealtStage, Metric, Scenario, Scores, StoredPrediction, Truth, param


class TwoGaussians(Scenario):
    """Two classes around +v and -v, one stage; the ground of a theorem on noisy labels."""

    items: int = param(500, "training items, n", ge=4, unit="items")
    dimensions: int = param(450, "p", ge=2)
    sigma: float = param(0.1, "standard deviation in every direction", gt=0)
    test_items: int = param(2000, "items to predict", ge=2, unit="items")
    backbone: str = param("linear", "network that every strategy trains")

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="accuracy", meaning="share of test items predicted right"),
    )

    def data_digests(self) -> Mapping[str, str]:
        """Return nothing to look up: the items are drawn."""
        return {}

    def deal(self, seed: int) -> Deal:
        """Draw training and test items, both classes equally often, v along the first axis."""
        rng = seeds.stream("items", seed=seed)
        total = self.items + self.test_items
        labels = np.arange(total, dtype=np.int64) % 2
        inputs = rng.normal(scale=self.sigma, size=(total, self.dimensions)).astype(np.float32)
        inputs[:, 0] += 2 * labels - 1
        rows = np.arange(self.items)
        query = np.arange(self.items, total)
        stage = DealtStage(
            rows=rows, observed_labels=labels[rows], query=query, named_classes=2, new_classes=2
        )
        return Deal(inputs=inputs, labels=labels, facts={}, stages=[stage])

    def score(self, truth: Truth, answers: Sequence[StoredPrediction]) -> Scores:
        """Return the accuracy after the stage and at every probe."""
        hits = [
            (answer, float(np.mean(answer.arrays["classes"] == truth.labels[answer.ids])))
            for answer in answers
        ]
        ended = [accuracy for answer, accuracy in hits if answer.step is None]
        probes = [
            (answer.stage, answer.step, accuracy) for answer, accuracy in hits if answer.step is not None
        ]
        final = {"accuracy": ended[-1]} if ended else {}
        return Scores(final=final, per_stage={"accuracy": ended}, probes={"accuracy": probes})
