"""Anomaly data sets in the folders users have them in: which file is an image of what, and where its mask is.

    MVTec-AD, VisA converted ("1cls"), any folder:  ROOT/<category>/{train/good, test/good, test/<defect>,
    ground_truth/<defect>}
    MVTec LOCO AD:                                  the same, a folder of masks for every image:
    ROOT/<category>/ground_truth/{logical_anomalies, structural_anomalies}/<stem>/<number>.png
    MVTec AD 2:                                     ROOT/<category>/{train/good, test_public/{good, bad},
    test_public/ground_truth/bad}
    VisA as published:                              ROOT/split_csv/1cls.csv with columns object, split, label,
    image, mask Real-IAD:                                       ROOT/realiad_<pixels>/<category>/...,
    ROOT/realiad_jsons/<variant>/<category>.json

A mask belongs to the image of its stem (`000.png` or `000_mask.png` to `000.jpg`), or that its folder is
called after, whatever the order of files. Images to validate on, and tests whose labels are not published, are
left out. Nothing is decoded here. A defective image without a mask is allowed and has none; in MVTec-AD and VisA
a whole folder of masks must not be missing.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import UserError, unknown
from harness.places import below_data
from scenarios.anomaly.names import listed
from scenarios.anomaly.pool import GOOD
from scenarios.datasets.picture_folders import folders_in, images_in


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """One image on disk. defect: its kind, `GOOD` for none.  sample: images of one object share it.  mask:
    None where there is none.  more_masks: further ones, of other defects of the same image; a pixel is defective
    where any of them says so.
    """

    path: Path
    category: str
    defect: str
    train: bool
    sample: str
    mask: Path | None = None
    more_masks: tuple[Path, ...] = ()


def folder_at(root: str, source: str) -> Path:
    """Return the folder of a data set: `root`, or one of the name of the source; relative to OWB_DATA where
    that is set.

    Raises:
        UserError: there is none.
    """
    if source == "folder" and not root:
        raise UserError("source=folder needs root, the folder with the categories")
    folder = below_data(root or source)
    if not folder.is_dir():
        raise UserError(
            f"no folder {folder} for source={source}; say where it is with root, or set OWB_DATA to the folder above it"
        )
    return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a data set lies and which part of it is meant. variant, pixels, cameras: of Real-IAD, see
    `realiad`.
    """

    source: str
    root: str
    variant: str
    pixels: int
    cameras: str

    def files(self, categories: Iterable[str]) -> list[ImageFile]:
        """Return the images of categories; `visa:candle` is looked for in a data set of its own, in the
        folder of that name.

        Raises:
            UserError: what is missing, named.
        """
        by_source: dict[str, list[str]] = {}
        for name in categories:
            by_source.setdefault(name.rpartition(":")[0], []).append(name.rpartition(":")[2])
        files = self._own(by_source.pop("", []))
        for source, names in by_source.items():
            other = replace(self, source=source, root="")
            files += [replace(file, category=f"{source}:{file.category}") for file in other._own(names)]
        return files

    def _own(self, categories: Sequence[str]) -> list[ImageFile]:
        folder = folder_at(self.root, self.source)
        if self.source == "visa":
            return visa(folder, categories)
        if self.source == "realiad":
            return realiad(folder, categories, variant=self.variant, pixels=self.pixels, cameras=self.cameras)
        layout = AD_2 if self.source == "mvtec-ad-2" else MVTEC
        return trees(folder, categories, masks_expected=self.source != "folder", layout=layout)


class Layout(NamedTuple):
    """Where in a category the test images and the masks lie, each in a folder for its kind."""

    test: str
    masks: str


MVTEC = Layout("test", "ground_truth")
AD_2 = Layout("test_public", "test_public/ground_truth")


def categories_of(root: Path) -> tuple[str, ...]:
    """Return the categories of a plain folder: its folders with training images, sorted.

    Raises:
        UserError: there are none.
    """
    found = tuple(name for name in folders_in(root) if (root / name / "train").is_dir())
    if not found:
        raise UserError(f"{root} has no folder with a folder train in it, so no category")
    return found


def trees(
    root: Path, categories: Iterable[str], *, masks_expected: bool, layout: Layout = MVTEC
) -> list[ImageFile]:
    """Return the images of categories that are folders with train, test and ground_truth.

    Raises:
        UserError: a category, its training or test images or (with `masks_expected`) a folder of masks that
        is not there.
    """
    files = []
    for category in categories:
        folder = root / category
        if not folder.is_dir():
            raise unknown("category", category, folders_in(root), f"the folders of {root}")
        (normal,) = images_in([folder / "train" / GOOD])
        if not normal:
            raise UserError(f"category {category} is empty: no image in {folder / 'train' / GOOD}")
        files += [
            ImageFile(path=path, category=category, defect=GOOD, train=True, sample=str(path))
            for path in normal
        ]
        tested = [
            _tested(folder, kind, category, layout, masks_expected=masks_expected)
            for kind in folders_in(folder / layout.test)
            if f"{layout.test}/{kind}" != layout.masks
        ]
        if not any(tested):
            raise UserError(f"category {category} is empty: no image below {folder / layout.test}")
        files += [file for kind in tested for file in kind]
    return files


