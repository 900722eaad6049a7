"""How long the command line takes to answer: list, help, and a demo in which every cell is cached.

Run: python benchmarks/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 7


def timed(*args: str) -> float:
    """Return the seconds that one call takes, process start included."""
    owb = Path(sys.executable).parent / "owb"
    started = time.perf_counter()
    subprocess.run([owb, *args], capture_output=True, check=True)
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as store:
        first = timed("demo", "--store", store)
        print(f"{'owb demo, nothing cached':<26} {first:.1f} s (once)")
        for args in (["--help"], ["list"], ["demo", "--store", store]):
            seconds = [timed(*args) for _ in range(ROUNDS)]
            name = "owb demo, all cached" if args[0] == "demo" else f"owb {args[0]}"
            print(
                f"{name:<26} {statistics.median(seconds):.2f} s (median of {ROUNDS}; {min(seconds):.2f} to "
                f"{max(seconds):.2f})"
            )


if __name__ == "__main__":
    main()
