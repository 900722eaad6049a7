"""What a cell of many stages of two classes costs the driver: memory, scoring beside learning, pictures.

Scoring answer by answer and scoring from scratch after every stage are measured one after the other over the
same stored answers, in CPU time; learning is what the record says. Driver, scoring and pictures have a
process each, so that a peak of memory is that of one.

Run: python benchmarks/many_stages.py [--stages 500] [--strategy replay]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from harness import seeds
from harness.cell.sealing import build
from harness.contracts import Deal, DealtStage, Scores, Status, StoredPrediction, scorer_of
from harness.execution.execute import Limits, execute, plan
from harness.execution.machine import Machine
from harness.protocol.cells import cells, contenders, protocols
from harness.store import plots
from harness.store.mlflow_store import Store
from scenarios.class_incremental.scenario import ClassIncremental

TRAIN, TEST, DIMENSIONS = 20, 5, 32


class Many(ClassIncremental):
    """Gaussians, two of which arrive in every stage; all are asked after every stage."""

    stages: int = 500

    def deal(self, seed: int) -> Deal:
        """Deal the items."""
        rng = seeds.stream("items", seed=seed)
        classes = 2 * self.stages
        labels = np.repeat(np.arange(classes), TRAIN + TEST)
        inputs = (
            rng.normal(size=(classes, DIMENSIONS))[labels] + 0.3 * rng.normal(size=(len(labels), DIMENSIONS))
        ).astype(np.float32)
        is_test, arrival = np.arange(len(labels)) % (TRAIN + TEST) >= TRAIN, labels // 2
        query, rows = (
            np.flatnonzero(is_test),
            [np.flatnonzero(~is_test & (arrival == stage)) for stage in range(self.stages)],
        )
        stages = [
            DealtStage(
                rows=own, observed_labels=labels[own], query=query, named_classes=2 * stage + 2, new_classes=2
            )
            for stage, own in enumerate(rows)
        ]
        return Deal(inputs=inputs, labels=labels, facts={"stage": arrival}, stages=stages)


def drive(stages: int, strategy: str, folder: str) -> None:
    """Run the cell as `owb run` does."""
    todo = cells(protocols([f"{__file__}:Many[stages={stages}]"]), contenders([strategy]), 1)
    store = Store(folder)
    (record,) = execute(
        plan(todo, store), store, experiment="many", machine=Machine(workers=2), limits=Limits(timeout_s=1e5)
    )
    assert record.status is Status.DONE, record.reason
    print(
        f"{stages} stages, {strategy}: {record.seconds:.0f} s in the worker, of which learning "
        f"{record.learn_s:.1f} s, predicting "
        f"{record.predict_s:.1f} s; driver's largest memory {_peak_mib():.0f} MiB"
    )


def score(stages: int, folder: str) -> None:
    """Score after every stage in both ways; check that they agree."""
    store = Store(folder)
    (record,) = store.records("many")
    scenario, answers = Many(stages=stages), store.answers(record)
    truth = build(scenario, 0).truth
    scorer, given = scorer_of(scenario, truth), list[StoredPrediction]()

    def by_answer(answer: StoredPrediction) -> Scores:
        scorer.add(answer)
        return scorer.scores()

    def from_scratch(answer: StoredPrediction) -> Scores:
        given.append(answer)
        return scenario.score(truth, given)

    (taken, last), (anew_s, anew) = _timed(by_answer, answers), _timed(from_scratch, answers)
    assert last.final == anew.final
    print(
        f"scoring {taken:.2f} s of CPU, {100 * taken / record.learn_s:.1f} % of learning; from scratch "
        f"after every stage {anew_s:.2f} s "
        f"({100 * anew_s / record.learn_s:.0f} %): {anew_s / taken:.0f} x"
    )


def draw(stages: int, folder: str) -> None:
    """Draw the pictures of the cell."""
    store = Store(folder)
    (record,) = store.records("many")
    scenario = Many(stages=stages)
    scores = scenario.score(build(scenario, 0).truth, store.answers(record))
    before = _peak_mib()
    made = plots.draw(scores, Path(folder), title="many stages")
    from PIL import Image

    for path in made:
        with Image.open(path) as image:
            print(f"{path.name}: {image.size[0]} x {image.size[1]} pixels")
    print(f"drawing takes {_peak_mib() - before:.0f} MiB beyond what scoring took")


def _timed(
    scored: Callable[[StoredPrediction], Scores], answers: list[StoredPrediction]
) -> tuple[float, Scores]:
    started = time.process_time()
    for answer in answers:
        scores = scored(answer)
    return time.process_time() - started, scores


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stages", type=int, default=500)
    parser.add_argument("--strategy", default="replay")
    parser.add_argument(
        "--part",
        help="of the measurement, in a store of its own: drive, score or draw",
        nargs=2,
        metavar=("PART", "STORE"),
    )
    said = parser.parse_args()
    if said.part:
        part, store = said.part
        {
            "drive": lambda: drive(said.stages, said.strategy, store),
            "score": lambda: score(said.stages, store),
            "draw": lambda: draw(said.stages, store),
        }[part]()
    else:
        with tempfile.TemporaryDirectory() as folder:
            for part in ("drive", "score", "draw"):
                asked = ["--stages", str(said.stages), "--strategy", said.strategy, "--part", part, folder]
                subprocess.run([sys.executable, __file__, *asked], check=True)
