"""Images of a data set on disk, decoded once: resized, cut and packed into one file that is mapped into
memory.

A pack lies in the cache folder under a key of the files' contents, the sizes, this code and Pillow's version;
one that was changed later is told and made again. Its rows are in the order of the contents' hashes, so that
neither a row number nor the name of the pack tells a category, a defect or which images are to test. `Packed`
hands out rows and holds nothing but the pack's path and their numbers.

Masks go the way of the released code (INP-Former, Dinomaly): whatever is not black is defective, the 0-1
picture is resized like the image (bilinear with antialiasing), cut, brought to the evaluation resolution by
nearest pixels, and only then is the mask rule applied. So the rule decides about pixels that a defect covers
in part; a mask resized by nearest pixels alone would leave it nothing to decide.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.contracts import AnyArray, IntArray
from harness.errors import UserError
from harness.places import cache_folder
from scenarios.datasets import pictures_shown
from scenarios.datasets.pack_files import is_whole, rows_of, write_pack
from scenarios.datasets.pictures_shown import marked, shown, size_shown

if TYPE_CHECKING:
    from PIL.Image import Image

S = TypeVar("S")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How images become squares of one size, in px.

    resize: both sides, or with `keep_aspect` the shorter one.  crop: the side of the centre that is kept, 0
    for `resize`.
    """

    resize: int
    crop: int
    keep_aspect: bool = False

    def __post_init__(self) -> None:
        """Raise `UserError` where more is kept than there is."""
        if self.crop > self.resize:
            raise UserError(f"crop={self.crop} is larger than resize={self.resize}")

    @property
    def side(self) -> int:
        """The side of what is left."""
        return self.crop or self.resize


