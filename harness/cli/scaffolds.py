"""What `owb new` writes: files that work as they stand. `{name}` is what was asked for, `{cls}` its class."""

from __future__ import annotations

STRATEGY = '''"""{name}: say here in one sentence what it does, and where it comes from."""

import numpy as np

from openworld import Prediction, Query, Stage, Strategy, param


class {cls}(Strategy):
    """Predict the class whose mean training input is nearest."""

    power: float = param(2.0, "power of the distance", gt=0)

    def setup(self) -> None:
        """Make what must exist before the first stage. What is set on self is kept between stages."""
        self.means: dict[int, np.ndarray] = {{}}

    def learn(self, stage: Stage) -> None:
        """Learn one stage: stage.inputs (N, ...), stage.labels (N,); earlier stages do not come again."""
        for label in np.unique(stage.labels[stage.labels >= 0]):
            self.means[int(label)] = stage.inputs[np.flatnonzero(stage.labels == label)].mean(axis=0, dtype=np.float64)

    def predict(self, query: Query) -> Prediction:
        """Answer every item of the query, in its order."""
        inputs = query.inputs[np.arange(len(query.ids))].astype(np.float64)
        far = [(abs(inputs - mean) ** self.power).reshape(len(inputs), -1).sum(axis=1) for mean in self.means.values()]
        return Prediction(classes=np.array(list(self.means))[np.argmin(far, axis=0)])
'''

SCENARIO = '''"""{name}: say here in one sentence what is learned, and what it asks."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from openworld import Deal, DealtStage, Metric, Scenario, Scores, StoredPrediction, Truth, param


class {cls}(Scenario):
    """Two new classes in every stage, each a cloud of points; after a stage all classes so far are asked."""

    stages: int = param(3, "stages", ge=1)
    items: int = param(20, "items of a class to learn, and as many to ask", ge=1, unit="items")

    metrics: ClassVar = (Metric(name="final_accuracy", meaning="accuracy on all classes after the last stage"),)

    def data_digests(self) -> Mapping[str, str]:
        """Name the data and the SHA-256 of their contents; here they follow from this file and the seed."""
        return {{"clouds": "made on the spot"}}

    def deal(self, seed: int) -> Deal:
        """Deal everything with everything known; what learners may not see is taken away later."""
        rng = np.random.default_rng(seed)
        classes = 2 * self.stages
        labels = np.tile(np.arange(classes), 2 * self.items)
        centres = 3 * rng.normal(size=(classes, 8))
        inputs = (centres[labels] + rng.normal(size=(len(labels), 8))).astype(np.float32)
        asked, arrival = np.arange(len(labels)) >= len(labels) // 2, labels // 2
        stages = []
        for index in range(self.stages):
            rows = np.flatnonzero(~asked & (arrival == index))
            stages.append(
                DealtStage(
                    rows=rows,
                    observed_labels=labels[rows],
                    query=np.flatnonzero(asked & (arrival <= index)),
                    named_classes=2 * (index + 1),
                    new_classes=2,
                )
            )
        return Deal(inputs=inputs, labels=labels, facts={{}}, stages=stages)

    def score(self, truth: Truth, answers: Sequence[StoredPrediction]) -> Scores:
        """Score the stages that have ended; every metric has its figure once all have."""
        ended = [answer for answer in answers if answer.step is None]
        hits = [float(np.mean(answer.arrays["classes"] == truth.labels[answer.ids])) for answer in ended]
        final = {{"final_accuracy": hits[-1]}} if len(hits) == self.stages else {{}}
        return Scores(final=final, per_stage={{"accuracy": hits}})
'''

DATASET = '''"""{name}: say here in one sentence what it is, and where it comes from."""

import numpy as np

from openworld import Card, Data, Dataset, param


class {cls}(Dataset):
    """A cloud of points for each of six classes; put your own in their place."""

    card = Card(
        title="{name}",
        items=360,
        classes=6,
        shape=(8,),
        licence="say which",
        source="say whose",
        package="your own",
        digest="",
        notes="what a reader should know before trusting a number from it",
    )

    spread: float = param(1.0, "standard deviation of a cloud", gt=0)

    def load(self) -> Data:
        """Return all items in a fixed order: images (N, channels, height, width), or features (N, values)."""
        rng = np.random.default_rng(0)
        labels = np.repeat(np.arange(6), 60)
        centres = 3 * rng.normal(size=(6, 8))
        inputs = centres[labels] + self.spread * rng.normal(size=(len(labels), 8))
        return Data(
            inputs=inputs.astype(np.float32), labels=labels, class_names=tuple(f"cloud {{k}}" for k in range(6))
        )
'''

COMPONENT = '''"""{name}: say here in one sentence what it changes about training, and where it comes from."""

from torch import Tensor

from openworld import param
from strategies.components.contract import Component


class {cls}(Component):
    """Add the mean square of the logits to the loss."""

    weight: float = param(0.01, "of the penalty", ge=0, ablate=[0.0])

    neutral = {{"weight": 0.0}}  # with which a learner answers as without it

    def term(self, network, batch, seen) -> Tensor:
        """Return what to add to the loss of a batch; other hooks change networks, rates, batches and steps."""
        return self.weight * seen.logits.float().square().mean()
'''

NOTEBOOK = (
    (
        "markdown",
        "# {name}\n\nA data set and a strategy of your own, run on workers beside a method that is here.",
    ),
    (
        "code",
        "import numpy as np\n"
        "\n"
        "import openworld as ow\n"
        "from openworld import Prediction, Query, Stage, Strategy, param",
    ),
    (
        "code",
        "# your data: arrays, tensors, or a data set of PyTorch\n"
        "labels = np.repeat(np.arange(6), 60)\n"
        "rng = np.random.default_rng(0)\n"
        "inputs = 3 * rng.normal(size=(6, 8))[labels] + rng.normal(size=(360, 8))\n"
        "data = ow.as_dataset((inputs, labels))\n"
        'scenario = f"class-incremental[dataset={{data}},stages=3]"',
    ),
    ("code", STRATEGY.partition("param\n\n\n")[2].rstrip()),
    ("code", "ow.debug({cls}, scenario)  # in this process: breakpoint(), %debug and print work"),
    ("code", 'results = ow.run([{cls}, "replay"], scenario, seeds=3)\nresults'),
    ("code", "results.frame()"),
    (
        "code",
        'results.curves().groupby(["strategy", "stage"])["seen_accuracy"].mean().unstack("strategy").plot();',
    ),
)
"""The cells of a notebook: their kind and their text."""

__all__ = ["COMPONENT", "DATASET", "NOTEBOOK", "SCENARIO", "STRATEGY"]
