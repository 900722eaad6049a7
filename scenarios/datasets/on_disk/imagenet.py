"""ImageNet (ILSVRC 2012) and TinyImageNet-200, whose classes are WordNet ids in sorted order.

    ImageNet:          {train, val}/<wnid>/*.JPEG
    as from Kaggle:    ILSVRC/Data/CLS-LOC/{train/<wnid>/*.JPEG, val/*.JPEG}, LOC_val_solution.csv
    TinyImageNet-200:  tiny-imagenet-200/{wnids.txt, train/<wnid>/images/*.JPEG, val/images/*.JPEG,
    val/val_annotations.txt}

The published validation images are the test. A subset keeps the sorted order of the ids that it names, and
nothing of the other classes is read, decoded or packed; its digest covers its own pictures alone.
`drawn100-0` are the hundred classes that GCD, SimGCD and Happy draw among the thousand under seed 0
(`numpy.random.seed`, `choice` without replacement, sorted).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from harness.contracts import Card, param
from harness.errors import UserError
from harness.places import written
from scenarios.datasets.on_disk.contents import lines_of
from scenarios.datasets.on_disk.pictures import Listing, Picture, Pictures, all_there, tree
from scenarios.datasets.picture_folders import folders_in, is_hidden

_WNID = re.compile(r"n\d{8}")
_DRAWN = re.compile(r"drawn(\d+)-(\d+)")


class ImageNet(Pictures):
    """ImageNet's 1.3 million photographs in 1000 classes, or some of these, from the user's disk."""

    name: ClassVar[str] = "imagenet"
    published: ClassVar[Card] = Card(
        title="ImageNet, ILSVRC 2012",
        items=1_331_167,
        classes=1000,
        shape=(3, 224, 224),
        licence="ImageNet terms of access: non-commercial research and education",
        source="O. Russakovsky et al. 2015, ImageNet Large Scale Visual Recognition Challenge; image-net.org",
        package="on disk",
        digest="",
        notes="1,281,167 to train, the 50,000 published validation images to test. subset=drawn100-0 takes "
        "the hundred classes that GCD "
        "and Happy draw under seed 0, subset=first100 the first hundred WordNet ids, subset=FILE those a "
        "file names, subset=present those "
        "there are folders for. All classes need 200 GB of cache at 224 px, a hundred 20 GB.",
    )
    folders: ClassVar[tuple[str, ...]] = ("imagenet", "ImageNet", "ILSVRC2012", "imagenet-100", "imagenet100")
    marks: ClassVar[tuple[str, ...]] = ("train", "ILSVRC/Data/CLS-LOC/train", "Data/CLS-LOC/train")
    archives: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"ILSVRC2012_img_train.tar": "", "ILSVRC2012_img_val.tar": ""}
    )
    obtain: ClassVar[str] = (
        "get it from image-net.org after signing up, and unpack it as OWB_DATA/imagenet/{train,val}/<WordNet id>/"
    )

    subset: str = param(
        "",
        (
            "some classes: first100, drawn100-SEED as in GCD and Happy, present, or a file with a WordNet id a "
            "line; empty for all 1000"
        ),
    )

    def expected(self) -> list[Path]:
        """Return the table of validation labels, where the layout has one, and the file of the subset."""
        table = self._table()
        return [path for path in (table, self._file()) if path is not None]

    def examine(self, path: Path) -> None:
        """Read the table or the file of the subset."""
        if path == self._file():
            _ids(path)
        else:
            _solutions(path)

    def listing(self) -> Listing:
        """Return the pictures class by class."""
        train = self._images() / "train"
        names = self._chosen(train)
        pictures = tree(train, names, is_test=False)
        table, test = self._table(), self._images() / "val"
        if table is None:
            return Listing([*pictures, *tree(test, names, is_test=True)], names)
        number = {name: label for label, name in enumerate(names)}
        named = [
            Picture(test / f"{image}.JPEG", number[wnid], True)
            for image, wnid in _solutions(table)
            if wnid in number
        ]
        return Listing([*pictures, *all_there(named, table)], names)

    def stated(self) -> tuple[int, int] | None:
        """Return the published size of all classes."""
        return None if self.subset else super().stated()

    def _images(self) -> Path:
        folder = self.folder()
        return next(folder / Path(mark).parent for mark in self.marks if (folder / mark).is_dir())

    def _table(self) -> Path | None:
        """Return the table of validation labels where validation images lie in one folder."""
        test = self._images() / "val"
        if not test.is_dir():
            raise UserError(
                f"{self._images()} lacks the folder val with the validation images of ImageNet, which are its test"
            )
        with os.scandir(test) as entries:
            flat = any(
                entry.name.lower().endswith(".jpeg") and not is_hidden(entry.name) for entry in entries
            )
        return self.folder() / "LOC_val_solution.csv" if flat else None

    def _file(self) -> Path | None:
        said = (
            self.subset in ("", "present")
            or re.fullmatch(r"first\d+", self.subset)
            or _DRAWN.fullmatch(self.subset)
        )
        return None if said else written(self.subset)

    def _chosen(self, train: Path) -> tuple[str, ...]:
        """Return the ids that take part, sorted."""
        if (file := self._file()) is not None:
            return tuple(sorted(_ids(file)))
        there = [name for name in folders_in(train) if _WNID.fullmatch(name)]
        if self.subset == "present" and there:
            return tuple(there)
        drawn = _DRAWN.fullmatch(self.subset)
        wanted = (
            int(self.subset.removeprefix("first"))
            if self.subset.startswith("first")
            else self.published.classes
        )
        if len(there) < wanted or ((drawn or not self.subset) and len(there) > wanted):
            raise UserError(
                f"{train} has {len(there)} class folders, {wanted} were expected; say subset=present for "
                "those that are there, "
                "or subset=FILE"
            )
        return tuple(
            there[number]
            for number in (_numbers_drawn(int(drawn[1]), wanted, int(drawn[2])) if drawn else range(wanted))
        )


class TinyImageNet(Pictures):
    """110,000 photographs of 64 x 64 pixels in 200 classes, from the user's disk."""

    name: ClassVar[str] = "tinyimagenet"
    published: ClassVar[Card] = Card(
        title="TinyImageNet-200",
        items=110_000,
        classes=200,
        shape=(3, 64, 64),
        licence="none stated by its publisher; images of ImageNet",
        source="Stanford CS231n; cs231n.stanford.edu/tiny-imagenet-200.zip",
        package="on disk",
        digest="",
        notes="500 of every class to train, the 50 published validation images of each to test; the "
        "published test images have no labels. "
        "Classes are in the sorted order of their WordNet ids.",
    )
    folders: ClassVar[tuple[str, ...]] = ("tiny-imagenet-200", "tinyimagenet")
    marks: ClassVar[tuple[str, ...]] = ("wnids.txt", "train", "val")
    archives: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"tiny-imagenet-200.zip": "90528d7ca1a48142e341f4ef8d21d0de"}
    )
    addresses: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"tiny-imagenet-200.zip": "http://cs231n.stanford.edu/tiny-imagenet-200.zip"}
    )
    obtain: ClassVar[str] = "get cs231n.stanford.edu/tiny-imagenet-200.zip and unpack it below OWB_DATA"

    resize: int = param(64, "side that pictures are brought to", ge=1, unit="px")
    crop: int = param(0, "side of the centre that is kept; 0 for all", ge=0, unit="px")

    def expected(self) -> list[Path]:
        """Return the list of classes and the labels of the validation images."""
        folder = self.folder()
        return [folder / "wnids.txt", folder / "val" / "val_annotations.txt"]

    def examine(self, path: Path) -> None:
        """Read one of the lists."""
        if path.name == "wnids.txt":
            _ids(path)
        else:
            _annotations(path)

    def listing(self) -> Listing:
        """Return the pictures class by class, then those of the validation in the order of their list."""
        wnids, annotations = self.files()
        names = tuple(sorted(_ids(wnids)))
        number = {name: label for label, name in enumerate(names)}
        rows = _annotations(annotations)
        if invalid := [wnid for _, wnid in rows if wnid not in number]:
            raise UserError(f"{annotations} names the class {invalid[0]}, which {wnids} does not list")
        test = [Picture(annotations.parent / "images" / image, number[wnid], True) for image, wnid in rows]
        train = tree(wnids.parent / "train", names, is_test=False, inside="images")
        return Listing([*train, *all_there(test, annotations)], names)


