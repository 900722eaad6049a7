"""Two sets whose training labels are wrong to an unknown share: ANIMAL-10N and Clothing1M.

    ANIMAL-10N, raw images:  {training, testing}/<label>_<number>.jpg
    Clothing1M:              images/<digit>/<two digits>/<file>.jpg, and here or in annotations/:
                             {noisy_train, clean_train, clean_val, clean_test}_key_list.txt, {noisy,
                             clean}_label_kv.txt, category_names_eng.txt

Labels of training items are those that came with the images; the truth is not known and no figure may claim
it (`labels_are_true`).

Of Clothing1M, `per_class` keeps so many training items of every class, by those labels, drawn without
replacement: classes come by labels that are wrong to a large share, but in equal numbers. Nothing of the
others is looked at, decoded, packed or digested. A draw is the same for every seed of a run, another one with
another `subset_seed`, and holds every smaller draw under the same one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, field_validator

from harness import seeds
from harness.contracts import Card, IntArray, param
from harness.errors import UserError
from scenarios.datasets.on_disk.contents import lines_of
from scenarios.datasets.on_disk.pictures import Listing, Picture, Pictures, all_there
from scenarios.datasets.picture_folders import images_in

_SIZES = {"noisy_train": 1_000_000, "clean_train": 47_570, "clean_val": 14_313, "clean_test": 10_526}


class Animal10N(Pictures):
    """55,000 pictures of ten animals that come in look-alike pairs, labelled by people in a hurry, from the
    user's disk.
    """

    name: ClassVar[str] = "animal10n"
    published: ClassVar[Card] = Card(
        title="ANIMAL-10N",
        items=55_000,
        classes=10,
        shape=(3, 64, 64),
        licence="not verified",
        source="H. Song, M. Kim, J.-G. Lee 2019, SELFIE; dm.kaist.ac.kr/datasets/animal-10n",
        package="on disk",
        digest="",
        notes="50,000 to train, of whose labels its publishers estimate 8 % to be wrong; 5,000 to test, "
        "whose labels agree with the search "
        "word.",
    )
    folders: ClassVar[tuple[str, ...]] = (
        "animal-10n",
        "animal10n",
        "ANIMAL-10N",
        "raw_image_ver",
        "raw_image",
    )
    marks: ClassVar[tuple[str, ...]] = ("training", "testing")
    archives: ClassVar[Mapping[str, str]] = MappingProxyType({"raw_image_ver.zip": "", "raw_image.zip": ""})
    obtain: ClassVar[str] = (
        "ask for the raw images at dm.kaist.ac.kr/datasets/animal-10n and unpack them as OWB_DATA/animal-10n"
    )
    labels_are_true: ClassVar[bool] = False
    class_names: ClassVar[tuple[str, ...]] = (
        "cat",
        "lynx",
        "wolf",
        "coyote",
        "cheetah",
        "jaguar",
        "chimpanzee",
        "orangutan",
        "hamster",
        "guinea pig",
    )

    resize: int = param(
        64, "side that pictures are brought to, with keep_aspect the shorter one", ge=1, unit="px"
    )
    crop: int = param(
        0, "side of the centre that is kept; 0 for all that resize leaves of a square", ge=0, unit="px"
    )

    def expected(self) -> list[Path]:
        """Return nothing: names of pictures tell their labels."""
        self.folder()
        return []

    def examine(self, path: Path) -> None:
        """Do nothing: there are no lists."""

    def listing(self) -> Listing:
        """Return the pictures sorted by name, training first."""
        pictures = []
        for part in ("training", "testing"):
            folder = self.folder() / part
            (paths,) = images_in([folder])
            if not paths:
                raise UserError(f"{folder} is missing or has no picture: <label>_<number>.jpg was expected")
            for path in paths:
                label = path.stem.partition("_")[0]
                if not label.isdecimal() or int(label) >= len(self.class_names):
                    raise UserError(
                        f"{path} should be called <label>_<number>.jpg, with a label from 0 to "
                        f"{len(self.class_names) - 1}"
                    )
                pictures.append(Picture(path, int(label), part == "testing"))
        return Listing(pictures, self.class_names)


class Clothing1M(Pictures):
    """A million pictures of clothes in 14 classes, labelled by the words around them, from the user's disk."""

    name: ClassVar[str] = "clothing1m"
    published: ClassVar[Card] = Card(
        title="Clothing1M",
        items=1_010_526,
        classes=14,
        shape=(3, 224, 224),
        licence="non-commercial research on request (not verified)",
        source="T. Xiao et al. 2015, Learning from Massive Noisy Labeled Data; github.com/Cysu/noisy_label",
        package="on disk",
        digest="",
        notes="1,000,000 to train, of whose labels its publishers estimate 38 % to be wrong; 10,526 to "
        "test, labelled by hand. "
        "training=clean takes the 47,570 training images labelled by hand instead. validation=true adds "
        "the 14,313 labelled by hand "
        "to choose by, which class-incremental and noisy-labels[validation=published] hand over for that. "
        "per_class=13714 keeps so many training images of every class, drawn under subset_seed, "
        "per_class=smallest as many as the smallest "
        "class has. Needs 150 GB of cache at 224 px, with per_class=13714 32 GB.",
    )
    folders: ClassVar[tuple[str, ...]] = ("clothing1m", "Clothing1M", "clothing1M")
    marks: ClassVar[tuple[str, ...]] = (
        "annotations",
        "category_names_eng.txt",
        "noisy_label_kv.txt",
        "clean_label_kv.txt",
    )
    obtain: ClassVar[str] = (
        "ask its authors (github.com/Cysu/noisy_label) and unpack it as OWB_DATA/clothing1m"
    )

    training: Literal["noisy", "clean"] = param("noisy", "which training items, and whose labels")
    validation: bool = param(False, "also the images labelled by hand that are there to choose by")
    per_class: Annotated[str, BeforeValidator(str)] = param(
        "0",
        (
            "training items that are kept of every class: a number, smallest for as many as the smallest class "
            "has, or 0 for all"
        ),
    )
    subset_seed: int = param(0, "what these are drawn under, the same for every seed of a run", ge=0)

    @field_validator("per_class")
    @classmethod
    def _countable(cls, text: str) -> str:
        if text == "smallest":
            return text
        if not text.isdecimal():
            raise ValueError(
                f"per_class should be a number of training items, 0 for all, or smallest, got {text!r}"
            )
        return str(int(text))

    @property
    def labels_are_true(self) -> bool:
        """Whether the labels of the training items are."""
        return self.training == "clean"

    def expected(self) -> list[Path]:
        """Return names, then keys and labels of the training items, of the validation where it is asked for,
        and of the test items.
        """
        folder = self.folder()
        lists = folder / "annotations" if (folder / "annotations").is_dir() else folder
        names = ["category_names_eng.txt"]
        for part, kind in self._parts().items():
            names += [f"{part}_key_list.txt", f"{kind}_label_kv.txt"]
        return [lists / name for name in names]

    def examine(self, path: Path) -> None:
        """Read one of the lists."""
        if path.name.endswith("_kv.txt"):
            _labels(path)
        else:
            lines_of(path, "a list of Clothing1M")

    def listing(self) -> Listing:
        """Return the pictures in the order of the lists: training, validation, test."""
        named, *lists = self.files()
        names = tuple(lines_of(named, "the names of Clothing1M's classes"))
        pictures = []
        for part, keys, labelled in zip(self._parts(), lists[::2], lists[1::2], strict=True):
            labels = _labels(labelled)
            found = lines_of(keys, "a list of the images of Clothing1M")
            for key in found:
                if not 0 <= labels.get(key, -1) < len(names):
                    raise UserError(f"{labelled} gives {key} of {keys} no label from 0 to {len(names) - 1}")
            if part.endswith("_train"):
                found = self._kept(found, labels, names)
            is_test, is_validation = part == "clean_test", part == "clean_val"
            pictures += all_there(
                [Picture(self.folder() / key, labels[key], is_test, is_validation) for key in found], keys
            )
        return Listing(pictures, names)

    def stated(self) -> tuple[int, int] | None:
        """Return the published size with the chosen training items; None where these are as many as the
        smallest class has.
        """
        if self.per_class == "smallest":
            return None
        sizes = [_SIZES[part] for part in self._parts()]
        if self.per_class != "0":
            sizes[0] = int(self.per_class) * self.published.classes
        return sum(sizes), self.published.classes

    def _kept(self, keys: list[str], labels: dict[str, int], names: tuple[str, ...]) -> list[str]:
        """Return the training images that `per_class` keeps, in their order."""
        if self.per_class == "0":
            return keys
        of_class = np.array([labels[key] for key in keys], dtype=np.int64)
        sizes = np.bincount(of_class, minlength=len(names))
        least = int(sizes.argmin())
        wanted = int(sizes[least]) if self.per_class == "smallest" else int(self.per_class)
        if not wanted or wanted > sizes[least]:
            raise UserError(
                f"per_class={self.per_class} cannot be had: the smallest class of Clothing1M's "
                f"{self.training} training list, "
                f"{names[least]!r}, numbers {sizes[least]}"
            )
        return [keys[place] for place in _drawn(of_class, len(names), wanted, self.subset_seed)]

    def _parts(self) -> dict[str, str]:
        """Return the parts that are read, each with the kind of its labels."""
        validation = {"clean_val": "clean"} if self.validation else {}
        return {f"{self.training}_train": self.training, **validation, "clean_test": "clean"}


def _drawn(labels: IntArray, n_classes: int, each: int, seed: int) -> IntArray:
    """Return the places, ascending, of `each` items of every class; the stream of a class is `per-class`
    under `seed`.
    """
    drawn = [
        seeds.stream("per-class", seed=seed, label=label).permutation(np.flatnonzero(labels == label))[:each]
        for label in range(n_classes)
    ]
    return np.sort(np.concatenate(drawn))


def _labels(path: Path) -> dict[str, int]:
    """Return image -> label."""
    labels = {}
    for line in lines_of(path, "images of Clothing1M with their labels"):
        key, _, label = line.rpartition(" ")
        if not key or not label.isdecimal():
            raise UserError(f"{path} should name an image and a label in every line, got {line!r}")
        labels[key] = int(label)
    return labels
