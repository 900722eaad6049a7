"""What a container or a batch system leaves this process: limits of its control groups on cores and memory
(Linux, version 1 and 2).

A limit may be set on any group above the process's own, so all of them are read and the smallest counts.
Within a container the path that /proc tells may not exist, for the mounted tree begins at the container's own
group; then the root of the tree is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_NONE = 1 << 60
"""Version 1 has no word for "no limit" and states the largest page-aligned number instead."""


def cores(root: Path = Path("/")) -> float | None:
    """Return how many cores' time this process may use; None where there is no limit. `root`: of the file
    system.
    """
    found = []
    for group in _groups(root, "cpu"):
        quota, period = (_read(group / "cpu.max").split() or ["max", ""])[:2]
        if quota == "max":
            quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal():
            found.append(int(quota) / int(period))
    return min(found, default=None)


def memory_mib(root: Path = Path("/")) -> float | None:
    """Return how much memory this process and its siblings may use together, in MiB; None where there is no
    limit.
    """
    stated = [
        _read(group / name)
        for group in _groups(root, "memory")
        for name in ("memory.max", "memory.limit_in_bytes")
    ]
    found = [int(text) for text in stated if text.isdecimal() and int(text) < _NONE]
    return min(found) / 2**20 if found else None


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the group of this process and those above it, of version 2 and of the controller of version 1."""
    tree = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" or controller in controllers.split(","):
            mounts = [tree] if number == "0" else [tree / controllers, tree / controller]
            mount = next((place for place in mounts if place.is_dir()), mounts[-1])
            own = mount / path.strip("/")
            yield from (place for place in (own, *own.parents) if place.is_relative_to(mount))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
