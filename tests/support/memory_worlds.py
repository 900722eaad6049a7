"""Strategies that find no memory."""

from __future__ import annotations

import numpy as np
import torch

from harness.contracts import Prediction, Query, Stage, Strategy

CUDA = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB of which "
    "1.52 GiB is free.\nSee the docs."
)


class NoDeviceMemory(Strategy):
    """Raise what torch raises where a GPU is full."""

    def learn(self, stage: Stage) -> None:
        raise torch.OutOfMemoryError(CUDA)

    def predict(self, query: Query) -> Prediction:
        return Prediction(classes=np.zeros(len(query.ids), dtype=np.int64))


class TooLargeForTheHost(NoDeviceMemory):
    """Ask torch for more than any machine has."""

    def learn(self, stage: Stage) -> None:
        torch.empty(2**50)


class TooLargeForNumpy(NoDeviceMemory):
    """Ask numpy for more than any machine has."""

    def learn(self, stage: Stage) -> None:
        np.ones(2**50)
