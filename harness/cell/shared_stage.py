"""The state after a stage, kept on disk for all cells that share it: the first one to come learns the stage,
the others begin from there.

Who shares what is said by `harness.protocol.stage_sharing`. Answers are every cell's own; since every stage
starts from seeds of its own, the bytes are those of unshared runs. A state that is damaged, or that a cell
cannot take over, is dropped, and the stage is learned again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness import checkpoint


def compute_once(
    path: Path,
    learn: Callable[[], Mapping[str, Any]],
    adopt: Callable[[Mapping[str, Any]], None],
    *,
    session: str,
) -> tuple[float, str]:
    """Learn a stage, or adopt the state that another cell was in after it; return the seconds that the other
    one spent and its session.

    If it was learned here, these are 0 and the `session` given.

    Args:
        path: where the state is kept; one process at a time works on it.
        learn: learns the stage and returns the state after it.
        adopt: takes over that state; where it raises, the cell is as it was before.
        session: where it is learned, if it is; empty where nobody says.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock_on(path):
        if path.is_file():
            try:
                kept = checkpoint.load(path)
                adopt(kept["state"])
                return float(kept["learn_s"]), str(kept["session"])
            except Exception as error:
                checkpoint.drop([path], error, instead="the stage is learned again")
        started = time.perf_counter()
        state = learn()
        checkpoint.save(path, {"state": state, "learn_s": time.perf_counter() - started, "session": session})
        return 0.0, session


def is_in_hand(path: Path) -> bool:
    """Say whether a cell, of this run or another, is at work on a state."""
    if not path.parent.is_dir():
        return False
    try:
        with _lock_on(path).acquire(timeout=0):
            return False
    except Timeout:
        return True


def _lock_on(path: Path) -> FileLock:
    return FileLock(path.with_suffix(".lock"))
