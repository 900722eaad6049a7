"""A strategy that tries something before it learns as an honest one does, run in a sandbox of its own."""

from __future__ import annotations

from harness import sandbox
from harness.cell.run import CellSettings, learner_seed
from harness.cell.sealing import build
from harness.sandbox.wire import Task
from harness.selection import configured

SCENARIO = configured("scenario", "class-incremental[dataset=digits,stages=2,epochs=1]")
EPISODES = build(SCENARIO, 0).episodes
SETTINGS = CellSettings(root_seed=learner_seed(0), budget=SCENARIO.budget(), needed=SCENARIO.answers)
SOURCE = """
import ctypes, gc, io, os, socket, subprocess, sys, time
import numpy as np
from pathlib import Path
from harness.contracts import Prediction, Strategy

class Tries(Strategy):
    def setup(self):
        self.means = {}

    def learn(self, stage):
        try:
            self.attack(stage)
        except (Exception, SystemExit) as error:
            self.error = error
        for label in np.unique(stage.labels):
            self.means[int(label)] = stage.inputs[np.flatnonzero(stage.labels == label)].mean(axis=0)

    def predict(self, query):
        inputs = query.inputs[np.arange(len(query.ids))]
        far = [abs(inputs - mean).reshape(len(inputs), -1).sum(axis=1) for mean in self.means.values()]
        return Prediction(classes=np.array(list(self.means))[np.argmin(far, axis=0)])

    def attack(self, stage):
"""
SILENCED = """
for thing in gc.get_objects():
    if type(thing).__name__ == "function" and thing.__qualname__ == "arm.<locals>.hook":
        thing.__closure__[thing.__code__.co_freevars.index("busy")].cell_contents.append(1)
"""
"""Walk the garbage collector to the audit hook and have it believe that it is busy: it says nothing any more."""


def source_of(attack: str) -> str:
    """Return the source of a strategy that tries this in `learn`."""
    return SOURCE + "".join(f"        {line}\n" for line in attack.strip().splitlines())


def run_source(
    source: str, bounds: sandbox.Bounds, *, name: str = "Tries", threads: int = 1
) -> sandbox.Result:
    """Run a cell of the class `name` of a source."""
    task = Task(
        kind="cell", strategy=f"tries.py:{name}", source=source, params={}, settings=SETTINGS, threads=threads
    )
    return sandbox.run(task, EPISODES, bounds)


def run_attack(
    attack: str = "pass",
    *,
    bounds: sandbox.Bounds = sandbox.Bounds(timeout_s=60),  # noqa: B008  (frozen)
) -> sandbox.Result:
    """Run a cell of a strategy that tries this."""
    return run_source(source_of(attack), bounds)
