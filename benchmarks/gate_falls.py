"""How far figures of honest strategies fall where the gate renames classes and changes images a little: the table
gate_falls.csv, from which `gate_statistics.py` takes how often they are refused.

Every baseline of the committed boards, upper bounds apart, that takes no longer than SECONDS a cell learns deals of
its scenarios as they are and changed (`leaderboards.gate.by_heart`), under ids and streams of fresh seeds. A row is a
strategy on a scenario and by how much its primary figure falls in each of PAIRS pairs.

Run, in the checkout: OMP_NUM_THREADS=1 python benchmarks/gate_falls.py PAIRS SECONDS [BOARD ...] > falls.csv
"""

from __future__ import annotations

import csv
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.cell.run import run_cell, settings_of
from harness.cell.sealing import seal
from harness.contracts import Scenario, Status
from harness.plugins import find
from leaderboards.gate.by_heart import changed
from leaderboards.gate.runner import height
from leaderboards.publishing.board import Entry, read_board

BOARDS = Path(__file__).parent.parent / "leaderboards" / "boards"
NAMES = ("class-incremental", "noisy-labels", "noisy-stream", "ncd", "cgcd", "anomaly", "grokking-ci")
FRESH = 1 << 62


def main(pairs: int, seconds: float, names: Sequence[str]) -> None:
    """Print a row for every strategy on every scenario."""
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(["board", "scenario", "strategy", *("fall" for _ in range(pairs))])
    for name in names:
        board = read_board(BOARDS / name)
        for protocol in board.header.protocols:
            scenario = protocol.scenario()
            for entry in sorted(board.entries, key=lambda entry: _seconds(entry, protocol.label)):
                if entry.strategy != protocol.upper_bound and _seconds(entry, protocol.label) <= seconds:
                    falls = [_fall(scenario, entry, pair) for pair in range(pairs)]
                    rows.writerow([name, protocol.label, entry.label, *(f"{fall:.4f}" for fall in falls)])


def _seconds(entry: Entry, label: str) -> float:
    cells = [cell.seconds for cell in entry.cells if cell.scenario == label and cell.status is Status.DONE]
    return float(np.mean([math.inf if each is None else each for each in cells])) if cells else math.inf


def _fall(scenario: Scenario, entry: Entry, pair: int) -> float:
    """Return by how much the primary figure falls on one deal, under ids and streams of a fresh seed."""
    fresh = FRESH + 1000 * pair
    episodes, truth = seal(scenario.deal(pair % 5), fresh)
    other = changed(episodes, np.random.default_rng(fresh))
    assert other is not None
    cls, primary = find("strategy", entry.strategy).cls, scenario.metrics[0]
    reached = []
    for given, read in ((episodes, list), (other.episodes, other.read)):
        with tempfile.TemporaryDirectory() as folder:
            settings = settings_of(scenario, fresh)
            answers = [
                answer
                for result in run_cell(cls(**entry.params), given, settings, scratch=Path(folder))
                for answer in result.answers
            ]
        reached.append(height(primary, scenario.score(truth, read(answers)).final[primary.name]))
    return reached[0] - reached[1]


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:] or NAMES)
