"""Curves of a board's runs at chosen steps, from its predictions: what tables in docs/grokking.md say of
moments before the end.

Run: python benchmarks/curve_points.py BOARD CURVE,CURVE STEP,STEP [PART_OF_A_LABEL]
     python benchmarks/curve_points.py grokking-numerics softmax_collapse,zero_loss_fraction
     1000,1500,4000,5500 grok-adamw python benchmarks/curve_points.py grokking-paper train,test,memorised
     500,700 grok-adamw
"""

from __future__ import annotations

import sys
from pathlib import Path

from harness.cell.sealing import build
from harness.selection import configured
from harness.store.predictions import read_answers
from leaderboards.publishing.board import predictions_file, read_board

BOARDS = Path(__file__).parents[1] / "leaderboards" / "boards"


def main() -> None:
    """Print one line per run: every curve, in per cent, at every step that was looked at."""
    board, curves, steps, *part = sys.argv[1:]
    folder = BOARDS / board
    for entry in read_board(folder).entries:
        for cell in entry.done if not part or part[0] in entry.label else ():
            scenario = configured("scenario", cell.scenario)
            probes = scenario.score(
                build(scenario, cell.seed).truth, read_answers(folder / predictions_file(entry, cell))
            ).probes
            said = []
            for name in curves.split(","):
                at = {step: value for _, step, value in probes[name]}
                said.append(
                    f"{name} "
                    + ", ".join(
                        f"{100 * at[int(step)]:.1f} at {step}" for step in steps.split(",") if int(step) in at
                    )
                )
            print(f"{cell.scenario} | {entry.label} | seed {cell.seed}: {'; '.join(said)}")


if __name__ == "__main__":
    main()
