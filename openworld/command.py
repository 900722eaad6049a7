"""Where the command `owb` starts: here, since another distribution may own the name `harness`, and hardly this one.

Nothing of the harness is imported before it is known to be ours.
"""

from __future__ import annotations

import sys
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

HARNESS = "harness"
USER_ERROR = 2


def main() -> None:
    """Run the command line; exit with 2 where its package `harness` is another distribution's."""
    if said := foreign():
        sys.stderr.write(f"error: {said}\n")
        sys.exit(USER_ERROR)
    from harness.cli import main as run

    run()


def foreign() -> str:
    """Return a sentence where the package `harness` that would be imported is not the one beside this; else nothing."""
    own = Path(__file__).resolve().parents[1] / HARNESS
    spec = find_spec(HARNESS)
    if spec is None:
        return f"there is no {own}: install openworld-bench again"
    places = [Path(place).resolve() for place in spec.submodule_search_locations or [spec.origin or ""]]
    if own in places:
        return ""
    owners = sorted({*packages_distributions().get(HARNESS, ())} - {"openworld-bench"})
    return (
        f"{places[0]}{' of ' if owners else ''}{', '.join(owners)} is imported as {HARNESS!r} in place of {own}: "
        "uninstall that, give openworld-bench an environment of its own, or take its folder out of PYTHONPATH"
    )


__all__ = ["foreign", "main"]
