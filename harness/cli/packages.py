"""Whether the packages of this program are its own: another distribution may bring one of the same name, such as
`strategies`, into the same environment.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

from harness.code.imports import OURS

DISTRIBUTION = "openworld-bench"
NAMES = (*OURS, "leaderboards")
_HOME = Path(__file__).resolve().parents[2]
_ADVICE = f"uninstall that, or give {DISTRIBUTION} an environment of its own"


def foreign() -> list[str]:
    """Return a sentence for every package that is found elsewhere than this program lies."""
    said = []
    for name in NAMES:
        spec = importlib.util.find_spec(name)
        place = Path(spec.origin).resolve().parent if spec and spec.origin else None
        if place is not None and place != _HOME / name:
            owners = f" of {', '.join(others(name))}" if others(name) else ""
            said.append(
                f"{place}{owners} is imported as {name!r} in place of {_HOME / name}: {_ADVICE}, or take its "
                "folder out of PYTHONPATH"
            )
    return said


def shared() -> list[str]:
    """Return a sentence for every package that another distribution installs too, over the same files."""
    return [
        f"{', '.join(others(name))} also installs a package {name!r}, over the same files: {_ADVICE}"
        for name in NAMES
        if others(name)
    ]


def others(name: str) -> list[str]:
    """Return the other distributions that install a package of this name."""
    found = importlib.metadata.packages_distributions().get(name, [])
    return sorted({each for each in found if each != DISTRIBUTION})


__all__ = ["DISTRIBUTION", "NAMES", "foreign", "shared"]
