"""Whether the packages of this program are its own: another distribution may bring one of the same name, such as
`strategies`, into the same environment.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Sequence
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
            others = others_with([name])[name]
            owners = f" of {', '.join(others)}" if others else ""
            said.append(
                f"{place}{owners} is imported as {name!r} in place of {_HOME / name}: {_ADVICE}, or take its "
                "folder out of PYTHONPATH"
            )
    return said


def shared() -> list[str]:
    """Return a sentence for every package that another distribution installs too, over the same files."""
    return [
        f"{', '.join(others)} also installs a package {name!r}, over the same files: {_ADVICE}"
        for name, others in others_with(NAMES).items()
        if others
    ]


def others_with(names: Sequence[str]) -> dict[str, list[str]]:
    """Return for each name the other distributions that install a package of it, as their lists of files say."""
    line = re.compile(rf"^({'|'.join(names)})(?:/|$)", re.MULTILINE)
    found: dict[str, set[str]] = {name: set() for name in names}
    for distribution in importlib.metadata.distributions():
        files = "\n".join(distribution.read_text(file) or "" for file in ("top_level.txt", "RECORD"))
        for name in {match[1] for match in line.finditer(files)}:
            found[name].add(distribution.metadata["Name"])
    return {name: sorted(owners - {DISTRIBUTION}) for name, owners in found.items()}


__all__ = ["DISTRIBUTION", "NAMES", "foreign", "others_with", "shared"]
