"""How long `owb verify` takes in whole: a strategy that spends a second of the processor on every cell, on the board
class-incremental (four scenarios, five seeds), run, handed in and verified by the commands that people use.

Run, in the checkout: python benchmarks/gate_verify.py [RUNS]
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.cli.new import STRATEGY
from leaderboards.publishing.board import read_header

BOARDS = Path(__file__).parent.parent / "leaderboards" / "boards"
BOARD = "class-incremental"
SECOND = '''

class Slow(Mine):
    """Spend a second of the processor on a cell of five stages."""

    def learn(self, stage: Stage) -> None:
        """Learn, then count until a fifth of a second is gone."""
        super().learn(stage)
        began = time.process_time()
        while time.process_time() - began < 0.2:
            pass
'''
METADATA = "name: Slow\nauthors: [A. Person]\nmethod: nearest mean with patience\nlicence: MIT\n"


def main(runs: int) -> None:
    """Run the cells once, then verify them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = STRATEGY.format(name="mine", cls="Mine").replace(
            "import numpy", "import time\n\nimport numpy", 1
        )
        (folder / "slow.py").write_text(source + SECOND)
        (folder / "slow.yaml").write_text(METADATA)
        scenarios = [word for each in read_header(BOARDS / BOARD).protocols for word in ("-s", each.label)]
        owb(
            folder,
            "run",
            "slow.py:Slow",
            *scenarios,
            "--seeds",
            "5",
            "--no-bounds",
            "--timeout",
            "600",
            "--memory",
            "3072",
        )
        handed_in = (
            "--board",
            BOARD,
            "--metadata",
            "slow.yaml",
            "--root",
            str(BOARDS),
            "--out",
            "submissions/slow",
        )
        owb(folder, "submit", "slow.py:Slow", *handed_in)
        for _ in range(runs):
            began, spent = time.monotonic(), processor()
            said = owb(folder, "verify", "submissions/slow", "--root", str(BOARDS))
            seconds, cpu = time.monotonic() - began, processor() - spent
            fresh = len(re.findall(r"\b\d{19}\b", said))
            print(
                f"{seconds:.0f} s, {cpu:.0f} s of the processor, {fresh} fresh cells: {said.splitlines()[-1]}"
            )


def owb(folder: Path, *words: str) -> str:
    """Call `owb` and return what it says."""
    return subprocess.run(
        [Path(sys.executable).parent / "owb", *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


def processor() -> float:
    """Return the seconds of the processor that ended children took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
