"""Figures of a run for Prometheus, through Ray's own exporter: every node of a cluster with `ray[default]` offers them,
those of a run on the node of its driver. Where nobody offers them, nothing is measured.
"""

from __future__ import annotations

from typing import Any

from harness.contracts import Status

STAGE_S = (1.0, 10.0, 60.0, 600.0, 3600.0)
"""Bounds of the classes in which the times of stages are counted, in seconds."""


class Meters:
    """What a run tells whoever scrapes the metrics of its cluster. Ray has to run already."""

    def __init__(self) -> None:
        self._cells: Any = None
        if not _are_exported():
            return
        from ray.util.metrics import Counter, Gauge, Histogram

        self._cells = Gauge("owb_cells", "Cells that are waiting or running.", tag_keys=("state",))
        self._ended = Counter("owb_cells_ended", "Cells that have ended.", tag_keys=("status",))
        self._lost = Counter("owb_workers_lost", "Workers that died with what they ran.")
        self._stages = Histogram(
            "owb_stage_seconds", "Seconds that learning a stage took.", boundaries=list(STAGE_S)
        )

    def stand(self, *, waiting: int, running: int) -> None:
        """Tell how many cells wait and run."""
        if self._cells:
            self._cells.set(waiting, tags={"state": "waiting"})
            self._cells.set(running, tags={"state": "running"})

    def end(self, status: Status) -> None:
        """Tell that a cell has ended."""
        if self._cells:
            self._ended.inc(tags={"status": status.value})

    def lose(self) -> None:
        """Tell that a worker was lost."""
        if self._cells:
            self._lost.inc()

    def learn(self, seconds: float) -> None:
        """Tell that a stage was learned, and how long it took."""
        if self._cells:
            self._stages.observe(seconds)


def _are_exported() -> bool:
    """Say whether the node that this driver is on offers metrics, which takes what `ray[default]` installs."""
    from ray._private.utils import get_dashboard_dependency_error

    return get_dashboard_dependency_error() is None


__all__ = ["STAGE_S", "Meters"]