@dataclass(frozen=True, slots=True)
class Packed:
    """Some rows of a pack, by number: int64 (N,); a row of -1 is all zeros. Opened where it is read, so it
    travels as a path.
    """

    path: str
    rows: IntArray
    item_shape: tuple[int, ...]
    dtype: str

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, *item shape)."""
        return (len(self.rows), *self.item_shape)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: IntArray) -> AnyArray:
        rows = self.rows[index]
        there = rows >= 0
        if there.all() and len(self.rows):
            return rows_of(self.path, rows)
        items = np.zeros((*rows.shape, *self.item_shape), dtype=self.dtype)
        if there.any():
            items[there] = rows_of(self.path, rows[there])
        return items

    def subset(self, rows: IntArray) -> Packed:
        """Return the items at `rows`, in that order; the numbers of the others are left behind."""
        return replace(self, rows=self.rows[rows].copy())


def packed_images(paths: Sequence[Path], hashes: Sequence[str], sizes: Sizes) -> Packed:
    """Return the images as uint8 (N, 3, side, side), packed where they are not yet.

    Raises:
        UserError: a damaged image, or one that is not of 8 bits a channel, named; or no place for the pack.
    """
    return packed_items(
        paths,
        hashes,
        f"images {sizes}",
        (3, sizes.side, sizes.side),
        "uint8",
        lambda path: _image(path, sizes),
    )


def packed_masks(
    masks: Sequence[Path | None],
    images: Sequence[Path],
    hashes: Sequence[str],
    sizes: Sizes,
    *,
    resolution: int,
    rule: str,
    more: Mapping[Path, Sequence[Path]] = MappingProxyType({}),
) -> Packed:
    """Return the masks as bool (N, resolution, resolution), all False where there is none.

    Args:
        masks: of N images, None where there is none.
        images: the images they belong to.
        hashes: of the masks that there are, in their order.
        sizes: those of the images.
        resolution: side of evaluated masks.
        rule: ">0.5" or ">0".
        more: further masks of the same image, by its first one; defective is what any of them marks.

    Raises:
        UserError: a damaged mask, one of another size than its image, or an empty one, named.
    """
    least = {">0.5": 0.5, ">0": 0.0}[rule]
    own = {mask: image for mask, image in zip(masks, images, strict=True) if mask is not None}
    pack = packed_items(
        [*own],
        hashes,
        f"masks {sizes} {resolution} {rule}",
        (resolution, resolution),
        "bool",
        lambda path: _mask([path, *more.get(path, ())], own[path], sizes, resolution) > least,
    )
    row_of = dict(zip(own, pack.rows, strict=True))
    rows = np.array([-1 if mask is None else row_of[mask] for mask in masks], dtype=np.int64)
    return replace(pack, rows=rows)


def packed_items(
    sources: Sequence[S],
    hashes: Sequence[str],
    recipe: str,
    shape: tuple[int, ...],
    dtype: str,
    read: Callable[[S], AnyArray],
) -> Packed:
    """Return items of any kind, packed where they are not yet.

    Args:
        sources: of N items: files, or rows of something.
        hashes: of the contents of the N items.
        recipe: what `read` makes of a content; another recipe is another pack.
        shape: of one item.
        dtype: of one item.
        read: returns the item of a source, from several threads at once.

    Raises:
        UserError: as `read`; or there is no place for the pack.
    """
    order = np.argsort(np.array(hashes, dtype=np.str_), kind="stable")
    key = hashlib.sha256(
        "\n".join(
            [
                *map(inspect.getsource, (sys.modules[__name__], pictures_shown)),
                version("pillow"),
                recipe,
                *(hashes[item] for item in order),
            ]
        ).encode()
    )
    folder = cache_folder()
    if folder is None:
        raise UserError(
            "packed items need a folder to lie in, and this user has no home folder: set OWB_CACHE to one "
            "with room for them"
        )
    path = folder / f"pack-{key.hexdigest()[:32]}.npy"
    if sources and not is_whole(path, (len(sources), *shape)):
        write_pack(path, [sources[item] for item in order], shape, dtype, read)
    return Packed(str(path), np.argsort(order).astype(np.int64), shape, dtype)


def _image(path: Path, sizes: Sizes) -> NDArray[np.uint8]:
    return planes(squared(shown(path), sizes))


def _mask(paths: Sequence[Path], image: Path, sizes: Sizes, resolution: int) -> NDArray[np.float32]:
    """Return how far defects cover every evaluated pixel, float32 (resolution, resolution)."""
    from PIL import Image

    defective = np.logical_or.reduce([_marked(path, image) for path in paths])
    covered = np.asarray(squared(Image.fromarray(255 * defective.astype(np.uint8)), sizes))
    nearest = np.arange(resolution) * sizes.side // resolution
    return covered[nearest][:, nearest].astype(np.float32) / np.float32(255)


def _marked(path: Path, image: Path) -> NDArray[np.bool_]:
    """Return where a mask says that its image is defective, bool (height, width)."""
    defective, (width, height) = marked(path), size_shown(image)
    if defective.shape != (height, width):
        turned = (
            "; one of them lies on its side, an EXIF orientation turns it alone"
            if defective.shape == (width, height)
            else ""
        )
        raise UserError(
            f"mask {path} has {defective.shape[1]} x {defective.shape[0]} pixels, its image {image} "
            f"{width} x {height}{turned}"
        )
    if not defective.any():
        raise UserError(f"mask {path} is empty, but {image} counts as defective")
    return defective


def squared(image: Image, sizes: Sizes) -> Image:
    """Return an image as the square that `sizes` says."""
    from PIL.Image import Resampling

    width = height = sizes.resize
    if sizes.keep_aspect:
        width, height = (side * sizes.resize // min(image.size) for side in image.size)
    left, top = round((width - sizes.side) / 2), round((height - sizes.side) / 2)
    return image.resize((width, height), Resampling.BILINEAR).crop(
        (left, top, left + sizes.side, top + sizes.side)
    )


def planes(picture: Image) -> NDArray[np.uint8]:
    """Return a picture of mode L or RGB as uint8 (channels, height, width)."""
    bands = picture.getbands()
    content = b"".join(picture.tobytes("raw", band) for band in bands)
    return np.frombuffer(content, dtype=np.uint8).reshape(len(bands), picture.height, picture.width)
