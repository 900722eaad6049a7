"""How far figures of honest strategies fall where the gate renames classes and changes images a little.

Every baseline of the committed boards that takes no longer than SECONDS a cell learns deals of its scenarios as they are
and changed (`leaderboards.gate.by_heart`), under ids and streams of fresh seeds. A row is a strategy on a scenario: the
pairs, the mean and the largest fall of its primary figure, and how often it falls by more than `MAY_FALL`: in all,
and beyond the two rivals that the gate takes, on the same pair. What counts is the last column: at a half a
strategy is refused as rarely as the gate states; `bound` is the mean over all rows to the power of the changes in a row.

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
from leaderboards.gate.by_heart import MAY_FALL, RIVALS, changed
from leaderboards.gate.runner import height
from leaderboards.publishing.board import Entry, read_board

BOARDS = Path(__file__).parent.parent / "leaderboards" / "boards"
NAMES = ("class-incremental", "noisy-labels", "noisy-stream", "ncd", "anomaly", "grokking-ci")
FRESH = 1 << 62


def main(pairs: int, seconds: float, names: Sequence[str]) -> None:
    """Print a row for every strategy on every scenario."""
    print(f"{'scenario':<52} {'strategy':<28} pairs   mean  largest  > {MAY_FALL:g}  beyond rivals")
    beyond: list[float] = []
    for name in names:
        board = read_board(BOARDS / name)
        for protocol in board.header.protocols:
            scenario = protocol.scenario()
            bounds = (protocol.lower_bound, protocol.upper_bound)
            cost = {entry.label: _seconds(entry, protocol.label) for entry in board.entries}
            entries = sorted(board.entries, key=lambda entry: cost[entry.label])
            falls = {
                entry.label: np.array([_fall(scenario, entry, reveal=entry.strategy == bounds[1], pair=pair) for pair in range(pairs)])
                for entry in entries
                if cost[entry.label] <= seconds
            }
            for entry in entries:
                if entry.label not in falls: continue
                own = falls[entry.label]
                rivals = [e.label for e in entries if e.strategy not in (*bounds, entry.strategy)][:RIVALS]
                allowed = np.maximum(0, np.max([falls[label] for label in rivals if label in falls] or [own * 0], axis=0))
                beyond.append(float((own > MAY_FALL + allowed).mean()))
                print(
                    f"{protocol.label:<52.52} {entry.label:<28.28} {pairs:5} {own.mean():6.3f} {own.max():8.3f} "
                    f"{(own > MAY_FALL).mean():6.2f} {beyond[-1]:14.2f}",
                    flush=True,
                )
    print(f"{len(beyond)} rows: beyond rivals {np.mean(beyond):.3f} on average, {max(beyond):.2f} at most")


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
