"""What the driver tells a worker, and what workers tell the driver: plain values that travel between
processes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cell.looks import Looks
from harness.cell.run import CellSettings, StageResult
from harness.contracts import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a worker is told of a cell: nothing of the truth, and a root seed from which no data stream can be
    rebuilt.

    ahead: modules to be loaded before the cell's process begins (`Strategy.loaded_ahead`).
    components: what `params` name of them.
    code: digest of the strategy that the cell was planned with; empty where nobody compares.
    lent_code: digests of the code of others that the cell was planned with, networks and components by path among it.
    looks: what is looked at for probes, None where nothing is.
    """

    key: str
    strategy: str
    source: str | None
    params: Mapping[str, Any]
    settings: CellSettings
    keep: Path
    shared: Sequence[Path | None]
    timeout_s: float
    memory_mib: float
    ahead: tuple[str, ...] = ()
    components: tuple[str, ...] = ()
    code: str = ""
    lent_code: tuple[str, ...] = ()
    looks: Looks | None = None

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The cells it stands for: itself."""
        return (self,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """Cells that a worker learns at once. It may take as long as its cells one after another, and as much
    memory as one of them.
    """

    key: str
    jobs: tuple[Job, ...]
    keep: Path

    @property
    def timeout_s(self) -> float:
        """The sum of its cells' limits."""
        return sum(job.timeout_s for job in self.jobs)

    @property
    def memory_mib(self) -> float:
        """The limit of any one of its cells."""
        return max(job.memory_mib for job in self.jobs)


Task = Job | Pack

Episodes = str | Sequence[tuple[Any, Any]]
"""The stages and queries of a cell: a file that processes of this machine map, or object references, one pair
per stage.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A worker took up a cell. session: under which name its cost is measured (`sessions.session_here`)."""

    key: str
    session: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """How far a cell is."""

    key: str
    stage: int
    step: int
    total: int
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageEnded:
    """A cell finished a stage; `result` holds its predictions."""

    key: str
    result: StageResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """A worker is well, though what it runs has said nothing for a while."""


Event = Started | Progressed | StageEnded


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a task ended. peak_mib: the most memory its processes used at once.  lost: it died of something
    other than a limit, so that a retry can help.  elsewhere: what died was no process of its own, so that
    this counts as no attempt.  no_disk: why nothing can be written where it ran, empty where it can.
    """

    status: Status
    reason: str
    seconds: float
    log_tail: str
    peak_mib: float = math.nan
    lost: bool = False
    elsewhere: bool = False
    no_disk: str = ""
