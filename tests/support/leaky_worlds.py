"""Strategies that leave something behind in their process, or keep something outside themselves. Each answers
as `Means` does otherwise.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from worlds import Means

from harness.contracts import Prediction, Query, Stage, param

KEPT: dict[int, Any] = {}


class Leaky(Means):
    """`Means` whose answers depend on the generators that every process shares, so that a stray draw shows."""

    def learn(self, stage: Stage) -> None:
        super().learn(stage)
        jitter = torch.rand(1, device="cpu").item() + np.random.rand()  # seeded by the harness for the cell
        self.means = {label: mean + jitter for label, mean in self.means.items()}
        if stage.index == 2 or self.in_every_stage:
            self.leave(stage)

    def predict(self, query: Query) -> Prediction:
        means = np.stack(list(self.means.values()))
        return Prediction(
            classes=super().predict(query).classes,
            scores=-np.square(query.inputs[:, None] - means).sum(axis=2),
        )

    in_every_stage: ClassVar[bool] = False

    def leave(self, stage: Stage) -> None:
        """Leave something behind."""


class OnItsClass(Leaky):
    """Keep what every instance sees in one list, as a mutable class attribute does."""

    in_every_stage: ClassVar[bool] = True
    buffer: ClassVar[list[Any]] = []

    def leave(self, stage: Stage) -> None:
        self.buffer.append(np.asarray(stage.inputs[np.arange(len(stage.ids))]).mean(axis=0))
        self.means = {label: mean + np.mean(self.buffer, axis=0) for label, mean in self.means.items()}


class InItsModule(Leaky):
    """Keep the first mean of every class in a dictionary of the module."""

    in_every_stage: ClassVar[bool] = True

    def leave(self, stage: Stage) -> None:
        for label, mean in self.means.items():
            KEPT.setdefault(label, mean)
        self.means = {label: KEPT[label] for label in self.means}


class Thread(Leaky):
    """Leave a thread that draws from the generators for ever."""

    def leave(self, stage: Stage) -> None:
        def draw() -> None:
            while True:
                torch.rand(3)
                np.random.rand(3)
                time.sleep(0.0005)

        threading.Thread(target=draw, daemon=True, name="drawer").start()


class Device(Leaky):
    """Leave another default device."""

    def leave(self, stage: Stage) -> None:
        torch.set_default_device("meta")


class Patch(Leaky):
    """Leave a function of torch replaced by one that gives no number."""

    def leave(self, stage: Stage) -> None:
        torch.nn.functional.cross_entropy = lambda *_, **__: torch.tensor(float("nan"))


class Alarm(Leaky):
    """Leave an alarm, which ends a process that does not expect it."""

    def leave(self, stage: Stage) -> None:
        signal.setitimer(signal.ITIMER_REAL, 2)


class Settings(Leaky):
    """Leave another default dtype, working folder, environment and search path."""

    def leave(self, stage: Stage) -> None:
        torch.set_default_dtype(torch.float64)
        os.environ["OMP_NUM_THREADS"] = "nonsense"
        sys.path.insert(0, "/nowhere")
        os.chdir("/")


class Child(Leaky):
    """Leave a process that goes on, out of the session of its parent."""

    mark: str = param("", "file that tells the process's id")

    def leave(self, stage: Stage) -> None:
        multiprocessing.get_context("fork").Process(target=_go_on, args=(self.mark,)).start()
        while not Path(self.mark).is_file():
            time.sleep(0.01)


class Loud(Leaky):
    """Print 20 MB a stage."""

    in_every_stage: ClassVar[bool] = True

    def leave(self, stage: Stage) -> None:
        for _ in range(20):
            print("x" * 1_000_000)


class Reaches(Leaky):
    """Import a data set with its labels, where a scan sees it and a hook too."""

    def leave(self, stage: Stage) -> None:
        from scenarios.datasets.digits import Digits

        self.labels = len(Digits().load().labels)


def _go_on(mark: str) -> None:
    os.setsid()
    Path(mark).write_text(str(os.getpid()))
    time.sleep(600)
