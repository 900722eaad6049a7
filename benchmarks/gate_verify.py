"""How long `owb verify` takes in whole: a strategy that spends a second of the processor on every cell, on the board
class-incremental (four scenarios, five seeds), run, handed in and verified by the commands that people use.

Run, in the checkout: python benchmarks/gate_verify.py [RUNS]
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from harness.cli.scaffolds import STRATEGY
from leaderboards.publishing.board import read_header

BOARDS = Path(__file__).parent.parent / "leaderboards" / "boards"
OWB = Path(sys.executable).parent / "owb"
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
            began = time.monotonic()
            said, cpu = watched(folder, "verify", "submissions/slow", "--root", str(BOARDS))
            if "Passed" not in said:
                sys.exit(said)
            seconds, fresh = time.monotonic() - began, len(re.findall(r"\b\d{19}\b", said))
            print(
                f"{seconds:.0f} s, {cpu:.0f} s of the processor, {fresh} fresh cells: {said.splitlines()[-1]}",
                flush=True,
            )


def owb(folder: Path, *words: str) -> None:
    """Call `owb`."""
    subprocess.run([OWB, *words], cwd=folder, check=True, capture_output=True)


def watched(folder: Path, *words: str) -> tuple[str, float]:
    """Call `owb`; return what it says, and the seconds of the processor that it and all below it took."""
    used: dict[tuple[int, float], float] = {}
    with (folder / "said.txt").open("w+") as said:
        called = psutil.Popen([OWB, *words], cwd=folder, stdout=said)
        while called.poll() is None:
            for process in [called, *called.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    times = process.cpu_times()
                    used[process.pid, process.create_time()] = times.user + times.system
            time.sleep(0.05)
        said.seek(0)
        return said.read(), sum(used.values())


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
