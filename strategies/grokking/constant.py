"""Always the most frequent label: the lower bound of grokking boards.

A residue is the answer to about one pair in p, so this scores about 1 / p on the test; 2 / p where 0 is twice
as frequent, as in a table of products. A learner that does worse has memorised something that leads it
astray.
"""

from __future__ import annotations

import numpy as np

from harness.contracts import Prediction, Query, Stage, Strategy
from strategies.grokking.closed_form import prediction_of
from strategies.toolkit.label_memory import LabelMemory


class Constant(Strategy):
    """Answer the label that was given most often, the smallest of several; the lower bound, about 1 / p."""

    def setup(self) -> None:
        """Remember nothing yet."""
        self.handed = LabelMemory()
        self.answer = 0
        self.classes = 1

    def learn(self, stage: Stage) -> None:
        """Count the labels."""
        self.handed.add(stage)
        self.classes = stage.named_classes
        self.answer = int(
            np.bincount(self.handed.labels[self.handed.labels >= 0].numpy(), minlength=1).argmax()
        )

    def predict(self, query: Query) -> Prediction:
        """Return that label for all items; the loss of a given label is its squared error, 0 or 2 / p."""
        logits = np.zeros((len(query.ids), self.classes), dtype=np.float32)
        logits[:, self.answer] = 1
        return prediction_of(self.handed, query.ids, logits)
