"""Real surfaces with drawn defects, from photographs that installed packages ship: what the scenario deals
where no data set is on disk.

What it is: ONE photograph a category, square crops of it, and defects drawn by a procedure. Crops of one side
overlap, so the test images of a category are not independent of one another and small differences mean
nothing. Low-level contrast is rewarded, above all at severity `easy`. It tests a pipeline, shows forgetting
and ranks crude differences; it is no stand-in for MVTec-AD, and its scores say nothing about scores there. Of
the default set only `brick`, `grass` and `gravel` are documented as CC0; the others come under the licence of
miniworld as a whole, and `grill` and `stucco` may be rendered rather than photographed. A turned piece of the
same surface hardly shows on `stucco`, `ceiling`, `grass` and `gravel`, where no direction is special. In
`photos`, hubble and immunohistochemistry are texture-like pictures, not surfaces, and the right of the latter
differs from its left.

Photographs are reduced by area, then split by columns: the left 60 % for training, the right 40 % for the
test, with a gap. Foreign content comes from photographs that are no category, and is grey where the surface
is. Files are found without importing their packages.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness import seeds
from harness.contracts import IntArray
from harness.errors import UserError
from scenarios.anomaly.defects import SEVERITIES, Defective, Material, Picture, drawn
from scenarios.anomaly.pool import GOOD, Pool
from scenarios.datasets.packaged import Arrays, checked, folder_of, prepared

TRAIN_SHARE = 0.6
GAP = 4
"""Columns between the two parts, after reduction."""
_TRIES = 200

_SKIMAGE, _MINIWORLD, _SKLEARN = (
    ("skimage", "data"),
    ("miniworld", "textures"),
    ("sklearn", "datasets/images"),
)
_PACKAGES = "scikit-image (tested 0.26.0), miniworld (2.1.0) and scikit-learn (1.9.1)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Photograph:
    """A picture in an installed package. scale: how far it is reduced, so that a crop of 64 px shows enough
    of the pattern.
    """

    package: tuple[str, str]
    file: str
    scale: float

    def path(self) -> Path:
        """Return where it is; raise `UserError` where its package is missing."""
        return folder_of(self.package[0], inside=self.package[1]) / self.file


CONTENTS: Mapping[str, Mapping[str, Photograph]] = MappingProxyType(
    {
        "surfaces": {
            "brick": Photograph(package=_SKIMAGE, file="brick.png", scale=0.5),
            "ceiling": Photograph(package=_MINIWORLD, file="ceiling_tile_noborder_1.png", scale=0.5),
            "grass": Photograph(package=_SKIMAGE, file="grass.png", scale=0.5),
            "gravel": Photograph(package=_SKIMAGE, file="gravel.png", scale=0.5),
            "grill": Photograph(package=_MINIWORLD, file="metal_grill_2.png", scale=0.25),
            "planks": Photograph(package=_MINIWORLD, file="wood_planks_1.png", scale=0.25),
            "rock": Photograph(package=_MINIWORLD, file="rock_1.png", scale=0.25),
            "stucco": Photograph(package=_MINIWORLD, file="stucco_1.png", scale=0.5),
        },
        "photos": {
            "brick": Photograph(package=_SKIMAGE, file="brick.png", scale=0.5),
            "grass": Photograph(package=_SKIMAGE, file="grass.png", scale=0.5),
            "gravel": Photograph(package=_SKIMAGE, file="gravel.png", scale=0.5),
            "hubble": Photograph(package=_SKIMAGE, file="hubble_deep_field.jpg", scale=0.5),
            "immunohistochemistry": Photograph(package=_SKIMAGE, file="ihc.png", scale=0.5),
        },
    }
)
"""The categories of every content set, in alphabetical order."""

FOREIGN: tuple[Photograph, ...] = (
    Photograph(package=_SKIMAGE, file="camera.png", scale=0.5),
    Photograph(package=_SKIMAGE, file="coffee.png", scale=0.5),
    Photograph(package=_SKIMAGE, file="rocket.jpg", scale=0.5),
    Photograph(package=_SKIMAGE, file="coins.png", scale=0.5),
    Photograph(package=_SKLEARN, file="china.jpg", scale=0.5),
    Photograph(package=_SKLEARN, file="flower.jpg", scale=0.5),
)

DIGESTS: Mapping[str, str] = MappingProxyType(
    {
        "surfaces": "4e347720ce75c85f0dc999834097b4bbec76c0ad88980ad23d0f10bb0a8f2e38",
        "photos": "fb0d95ef640994e8bfe680340a34af7b5987a9a832b28efd205b89c645fe79eb",
    }
)
"""SHA-256 over the files of every content set and those of `FOREIGN`."""


class Amounts(NamedTuple):
    """How many crops of every category: to train on, good and defective ones to test, and defective ones
    among the training crops.
    """

    train: int
    good: int
    bad: int
    stray: int = 0


def photographs(content: str) -> Arrays:
    """Return the reduced photographs of a content set, uint8 (h, w, 3) by category, and the foreign ones as
    `foreign-0` and so on.

    Raises:
        UserError: a package is missing or its files are other ones.
    """
    return prepared(
        f"textures-{content}",
        digest=DIGESTS[content],
        recipe=sys.modules[__name__],
        make=lambda: _reduced(content),
    )


def texture_pool(
    content: str,
    categories: tuple[str, ...],
    amounts: Amounts,
    *,
    size: int,
    severity: str,
    kinds: tuple[str, ...],
    seed: int,
) -> Pool:
    """Cut crops of `size` pixels and draw defects under `seed`.

    Positions come from the stream `data`, defects from the stream `defects`, each addressed by category, part
    and item: asking for more crops of one part moves no other crop. The kinds of defects take turns.

    Raises:
        UserError: a photograph is too small for so many or such large crops, or a kind of defect does not
        show on it.
    """
    photos = photographs(content)
    foreign = [photo for name, photo in photos.items() if name.startswith("foreign-")]
    images: list[Defective] = []
    for name in categories:
        surface = Surface(name, photos[name], foreign, size, seed)
        for part, number in (("train", amounts.train), ("good", amounts.good)):
            images += [
                Defective(crop, np.zeros((size, size), dtype=bool))
                for crop in surface.crops(part, number, train=part == "train")
            ]
        for part, number in (("bad", amounts.bad), ("stray", amounts.stray)):
            images += [
                surface.defective(part, item, kinds[item % len(kinds)], severity, train=part == "stray")
                for item in range(number)
            ]
    parts = np.repeat(np.arange(4), (amounts.train, amounts.good, amounts.bad, amounts.stray))
    turns = np.concatenate([np.arange(number) % len(kinds) + 1 for number in (amounts.bad, amounts.stray)])
    defect = np.concatenate([np.zeros(amounts.train + amounts.good, dtype=np.int64), turns])
    return Pool(
        categories=categories,
        kinds=(GOOD, *kinds),
        inputs=np.stack([image.image for image in images]).transpose(0, 3, 1, 2).copy(),
        masks=np.stack([image.mask for image in images]),
        category=np.repeat(np.arange(len(categories), dtype=np.int64), sum(amounts)),
        defect=np.tile(defect, len(categories)),
        sample=np.arange(len(images), dtype=np.int64),
        train=np.tile(np.isin(parts, (0, 3)), len(categories)),
        has_mask=np.tile(defect > 0, len(categories)),
    )


class Surface:
    """One photograph, parted; crops and defects of it under one seed."""

    def __init__(
        self, name: str, photo: NDArray[np.uint8], foreign: list[NDArray[np.uint8]], size: int, seed: int
    ) -> None:
        self.name, self.size, self.seed = name, size, seed
        cut = round(TRAIN_SHARE * photo.shape[1])
        self.parts = {True: photo[:, :cut], False: photo[:, cut + GAP :]}
        narrowest = min(len(photo), *(part.shape[1] for part in self.parts.values()))
        if size > narrowest:
            raise UserError(
                f"size={size} is larger than the {narrowest} px that the photograph of {name} leaves for a part"
            )
        grey = (photo == photo[..., :1]).all()
        self.foreign = [_fraction(_greyed(other) if grey else other) for other in foreign]

    def crops(self, part: str, number: int, *, train: bool) -> list[NDArray[np.uint8]]:
        """Return `number` crops of different places."""
        photo = self.parts[train]
        down, across = (side - self.size + 1 for side in photo.shape[:2])
        if number > down * across:
            raise UserError(
                f"{number} crops of {self.size} px do not fit the {part} part of {self.name}, which has "
                f"{down * across} places"
            )
        places: IntArray = seeds.stream("data", seed=self.seed, category=self.name, part=part).permutation(
            down * across
        )[:number]
        return [self._cut(photo, int(place) // across, int(place) % across) for place in places]

    def defective(self, part: str, item: int, kind: str, severity: str, *, train: bool) -> Defective:
        """Return a crop with a defect that shows; drawn again, place and all, until it does."""
        photo = self.parts[train]
        address: dict[str, str | int] = {"category": self.name, "part": part, "item": item}
        places, strokes = (seeds.stream(name, seed=self.seed, **address) for name in ("data", "defects"))
        own = _fraction(photo)
        for _ in range(_TRIES):
            top, left = places.integers(0, np.array(photo.shape[:2]) - self.size + 1)
            material = Material(_fraction(self._cut(photo, int(top), int(left))), own, self.foreign)
            if (found := drawn(kind, material, SEVERITIES[severity], strokes)) is not None:
                return found
        raise UserError(
            f"{kind} does not show on {self.name} at severity {severity} ({_TRIES} draws); leave it out of kinds"
        )

    def _cut(self, photo: NDArray[np.uint8], top: int, left: int) -> NDArray[np.uint8]:
        return photo[top : top + self.size, left : left + self.size]


def _reduced(content: str) -> Arrays:
    """Read, check and reduce the photographs of a content set and the foreign ones."""
    named = {**CONTENTS[content], **{f"foreign-{index}": photo for index, photo in enumerate(FOREIGN)}}
    checked([photo.path() for photo in named.values()], digest=DIGESTS[content], package=_PACKAGES)
    return {name: _read(photo) for name, photo in named.items()}


def _read(photo: Photograph) -> NDArray[np.uint8]:
    from PIL import Image

    with Image.open(photo.path()) as opened:
        image = opened.convert("RGB")
    reduced = image.resize(
        (round(image.width * photo.scale), round(image.height * photo.scale)), Image.Resampling.BOX
    )
    return np.asarray(reduced)


def _greyed(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    grey = np.rint(photo @ np.array([0.299, 0.587, 0.114]))
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def _fraction(photo: NDArray[np.uint8]) -> Picture:
    return photo.astype(np.float32) / np.float32(255)
