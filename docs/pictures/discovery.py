"""Draw discovery.svg from the committed board: python docs/pictures/discovery.py"""

from __future__ import annotations

from drawing import save, scores_of

from harness.store import line_plots

TRACK = "cgcd[preset=clinc150]"
SHOWN = {"simgcd": "SimGCD continued", "happy": "Happy", "joint-discovery": "all labels (upper bound)"}


def main() -> None:
    """Write the picture: all, old and new classes after every stage, seed 0."""
    runs = []
    for label in SHOWN:
        stages = dict(scores_of("cgcd", label, scenario=TRACK).per_stage)
        runs.append({**stages, "new": [float("nan"), *stages["new"][1:]]})
    save(
        line_plots.stage_lines(runs, list(SHOWN.values()), title="", names=["all", "old", "new"]), "discovery"
    )


if __name__ == "__main__":
    main()
