"""Draw discovery.png from the committed board: python docs/pictures/discovery.py"""

from __future__ import annotations

from pathlib import Path

from harness.cell.sealing import build
from harness.selection import configured
from harness.store import line_plots
from harness.store.predictions import read_answers
from leaderboards.publishing.board import predictions_file, read_board

ROOT = Path(__file__).parents[2]
TRACK = "cgcd[preset=clinc150]"
SHOWN = {"simgcd": "SimGCD continued", "happy": "Happy", "joint-discovery": "all labels (upper bound)"}


def main() -> None:
    """Write the picture: all, old and new classes after every stage, seed 0."""
    folder = ROOT / "leaderboards" / "boards" / "cgcd"
    scenario = configured("scenario", TRACK)
    truth = build(scenario, 0).truth
    entries = {entry.label: entry for entry in read_board(folder).entries}
    runs = []
    for label in SHOWN:
        cell = next(cell for cell in entries[label].cells if (cell.scenario, cell.seed) == (TRACK, 0))
        stages = dict(
            scenario.score(truth, read_answers(folder / predictions_file(entries[label], cell))).per_stage
        )
        runs.append({**stages, "new": [float("nan"), *stages["new"][1:]]})
    picture = line_plots.stage_lines(runs, list(SHOWN.values()), title="", names=["all", "old", "new"])
    picture.savefig(Path(__file__).with_suffix(".png"), dpi=90)


if __name__ == "__main__":
    main()
