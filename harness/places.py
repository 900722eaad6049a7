"""Where files lie that a person names, and where prepared data is kept.

`~` is the user's folder and `~NAME` that of another, in every parameter, option and environment variable that
is a path: a shell expands it in few of these. A path of data is relative to OWB_DATA where that is set.
"""

from __future__ import annotations

import os
from pathlib import Path

from harness.errors import UserError

_NOWHERE = Path(os.devnull)
"""The home folder of a user who has none: nothing can be made below it."""


def written(path: str | Path) -> Path:
    """Return the path that a person wrote, with `~` at its start expanded.

    Raises:
        UserError: nobody knows whose folder that is.
    """
    named = Path(path)
    try:
        found = named.expanduser()
    except RuntimeError:  # no HOME and no entry in the user data base, or no user of that name
        found = _NOWHERE
    if found != named and found.is_relative_to(_NOWHERE):
        raise UserError(
            f"no home folder is known for {named.parts[0]} of {str(path)!r}: say the whole path, or set HOME"
        )
    return found


def data_folder() -> Path | None:
    """Return the folder above the data sets, `OWB_DATA`; None where it is not set."""
    folder = os.environ.get("OWB_DATA")
    return written(folder) if folder else None


def below_data(path: str | Path) -> Path:
    """Return where a path of data leads: below OWB_DATA, if it is relative and that is set."""
    return (data_folder() or Path()) / written(path)


def cache_folder() -> Path | None:
    """Return where prepared data is kept: `OWB_CACHE`, by default ~/.cache/openworld-bench; None where there
    is no home folder either.
    """
    folder = os.environ.get("OWB_CACHE")
    home = home_folder()
    return written(folder) if folder else home and home / ".cache" / "openworld-bench"


def kept_arrays(digest: str) -> Path | None:
    """Return the folder in which arrays of this digest are kept, made from objects in Python; None where there is no
    cache.
    """
    folder = cache_folder()
    return folder and folder / "arrays" / digest


def home_folder() -> Path | None:
    """Return the user's folder; None for a user without one, as in a container that runs under a number."""
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return None if home == _NOWHERE else home


def settle_home() -> None:
    """Set HOME for a user who has no home folder, since libraries do not import or start without one (MLflow,
    matplotlib, Ray).
    """
    if home_folder() is None:
        os.environ["HOME"] = str(_NOWHERE)


__all__ = [
    "below_data",
    "cache_folder",
    "data_folder",
    "home_folder",
    "kept_arrays",
    "settle_home",
    "written",
]
