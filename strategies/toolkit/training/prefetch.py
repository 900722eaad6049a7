"""Batches read ahead: while one is computed with, a thread fetches the next ones from disk.

The thread moves bytes and decides nothing. Which items come in which batch, and how they are changed, is
drawn elsewhere; so results do not depend on how far it runs ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

from torch import Tensor

from strategies.toolkit.training.lazy_tensor import Stored, numbers

AHEAD = 2
"""Batches that are fetched while one is computed with."""


def in_turn(
    inputs: Tensor, batches: Sequence[Tensor], *, ahead: int = AHEAD
) -> Generator[Tensor, None, None]:
    """Yield `inputs[rows]` (B, ...) for the int64 rows (B,) of every batch.

    Close it (`contextlib.closing`) where not all batches may be taken: that ends the thread.

    Args:
        inputs: (N, ...). Only where they are still to be read, and not from memory, a thread is needed.
        batches: rows of every batch.
        ahead: how many batches the thread may be ahead, and hold in memory; 0 for no thread.

    Raises:
        Exception: whatever reading raises, when the batch that it concerns is due.
    """
    if not isinstance(inputs, Stored):
        yield from (inputs[rows] for rows in batches)
        return
    orders = [rows.cpu() for rows in batches]
    if inputs.source.in_memory or not ahead:
        yield from (numbers(inputs.raw(rows), inputs.device) for rows in orders)
        return
    with closing(_fetched(inputs, orders, ahead)) as fetched:
        yield from (numbers(raw, inputs.device) for raw in fetched)


def _fetched(inputs: Stored, batches: Sequence[Tensor], ahead: int) -> Generator[Tensor, None, None]:
    pinned = inputs.device.type == "cuda"

    def fetch(rows: Tensor) -> Tensor:
        raw = inputs.raw(rows)
        return raw.pin_memory() if pinned else raw

    waiting: deque[Future[Tensor]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
        try:
            for rows in batches:
                waiting.append(thread.submit(fetch, rows))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
