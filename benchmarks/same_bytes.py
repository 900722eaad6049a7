"""The bytes that a fixed set of small cells of every family predicts: equal before and after a change that
should change nothing.

Run: OMP_NUM_THREADS=1 python benchmarks/same_bytes.py > before.txt; change the code; python
benchmarks/same_bytes.py --against before.txt

A line per cell: the digest of its predictions, the scenario and the strategy; with `--against`, what differs,
and exit code 1 where anything does. Digests are those of one machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from harness.cell.run import CellSettings, learner_seed, run_cell
from harness.cell.sealing import build
from harness.protocol.cells import contenders, protocols
from harness.store.predictions import digest

CELLS = {
    "smoke[gradient_steps=20,items=8]": ("fine-tune", "replay", "ewc", "lwf", "der"),
    "smoke[over=cgcd]": ("happy", "simgcd", "frost", "k-means"),
    "smoke[over=ncd]": ("cr-kd", "uno", "rank-stats"),
    "smoke[over=noisy-labels]": ("elr", "elr-plus", "nested-co-teaching[forget_rate=0.2]", "dividemix"),
    "smoke[over=grokking]": ("grok-adamw", "muon", "stablemax"),
    "smoke[over=anomaly]": ("inp-former", "patchcore", "padim"),
}


def predicted(scenario: str, strategy: str) -> str:
    """Return the digest of a cell's predictions, or what it raised."""
    (protocol,), (contender,) = protocols([scenario]), contenders([strategy])
    world = protocol.scenario
    settings = CellSettings(
        root_seed=learner_seed(0),
        budget=world.budget(),
        needed=world.answers,
        probed=world.probed,
        kept=world.kept,
    )
    learner = contender.plugin.cls(**contender.params)
    with tempfile.TemporaryDirectory() as folder:
        results = run_cell(learner, build(world, 0).episodes, settings, scratch=Path(folder))
        return digest([answer for result in results for answer in result.answers])


def lines() -> Iterator[str]:
    """Yield a line per cell, each learned in a process of its own."""
    for scenario, strategies in CELLS.items():
        for strategy in strategies:
            inward, outward = os.pipe()
            child = os.fork()
            if child == 0:
                torch.set_num_threads(1)
                try:
                    said = predicted(scenario, strategy)
                except Exception as error:
                    said = f"{type(error).__name__}: {error}"
                os.write(outward, said.encode())
                os._exit(0)
            os.close(outward)
            with os.fdopen(inward) as answer:
                said = answer.read()
            os.waitpid(child, 0)
            yield f"{said}  {scenario}  {strategy}"


def main() -> None:
    """Print the digests, or how they differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="what an earlier run printed")
    asked = parser.parse_args()
    before = set(asked.against.read_text().splitlines()) if asked.against else None
    differ = 0
    for line in lines():
        if before is None:
            print(line, flush=True)
        elif line not in before:
            differ += 1
            print(f"differs: {line}", flush=True)
    if before is not None:
        print(f"{differ} of {sum(map(len, CELLS.values()))} cells differ")
    sys.exit(bool(differ))


if __name__ == "__main__":
    main()
