"""The three fine-grained sets of the Semantic Shift Benchmark, each with the lists of its publisher.

CUB-200-2011:    CUB_200_2011/{images.txt, image_class_labels.txt, train_test_split.txt, classes.txt, images/}
Stanford Cars:   {devkit/cars_train_annos.mat, devkit/cars_meta.mat, [devkit/]cars_test_annos_withlabels.mat,
cars_train/, cars_test/},
                 or folders: [car_data/[car_data/]]{train, test}/<class>/
FGVC-Aircraft:   fgvc-aircraft-2013b/data/{variants.txt, images_variant_{trainval, test}.txt, images/}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from harness.contracts import Card
from harness.errors import UserError
from scenarios.datasets.on_disk.contents import lines_of, mat_of
from scenarios.datasets.on_disk.pictures import Listing, Picture, Pictures, all_there, tree
from scenarios.datasets.picture_folders import folders_in

_CUB_LISTS = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")
_AIRCRAFT_LISTS = ("variants.txt", "images_variant_trainval.txt", "images_variant_test.txt")


class CUB(Pictures):
    """11,788 photographs of 200 species of birds, from the user's disk."""

    name: ClassVar[str] = "cub"
    published: ClassVar[Card] = Card(
        title="Caltech-UCSD Birds-200-2011",
        items=11_788,
        classes=200,
        shape=(3, 224, 224),
        licence="non-commercial research and education, as its page says (not verified)",
        source="C. Wah et al. 2011, The Caltech-UCSD Birds-200-2011 Dataset; data.caltech.edu/records/65de6-vp158",
        package="on disk",
        digest="",
        notes=(
            "5,994 to train, 5,794 to test. Whole photographs, not cut to the birds' boxes. Some test "
            "images also are in ImageNet."
        ),
    )
    folders: ClassVar[tuple[str, ...]] = ("CUB_200_2011", "cub", "CUB")
    marks: ClassVar[tuple[str, ...]] = _CUB_LISTS
    archives: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"CUB_200_2011.tgz": "97eceeb196236b17998738112f37df78"}
    )
    addresses: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"CUB_200_2011.tgz": "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"}
    )
    obtain: ClassVar[str] = (
        "get CUB_200_2011.tgz from data.caltech.edu/records/65de6-vp158 and unpack it below OWB_DATA"
    )

    def expected(self) -> list[Path]:
        """Return the four lists."""
        folder = self.folder()
        return [folder / name for name in _CUB_LISTS]

    def examine(self, path: Path) -> None:
        """Read one of the lists."""
        _numbered(path)

    def listing(self) -> Listing:
        """Return the pictures in the order of images.txt."""
        images, labels, parts, names = (_numbered(path) for path in self.files())
        lists = self.files()
        pictures = []
        for number, image in images.items():
            if number not in labels or number not in parts:
                raise UserError(
                    f"image {number} of {lists[0]} is not in {lists[1 if number not in labels else 2]}"
                )
            if labels[number] not in names or parts[number] not in ("0", "1"):
                raise UserError(
                    f"{lists[1]} gives image {number} the class {labels[number]} and {lists[2]} the part "
                    f"{parts[number]}; "
                    f"a class of {lists[3].name} and 0 or 1 were expected"
                )
            pictures.append(
                Picture(lists[0].parent / "images" / image, int(labels[number]) - 1, parts[number] == "0")
            )
        return Listing(
            all_there(pictures, lists[0]), tuple(name.partition(".")[2] or name for name in names.values())
        )


class Cars(Pictures):
    """16,185 photographs of 196 models of cars, from the user's disk."""

    name: ClassVar[str] = "cars"
    published: ClassVar[Card] = Card(
        title="Stanford Cars",
        items=16_185,
        classes=196,
        shape=(3, 224, 224),
        licence="non-commercial research, as its page said (not verified)",
        source="J. Krause et al. 2013, 3D Object Representations for Fine-Grained Categorization",
        package="on disk",
        digest="",
        notes="8,144 to train, 8,041 to test. Whole photographs, not cut to boxes. Class folders are taken "
        "in sorted order, which is that "
        "of the publisher's numbers as far as their names are kept (not verified).",
    )
    folders: ClassVar[tuple[str, ...]] = ("stanford_cars", "cars", "StanfordCars")
    marks: ClassVar[tuple[str, ...]] = ("devkit", "cars_train", "car_data", "train")
    archives: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"car_devkit.tgz": "", "cars_train.tgz": "", "cars_test.tgz": ""}
    )
    obtain: ClassVar[str] = (
        "its page is gone; a copy has devkit/, cars_train/, cars_test/ and cars_test_annos_withlabels.mat, or a "
        "folder per class, to lie in OWB_DATA/stanford_cars"
    )

    def expected(self) -> list[Path]:
        """Return the annotations; none where the layout is a folder per class."""
        folder = self.folder()
        if not any((folder / mark).exists() for mark in ("devkit", "cars_train")):
            return []
        beside = [
            folder / "cars_test_annos_withlabels.mat",
            folder / "devkit" / "cars_test_annos_withlabels.mat",
        ]
        test = next((path for path in beside if path.is_file()), beside[0])
        return [folder / "devkit" / "cars_meta.mat", folder / "devkit" / "cars_train_annos.mat", test]

    def examine(self, path: Path) -> None:
        """Read one of the annotations."""
        if path.name == "cars_meta.mat":
            _models(path)
        else:
            _annotated(path)

    def listing(self) -> Listing:
        """Return the pictures in the order of the annotations, or class by class."""
        if files := self.files():
            meta, *annotations = files
            names = _models(meta)
            pictures = []
            for part, path in zip(("train", "test"), annotations, strict=True):
                found = [
                    Picture(self.folder() / f"cars_{part}" / image, number - 1, part == "test")
                    for image, number in _annotated(path)
                ]
                if invalid := [picture for picture in found if not 0 <= picture.label < len(names)]:
                    raise UserError(
                        f"{path} gives {invalid[0].path.name} the class {invalid[0].label + 1}, {meta} "
                        f"names {len(names)}"
                    )
                pictures += all_there(found, path)
            return Listing(pictures, names)
        folder = self.folder()
        above = next(
            (
                place
                for place in (folder / "car_data" / "car_data", folder / "car_data", folder)
                if (place / "train").is_dir()
            ),
            folder,
        )
        if not (above / "train").is_dir():
            raise UserError(
                f"{folder} has neither annotations in devkit nor folders train and test with a folder per class"
            )
        names = tuple(folders_in(above / "train"))
        if len(names) != self.published.classes:
            raise UserError(
                f"{above / 'train'} has {len(names)} class folders, {self.published.classes} were expected"
            )
        return Listing(
            [*tree(above / "train", names, is_test=False), *tree(above / "test", names, is_test=True)], names
        )