def _numbers_drawn(count: int, among: int, seed: int) -> list[int]:
    """Return `count` of the numbers below `among`, ascending, as data/imagenet.py of GCD and of Happy draws
    them.
    """
    if not 0 < count <= among:
        raise UserError(f"subset=drawn{count}-{seed} cannot draw {count} of {among} classes")
    return sorted(np.random.RandomState(seed).choice(among, size=count, replace=False).tolist())


def _ids(path: Path) -> list[str]:
    """Return the WordNet ids that begin the lines of a file, each once."""
    if not path.is_file():
        raise UserError(f"no file {path} with WordNet ids, one a line")
    ids = [line.split()[0] for line in lines_of(path, "a list of WordNet ids")]
    if invalid := [wnid for wnid in ids if not _WNID.fullmatch(wnid)]:
        raise UserError(f"{path} should have WordNet ids such as n01440764, one a line, got {invalid[0]!r}")
    if len({*ids}) < len(ids) or not ids:
        raise UserError(
            f"{path} should name every WordNet id once, it has {len(ids)} lines and {len({*ids})} ids"
        )
    return ids


def _solutions(path: Path) -> list[Sequence[str]]:
    """Return (image, WordNet id) from lines such as ILSVRC2012_val_00048981,n03995372 85 1 499 272."""
    rows = [line.split()[0].split(",") for line in lines_of(path, "a table of validation labels")[1:]]
    return _pairs(path, rows)


def _annotations(path: Path) -> list[Sequence[str]]:
    """Return (image, WordNet id) from lines such as val_0.JPEG, n03444034, box."""
    return _pairs(path, [line.split()[:2] for line in lines_of(path, "labels of the validation images")])


def _pairs(path: Path, rows: list[list[str]]) -> list[Sequence[str]]:
    for row in rows:
        if len(row) != 2 or not _WNID.fullmatch(row[1]):
            raise UserError(
                f"{path} should name an image and a WordNet id in every line, got {' '.join(row)!r}"
            )
    return list(rows)