def visa(root: Path, categories: Sequence[str]) -> list[ImageFile]:
    """Return the images of VisA, as published or as converted, whichever `root` has.

    Raises:
        UserError: as `trees`; or a table without a column, a file it names that is not there, a category it
        does not name.
    """
    table = root / "split_csv" / "1cls.csv"
    if not table.is_file():
        return trees(root / "1cls" if (root / "1cls").is_dir() else root, categories, masks_expected=True)
    with table.open(newline="", encoding="utf-8") as lines:
        rows = [
            {(name or "").strip(): value or "" for name, value in row.items()}
            for row in csv.DictReader(lines)
        ]
    split = "set" if rows and "set" in rows[0] else "split"
    if missing := {"object", split, "label", "image", "mask"} - {*(rows[0] if rows else ())}:
        raise UserError(f"{table} has no column {min(missing)}")
    files = [
        ImageFile(
            path=root / row["image"],
            category=row["object"],
            defect=GOOD if row["label"] == "normal" else "bad",
            sample=row["image"],
            train=row[split] == "train",
            mask=root / row["mask"] if row["mask"] and row["label"] != "normal" else None,
        )
        for row in rows
        if row["object"] in categories
    ]
    return _complete(files, categories, table)


def realiad(
    root: Path, categories: Sequence[str], *, variant: str, pixels: int, cameras: str
) -> list[ImageFile]:
    """Return the images that the lists of a variant name; defective ones among the training images stay
    defective.

    Args:
        root: folder of the data set.
        categories: their names.
        variant: folder of lists below realiad_jsons, such as realiad_jsons_sv.
        pixels: size of the download.
        cameras: such as C1+C2; empty for all.

    Raises:
        UserError: a list that is missing or damaged, a file it names that is not there, a camera no image is
        from.
    """
    files: list[ImageFile] = []
    for category in categories:
        lists, folder = (
            root / "realiad_jsons" / variant / f"{category}.json",
            root / f"realiad_{pixels}" / category,
        )
        try:
            content = json.loads(lists.read_text(encoding="utf-8"))
            entries = [(part == "train", entry) for part in ("train", "test") for entry in content[part]]
            found = [_realiad_file(folder, category, entry, train) for train, entry in entries]
        except OSError:
            raise UserError(f"no list {lists} of the images of {category}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{lists} is no list of images with train and test ({type(error).__name__}: {error})"
            ) from None
        files += [file for file in found if _seen_by(file.path.name, listed(cameras))]
    return _complete(files, categories, root / "realiad_jsons" / variant)


def _realiad_file(folder: Path, category: str, entry: dict[str, Any], train: bool) -> ImageFile:
    path, good = folder / entry["image_path"], entry["anomaly_class"] == "OK"
    mask = entry.get("mask_path")
    return ImageFile(
        path=path,
        category=category,
        defect=GOOD if good else entry["anomaly_class"],
        train=train,
        sample=str(path.parent),
        mask=folder / mask if mask and not good else None,
    )


def _seen_by(name: str, cameras: Sequence[str]) -> bool:
    camera = re.search(r"_(C\d)_", name)
    return not cameras or (camera is not None and camera[1] in cameras)


def _complete(files: list[ImageFile], categories: Iterable[str], source: Path) -> list[ImageFile]:
    """Return `files`, which a table names, if they are all there and every category has some to learn and
    some to test.
    """
    for category in categories:
        for train, part in ((True, "training"), (False, "test")):
            if not any(file.category == category and file.train == train for file in files):
                raise UserError(f"category {category} is empty: {source} names no {part} image of it")
    for file in files:
        for path in (file.path, file.mask):
            if path is not None and not path.is_file():
                raise UserError(f"{source} names {path}, which is not there")
    return files


def _tested(
    folder: Path, kind: str, category: str, layout: Layout, *, masks_expected: bool
) -> list[ImageFile]:
    """Return the test images of one kind, each with the mask of its stem."""
    (images,) = images_in([folder / layout.test / kind])
    masks = {} if kind == GOOD else _masks(folder / layout.masks / kind, images, expected=masks_expected)
    return [
        ImageFile(
            path=path,
            category=category,
            defect=kind,
            train=False,
            sample=str(path),
            mask=masks.get(path.stem, [None])[0],
            more_masks=tuple(masks.get(path.stem, [])[1:]),
        )
        for path in images
    ]


def _masks(folder: Path, images: Sequence[Path], *, expected: bool) -> dict[str, list[Path]]:
    """Return the masks in `folder`, and in folders there, by the stem of their image."""
    if not folder.is_dir():
        if expected and images:
            raise UserError(f"no folder {folder} with the masks of {images[0].parent}")
        return {}
    stems = {path.stem for path in images}
    masks: dict[str, list[Path]] = {}
    if len(stems) < len(images):
        raise UserError(f"{images[0].parent} has two images of one name, so masks cannot be told apart")
    for name in folders_in(folder):
        if name not in stems:
            raise UserError(
                f"{folder / name} has masks of no image in {images[0].parent if images else folder}"
            )
        (own,) = images_in([folder / name])
        if own:
            masks[name] = own
    for mask in images_in([folder])[0]:
        stem = mask.stem if mask.stem in stems else mask.stem.removesuffix("_mask")
        if stem not in stems:
            raise UserError(f"mask {mask} belongs to no image in {images[0].parent if images else folder}")
        if stem in masks:
            first = masks[stem][0].relative_to(folder)
            raise UserError(f"{first} and {mask.name} in {folder} are both masks of {stem}")
        masks[stem] = [mask]
    return masks
