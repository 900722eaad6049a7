"""Pictures in folders: one for each class, below train, val and test or not, or named by a file labels.csv.

    ROOT/<class>/.../*.png
    ROOT/{train, val, test}/<class>/.../*.png
    ROOT/labels.csv with columns image and label, and where wanted given, split and group; pictures anywhere below

What lies deeper than the folder of a class belongs to that class. Links are followed as long as they stay below
the root.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

from harness.contracts import Card, param
from harness.errors import UserError
from scenarios.datasets.file_digests import digests_of
from scenarios.datasets.own.base import Content, Labelling, own_card, place_of
from scenarios.datasets.own.columns import header_of
from scenarios.datasets.own.marks import PARTS, column_of, marks_of
from scenarios.datasets.own.pictures import Pictures, Source
from scenarios.datasets.own.table import Roles, listed
from scenarios.datasets.picture_folders import folders_in, images_in, is_hidden, picture_suffixes

LABELS = "labels.csv"
_IMAGE = ("image", "file", "filename", "file_name", "path")
_ORDER = ("train", "val", "test")

_log = logging.getLogger(__name__)


class _Found(NamedTuple):
    """A picture, the folder name of its class, and its part."""

    path: Path
    name: str
    part: str


class Folder(Pictures):
    """Your pictures: a folder for each class, with or without train, val and test above, or a file labels.csv."""

    kind: ClassVar[Card] = own_card(
        "Pictures of your own in folders",
        notes="A folder for each class, with or without train, val and test above; or labels.csv with columns image "
        "and label.",
    )
    usage: ClassVar[str] = "folder[root=FOLDER]"

    root: str = param("", "the folder, below OWB_DATA where that is set")

    def content(self) -> Content:
        """Return the pictures by part and path; with labels.csv in the order of its rows."""
        root = place_of(self.root, "root", self.usage)
        if not root.is_dir():
            raise UserError(f"{root} is no folder; a table is read by table[path={self.root},image=COLUMN]")
        if (root / LABELS).is_file():
            return self._by_table(root)
        found = sorted(
            _by_class(root), key=lambda picture: (_ORDER.index(picture.part), picture.path.as_posix())
        )
        parts = column_of(f"the folder {root}", [picture.part for picture in found])
        marks = marks_of(
            column_of(f"the folder {root}", [picture.name for picture in found]),
            parts if parts.values != ["train"] else None,
            None,
        )
        return self.pictured(
            marks, digests_of([picture.path for picture in found]), lambda row: Source(str(found[row].path))
        )

    def labelling(self) -> Labelling:
        """Return which columns of labels the file of labels has."""
        table = place_of(self.root, "root", self.usage) / LABELS
        header = header_of(table) if table.is_file() else ["label"]
        return Labelling(
            true=self.labels_are_true and "label" in header, given={"label", "given"} <= {*header}
        )

    def _by_table(self, root: Path) -> Content:
        table = root / LABELS
        header = header_of(table)
        image = next((name for name in _IMAGE if name in header), "")
        if not image:
            raise UserError(
                f"{table} has columns {', '.join(header)}, and none for the pictures: call one of them image"
            )
        label, given, split, group = (
            name if name in header else "" for name in ("label", "given", "split", "group")
        )
        roles = Roles(label or ("" if given else "label"), given, split, group, all_true=self.labels_are_true)
        rows = listed(table, root, image, roles)
        named = {path.resolve() for path in rows.paths}
        if left := [path for path in _below(root, root) if path.resolve() not in named]:
            _log.warning(
                "%s names no label for %d pictures, which are left out: %s", table, len(left), left[0]
            )
        return self.pictured(rows.marks, digests_of(rows.paths), lambda row: Source(str(rows.paths[row])))


def _by_class(root: Path) -> Iterator[_Found]:
    names = folders_in(root)
    parts = [name for name in names if name.lower() in PARTS]
    others = [name for name in names if name not in parts]
    meant = {PARTS[name.lower()] for name in parts}
    if {"train", "test"} <= meant and others:
        raise UserError(
            f"{root} has folders {' and '.join(parts)} beside {others[0]!r}, so parts and classes cannot be told "
            f"apart: move {others[0]!r} elsewhere, or into train"
        )
    _check_no_anomalies(root, names)
    if "train" in meant and not others:
        for name in parts:
            yield from _classes(root, root / name, PARTS[name.lower()])
    else:
        yield from _classes(root, root, "train")


def _classes(root: Path, above: Path, part: str) -> Iterator[_Found]:
    """Yield the pictures of the classes whose folders lie in `above`."""
    names = folders_in(above)
    if stray := _pictures_beside(above):
        raise UserError(
            f"{stray} lies in no folder of a class: put it into one, or name its class in {root / LABELS} with "
            "columns image and label"
        )
    if not names:
        raise UserError(f"{above} has no folder for a class in it, and no {LABELS}")
    for name in names:
        paths = [*_below(above / name, root)]
        if not paths:
            raise UserError(f"class {name!r} has no picture: {above / name} is empty; remove it, or fill it")
        yield from (_Found(path, name, part) for path in paths)


def _pictures_beside(folder: Path) -> str:
    """Return the first picture that lies in a folder itself; nothing where there is none."""
    return next(
        (
            str(path)
            for path in sorted(folder.iterdir())
            if path.suffix.lower() in picture_suffixes() and not is_hidden(path.name) and not path.is_dir()
        ),
        "",
    )


def _below(folder: Path, root: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield the pictures in a folder and in those below it; raise `UserError` for a link that leads out of the
    root, or in a circle.
    """
    real = _checked(folder, root)
    if real in above:
        raise UserError(f"{folder} is a link to {real}, in which it lies itself: remove it")
    for path in [] if folder == root else images_in([folder])[0]:
        if path.is_symlink():
            _checked(path, root)
        yield path
    for name in folders_in(folder):
        yield from _below(folder / name, root, (*above, real))


def _checked(path: Path, root: Path) -> Path:
    """Return where a path really leads, which is in the root."""
    real = path.resolve()
    if not real.is_relative_to(root.resolve()):
        raise UserError(
            f"{path} is a link to {real}, outside of {root}: copy what it leads to, or name its root"
        )
    return real


def _check_no_anomalies(root: Path, names: list[str]) -> None:
    """Refuse folders as anomaly detection has them, and say how they are read."""
    if tree := [name for name in names if (root / name / "train" / "good").is_dir()]:
        raise UserError(
            f"{root} has categories with normal images in train/good, such as {tree[0]!r}, and no classes: say "
            f"anomaly[source=folder,root={root}]"
        )
    if folders_in(root / "train") == ["good"] and (root / "test").is_dir():
        raise UserError(
            f"{root} is a category with normal images in train/good, and has no classes: say "
            f"anomaly[source=folder,root={root.parent},categories={root.name}]"
        )


__all__ = ["LABELS", "Folder"]
