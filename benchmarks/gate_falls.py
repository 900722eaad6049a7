"""How far figures of honest strategies fall where the gate renames classes and changes images a little.

Every baseline of the committed boards that takes no longer than SECONDS a cell learns deals of its scenarios as they
are and changed (`leaderboards.gate.by_heart`), under ids and streams of fresh seeds. A row is a strategy on a
scenario: the pairs, the mean and the largest fall of its primary figure, and the share of pairs in which it falls by
more than `MAY_FALL`. The gate needs that share to be at most a half.

Run, in the checkout: OMP_NUM_THREADS=1 python benchmarks/gate_falls.py PAIRS SECONDS [BOARD ...]
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.cell.run import run_cell, settings_of
from harness.cell.sealing import fully_labelled, seal
from harness.contracts import Scenario, Status
from harness.plugins import find
from leaderboards.gate.by_heart import MAY_FALL, changed
from leaderboards.gate.runner import height
from leaderboards.publishing.board import Entry, read_board

BOARDS = Path(__file__).parent.parent / "leaderboards" / "boards"
NAMES = ("class-incremental", "noisy-labels", "noisy-stream", "ncd", "cgcd", "anomaly", "grokking-ci")
FRESH = 1 << 62


def main(pairs: int, seconds: float, names: Sequence[str]) -> None:
    """Print a row for every strategy on every scenario, and what they have in common."""
    print(f"{'scenario':<52} {'strategy':<28} pairs   mean  largest  > {MAY_FALL:g}")
    shares: list[float] = []
    for name in names:
        board = read_board(BOARDS / name)
        for protocol in board.header.protocols:
            scenario = protocol.scenario()
            for entry in board.entries:
                if _seconds(entry, protocol.label) > seconds:
                    continue
                reveal = entry.strategy == protocol.upper_bound
                falls = np.array([_fall(scenario, entry, reveal=reveal, pair=pair) for pair in range(pairs)])
                shares.append(float((falls > MAY_FALL).mean()))
                print(
                    f"{protocol.label:<52.52} {entry.label:<28.28} {pairs:5} {falls.mean():6.3f} {falls.max():8.3f} "
                    f"{shares[-1]:6.2f}",
                    flush=True,
                )
    print(
        f"{len(shares)} rows: beyond {MAY_FALL:g} {np.mean(shares):.3f} on average, {max(shares):.2f} at most"
    )


def _seconds(entry: Entry, label: str) -> float:
    cells = [cell.seconds for cell in entry.cells if cell.scenario == label and cell.status is Status.DONE]
    return math.inf if None in cells or not cells else float(np.mean([c for c in cells if c is not None]))


def _fall(scenario: Scenario, entry: Entry, *, reveal: bool, pair: int) -> float:
    """Return by how much the primary figure falls on one deal, under ids and streams of a fresh seed."""
    fresh = FRESH + 1000 * pair
    deal = scenario.deal(pair % 5)
    episodes, truth = seal(deal, fresh)
    if reveal:
        episodes = seal(fully_labelled(deal), fresh).episodes
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
