"""Data sets that are a picture a file: which file is of which class is read from the layout, pixels are
decoded once into one packed file.

The pack lies in the cache folder and is mapped into memory; its rows are in the order of the contents'
hashes, so that neither a path nor a row number tells a class. The digest is one SHA-256 over class, part and
content of every picture, wherever it lies and whatever its name.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness.contracts import Data, IntArray, param
from harness.errors import UserError
from scenarios.datasets.file_digests import digests_of
from scenarios.datasets.on_disk.contents import combined, page_problem
from scenarios.datasets.on_disk.place import Labelled, OnDisk
from scenarios.datasets.packed import Sizes, packed_images
from scenarios.datasets.picture_folders import images_in
from scenarios.datasets.pictures_shown import shown
from scenarios.datasets.sound import label_flaw

_SHOWN = 20


class Picture(NamedTuple):
    """A file, the number of its class, and whether the publisher set it apart for the test, or to choose by."""

    path: Path
    label: int
    is_test: bool
    is_validation: bool = False


class Listing(NamedTuple):
    """All pictures of a data set, and the names of its classes in the publisher's order."""

    pictures: list[Picture]
    class_names: tuple[str, ...]


class Pictures(OnDisk):
    """A data set of pictures of any size, which come as squares of one size."""

    resize: int = param(
        256, "side that pictures are brought to, with keep_aspect the shorter one", ge=1, unit="px"
    )
    crop: int = param(
        224, "side of the centre that is kept; 0 for all that resize leaves of a square", ge=0, unit="px"
    )
    keep_aspect: bool = param(True, "whether the sides keep their proportion")

    @abstractmethod
    def listing(self) -> Listing:
        """Return the pictures in a fixed order, as the layout has them; the expected files are there.

        Raises:
            UserError: a class folder or a picture that is missing, or a file that cannot be understood.
        """

    def digest(self) -> str:
        """Return the SHA-256 over class, part and content of every picture."""
        self.files()
        pictures = self.listing().pictures
        hashes = digests_of([picture.path for picture in pictures])
        parts = ["held" if picture.is_validation else str(picture.is_test) for picture in pictures]
        return combined(
            f"{picture.label} {part} {found}"
            for picture, part, found in zip(pictures, parts, hashes, strict=True)
        )

    def read(self) -> Data:
        """Return inputs uint8 (N, 3, side, side), mapped from the pack."""
        sizes = Sizes(resize=self.resize, crop=self.crop, keep_aspect=self.keep_aspect)
        pictures, names = self.listing()
        paths = [picture.path for picture in pictures]
        try:
            inputs = packed_images(paths, digests_of(paths), sizes)
        except UserError:
            for path in paths:  # a page that was saved as a picture is told from a damaged picture
                if problem := page_problem(path, "an image"):
                    raise UserError(problem) from None
            raise
        held = np.array([picture.is_validation for picture in pictures], dtype=bool)
        return Data(
            inputs=inputs,
            labels=_labels(pictures),
            class_names=names,
            published_test=np.array([picture.is_test for picture in pictures], dtype=bool),
            published_validation=held if held.any() else None,
        )

    def labelled(self) -> Labelled:
        """Return the labels of all pictures, without decoding any."""
        self.files()
        pictures, names = self.listing()
        return Labelled(_labels(pictures), names)

    def inspected(self) -> list[str]:
        """Return what is wrong with the pictures; every one is decoded and none is kept."""
        try:
            pictures, names = self.listing()
        except UserError as error:
            return [str(error)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            wrong = [said for said in pool.map(_problem, [picture.path for picture in pictures]) if said]
        more = [f"and {len(wrong) - _SHOWN} more pictures"] if len(wrong) > _SHOWN else []
        unsound = self.unsound(label_flaw(_labels(pictures), names))
        return [*wrong[:_SHOWN], *more, *self.miscounted(len(pictures), len(names)), *unsound]


def tree(part: Path, names: Sequence[str], *, is_test: bool, inside: str = "") -> list[Picture]:
    """Return the pictures below `part`, which has a folder for each class; `inside` names a folder in each of
    these.

    Raises:
        UserError: a class folder that is missing, or has no picture.
    """
    folders = {name: part / name / inside if inside else part / name for name in names}
    if missing := [name for name, folder in folders.items() if not folder.is_dir()]:
        raise UserError(
            f"{part} lacks {len(missing)} of the {len(names)} class folders that were expected there: {_some(missing)}"
        )
    found = dict(zip(names, images_in([*folders.values()]), strict=True))
    if empty := [name for name in names if not found[name]]:
        raise UserError(f"{part} has {len(empty)} class folders without a picture: {_some(empty)}")
    return [Picture(path, label, is_test) for label, name in enumerate(names) for path in found[name]]


def all_there(pictures: list[Picture], source: Path) -> list[Picture]:
    """Return `pictures`, which a file names, if there are some and all of them are there.

    Raises:
        UserError: they are not.
    """
    if not pictures:
        raise UserError(f"{source} names no picture")
    if missing := [picture.path for picture in pictures if not picture.path.is_file()]:
        raise UserError(
            f"{source} names {missing[0]}, which is not there ({len(missing)} of {len(pictures)} are missing)"
        )
    return pictures


def _labels(pictures: Sequence[Picture]) -> IntArray:
    return np.array([picture.label for picture in pictures], dtype=np.int64)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _problem(path: Path) -> str:
    """Return what is wrong with a picture; nothing where it can be decoded."""
    if problem := page_problem(path, "an image"):
        return problem
    try:
        shown(path)
    except UserError as error:
        return str(error)
    return ""