class Aircraft(Pictures):
    """10,000 photographs of 100 variants of aircraft, from the user's disk."""

    name: ClassVar[str] = "aircraft"
    published: ClassVar[Card] = Card(
        title="FGVC-Aircraft 2013b, variants",
        items=10_000,
        classes=100,
        shape=(3, 224, 224),
        licence="non-commercial research, as its page says (not verified)",
        source=(
            "S. Maji et al. 2013, Fine-Grained Visual Classification of Aircraft; "
            "robots.ox.ac.uk/~vgg/data/fgvc-aircraft"
        ),
        package="on disk",
        digest="",
        notes="6,667 to train (the published training and validation images), 3,333 to test. The lowest 20 "
        "pixels name the photographer "
        "and are not cut off, as in the released code of GCD and Happy (not verified).",
    )
    folders: ClassVar[tuple[str, ...]] = ("fgvc-aircraft-2013b", "aircraft")
    marks: ClassVar[tuple[str, ...]] = (*(f"data/{name}" for name in _AIRCRAFT_LISTS), *_AIRCRAFT_LISTS)
    archives: ClassVar[Mapping[str, str]] = MappingProxyType({"fgvc-aircraft-2013b.tar.gz": ""})
    addresses: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "fgvc-aircraft-2013b.tar.gz": "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz"
        }
    )
    obtain: ClassVar[str] = (
        "get fgvc-aircraft-2013b.tar.gz from robots.ox.ac.uk/~vgg/data/fgvc-aircraft and unpack it below OWB_DATA"
    )

    def expected(self) -> list[Path]:
        """Return the list of variants and those of the images."""
        folder = self.folder()
        inner = folder / "data" if (folder / "data").is_dir() else folder
        return [inner / name for name in _AIRCRAFT_LISTS]

    def examine(self, path: Path) -> None:
        """Read one of the lists."""
        lines_of(path, "a list of FGVC-Aircraft")

    def listing(self) -> Listing:
        """Return the pictures in the order of the lists, training first."""
        variants, *lists = self.files()
        names = tuple(lines_of(variants, "the variants of FGVC-Aircraft"))
        number = {name: label for label, name in enumerate(names)}
        pictures = []
        for path in lists:
            rows = [line.partition(" ") for line in lines_of(path, "images with their variants")]
            if invalid := [variant for _, _, variant in rows if variant not in number]:
                raise UserError(f"{path} names the variant {invalid[0]!r}, which {variants} does not list")
            test = path.name.endswith("_test.txt")
            pictures += all_there(
                [
                    Picture(path.parent / "images" / f"{image}.jpg", number[variant], test)
                    for image, _, variant in rows
                ],
                path,
            )
        return Listing(pictures, names)


def _numbered(path: Path) -> dict[str, str]:
    """Return number -> the rest of the line, in the order of the lines."""
    rows = [line.partition(" ") for line in lines_of(path, "a list of CUB-200-2011")]
    if invalid := [number for number, _, rest in rows if not number.isdecimal() or not rest]:
        raise UserError(f"{path} should begin every line with a number and a space, got {invalid[0]!r}")
    return {number: rest for number, _, rest in rows}


def _models(path: Path) -> tuple[str, ...]:
    names = np.atleast_1d(
        mat_of(path, ("class_names",), "the names of the models of Stanford Cars")["class_names"]
    )
    return tuple(str(name) for name in names)


def _annotated(path: Path) -> list[tuple[str, int]]:
    """Return (image, number of its class from 1)."""
    rows = np.atleast_1d(mat_of(path, ("annotations",), "annotations of Stanford Cars")["annotations"])
    if missing := {"fname", "class"} - {*(rows.dtype.names or ())}:
        raise UserError(
            f"{path} has no {min(missing)} of its images; the test annotations are those with labels"
        )
    return [(str(row["fname"]), int(row["class"])) for row in rows]
