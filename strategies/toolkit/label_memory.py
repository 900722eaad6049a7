"""Which label was handed over with which item, so that a learner can say afterwards what it thinks of it.

Rows are numbered through all stages in the order they came; a method that keeps something per item keeps it
under these numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.contracts import IntArray, Prediction, Stage


class LabelMemory:
    """Ids and labels of all items that came with a label."""

    def __init__(self) -> None:
        self.ids: IntArray = np.zeros(0, dtype=np.int64)
        self.labels = torch.zeros(0, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def add(self, stage: Stage) -> int:
        """Remember the labels of a stage; return the number of its first row."""
        first = len(self)
        self.ids = np.concatenate([self.ids, stage.ids])
        self.labels = torch.cat([self.labels, torch.from_numpy(np.array(stage.labels))])
        return first

    def find(self, ids: IntArray) -> tuple[IntArray, IntArray]:
        """Return where in `ids` there are items that came with a label, and their row numbers."""
        if not len(self):
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        order = np.argsort(self.ids)
        nearest = order[np.searchsorted(self.ids, ids, sorter=order).clip(max=len(order) - 1)]
        places = np.flatnonzero(self.ids[nearest] == ids)
        return places, nearest[places]

    def judged(
        self, prediction: Prediction, ids: IntArray, losses: Tensor, suspicion: Tensor, kept: Tensor
    ) -> Prediction:
        """Return `prediction` with what a learner says of the labels of the items in `find(ids)`, each (n,);
        zero for all others.
        """
        places, _ = self.find(ids)
        fields = {}
        for name, values in (("label_losses", losses), ("suspicion", suspicion), ("kept", kept)):
            whole = np.zeros(len(ids), dtype=np.float32)
            whole[places] = values.cpu().numpy()
            fields[name] = whole
        return Prediction(classes=prediction.classes, **fields)

    def state_dict(self) -> dict[str, Any]:
        """Return ids and labels."""
        return {"ids": torch.from_numpy(self.ids), "labels": self.labels}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become what `state_dict` was taken from."""
        self.ids, self.labels = state["ids"].numpy().copy(), state["labels"]


def noise_score(distribution: Tensor, labels: Tensor) -> Tensor:
    """Return how strongly distributions over classes (N, C) speak against labels (N,): q / (q + q_y), q the
    largest other entry.

    Above 1/2 where another class is likelier; so a label is kept where this is at most 1/2 (for ELR's
    targets, the flag of its README).
    """
    own = distribution.gather(1, labels[:, None])[:, 0]
    others = distribution.scatter(1, labels[:, None], -1.0).amax(dim=1).clamp_min(0)
    return others / (others + own).clamp_min(1e-12)
