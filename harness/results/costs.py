"""Which costs compare: seconds and memory of cells of one run on one machine. At another hour, or elsewhere,
the same work costs otherwise.

A record says its run and machine (`Record.session`). Cells of boards from before it did are taken together
where their entries say the same
of the machine: enough to show their costs in a column, not to take differences.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.store.record import Record

NOT_COMPARABLE = "not comparable"


def where_measured(record: Record) -> str:
    """Return what the costs of a record were measured in."""
    return record.session or record.environment


def common(records: Iterable[Record]) -> str:
    """Return what the costs of most records were measured in."""
    return most_of(
        [
            where_measured(record)
            for record in records
            if math.isfinite(record.seconds) or math.isfinite(record.peak_mib)
        ]
    )


def most_of(places: Sequence[str]) -> str:
    """Return what is there most often, of equals the one that comes last; empty where there is nothing.

    >>> most_of(["a", "b", "b", "a", "c"])
    'a'
    """
    counts = Counter(places)
    return max(reversed(places), key=lambda place: counts[place], default="")


__all__ = ["NOT_COMPARABLE", "common", "most_of", "where_measured"]
