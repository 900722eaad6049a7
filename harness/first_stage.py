"""Stage 0 trained once for all cells that share it: the first one keeps the state, the others begin from there.

Who shares is said by `protocol.Cell.first_stage_key`. Answers after stage 0 are every cell's own; since every stage starts from seeds of
its own, the bytes are those of unshared runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from harness import checkpoint
from harness.contracts import Strategy


def learn_once(strategy: Strategy, learn: Callable[[], None], path: Path) -> float:
    """Bring `strategy` into the state after stage 0; return the seconds that another cell spent on it, 0 where it is learnt here.

    Args:
        strategy: started, nothing learnt.
        learn: learns stage 0.
        path: where the state is kept; one process at a time works on it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if path.is_file():
            kept = checkpoint.load(path)
            strategy.load_state(kept["state"])
            return float(kept["learn_s"])
        started = time.perf_counter()
        learn()
        checkpoint.save(path, {"state": strategy.state(), "learn_s": time.perf_counter() - started})
        return 0.0
