"""A scenario that asks for fields of its own, as somebody's own file may: how deep every item lies, how sure
a learner is of that, and something of the learner itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from worlds import Blobs, Guess

from harness.contracts import (
    AnyArray,
    IntArray,
    Metric,
    Prediction,
    Query,
    Rule,
    Scores,
    Stage,
    StoredPrediction,
    Strategy,
    Truth,
    param,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthPrediction(Prediction):
    """levels: int (N,), how deep an item lies.  certainty: float (N,) in [0, 1].

    heard: of the learner, float (stages so far,), how many items every stage had.
    """

    levels: AnyArray | None = field(default=None, metadata={"rule": Rule("index", axes=(1,))})
    certainty: AnyArray | None = field(default=None, metadata={"rule": Rule("probability", half=True)})
    heard: AnyArray | None = field(default=None, metadata={"rule": Rule(of_learner=True)})


class Depths(Blobs):
    """Blobs, of which the depth is asked: the class modulo three."""

    prediction: ClassVar[type[Prediction]] = DepthPrediction
    answers: ClassVar[tuple[str, ...]] = ("levels", "certainty")
    metrics: ClassVar[tuple[Metric, ...]] = (Metric(name="depth"), Metric(name="heard"))

    def score(self, truth: Truth, answers: Sequence[StoredPrediction]) -> Scores:
        last = answers[-1].arrays
        hits = last["levels"] == truth.labels[answers[-1].ids] % 3
        figures = {
            "depth": float((hits * last["certainty"].astype(np.float64)).mean()),
            "heard": float(last["heard"].sum()),
        }
        return Scores(final=figures)

    def perfect(self, truth: Truth, ids: IntArray) -> Prediction:
        sure = np.ones(len(ids))
        return DepthPrediction(levels=truth.labels[ids] % 3, certainty=sure, heard=np.ones(2))


class Dives(Strategy):
    """Answer that all lies at depth 1, half certain; or something wrong."""

    levels: float = param(1.0)
    certainty: float = param(0.5)
    columns: int = param(0, "columns of levels; 0 for one number an item")

    def setup(self) -> None:
        self.heard: list[int] = []

    def learn(self, stage: Stage) -> None:
        self.heard.append(len(stage.ids))

    def predict(self, query: Query) -> Prediction:
        shape: Any = (len(query.ids), self.columns) if self.columns else len(query.ids)
        return DepthPrediction(
            levels=np.full(shape, self.levels),
            certainty=np.full(len(query.ids), self.certainty),
            heard=np.array(self.heard),
        )


class Unsaid(Strategy):
    """Answer classes alone, which do not say how deep an item lies."""

    learn = Guess.learn
    predict = Guess.predict
