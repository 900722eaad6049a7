"""A strategy for the campaign of faults: it draws random numbers, keeps its state, and does a fault where a
file asks for it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import torch

from harness.contracts import Prediction, Query, Stage, Strategy, param


class Steady(Strategy):
    """A linear layer over all classes, trained by gradient steps. `OWB_TRAP` names a file that says once what
    to do instead of learning.
    """

    rate: float = param(0.1, gt=0)
    late: float = param(0.0, "weight decay of stages after the first", ge=0, since_stage=1)
    pause: float = param(0.1, "seconds of sleep per stage", ge=0)

    def setup(self) -> None:
        """Make the layer."""
        self.layer = torch.nn.Linear(64, 10)

    def learn(self, stage: Stage) -> None:
        """Take gradient steps, and whatever time and memory the trap asks for."""
        if stage.index == 1:
            _spring()
        decay = self.late if stage.index else 0.0
        optimiser = torch.optim.SGD(self.layer.parameters(), lr=self.rate, weight_decay=decay)
        inputs, labels = _flat(stage), torch.tensor(np.asarray(stage.labels))
        for step in range(150):
            rows = torch.randperm(len(labels))[:32]
            loss = torch.nn.functional.cross_entropy(self.layer(inputs[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            self.context.progress(step + 1, 150, loss=float(loss.detach()))
        time.sleep(self.pause)

    def predict(self, query: Query) -> Prediction:
        """Answer the likeliest class."""
        with torch.no_grad():
            return Prediction(classes=self.layer(_flat(query)).argmax(dim=1).numpy())


def thin(item_shape: tuple[int, ...], *, weights: str = "") -> torch.nn.Module:
    """Return a network whose weights a node has to have; `Steady` does not use it."""
    return torch.nn.Flatten()


def _flat(items: Stage | Query) -> torch.Tensor:
    return torch.from_numpy(np.array(items.inputs, dtype=np.float32)).flatten(1)[:, :64]


def _spring() -> None:
    """Do what the trap says, if it is set; the first cell that comes takes it away."""
    trap = Path(os.environ.get("OWB_TRAP", "/nonexistent"))
    try:
        said = trap.read_text()
        trap.unlink()
    except OSError:
        return
    if said == "hang":
        time.sleep(3600)
    taken = []
    while said == "memory":
        taken.append(np.ones(2**22))
        time.sleep(0.01)
