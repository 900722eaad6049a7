"""Pictures of one's own, in files or inside of other files: decoded once into a pack, of one size.

Where no size is said, all of them need the same one, and come as they are.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from harness.contracts import AnyArray, Inputs, param
from harness.errors import UserError
from scenarios.datasets.own.base import Content, Own, digest_in_order
from scenarios.datasets.own.marks import Marks
from scenarios.datasets.packed import Packed, Sizes, packed_items, planes, squared
from scenarios.datasets.pictures_shown import shown, size_shown


class Source(NamedTuple):
    """A picture: what it is called in messages, and its bytes where it is no file of its own."""

    name: str
    content: bytes | None = None


class Pictures(Own):
    """Pictures of one's own, of any size."""

    resize: int = param(
        0,
        "side that pictures are brought to, with keep_aspect the shorter one; 0 where all have one size and keep it",
        ge=0,
        unit="px",
    )
    crop: int = param(
        0, "side of the centre that is kept; 0 for all that resize leaves of a square", ge=0, unit="px"
    )
    keep_aspect: bool = param(True, "whether the sides keep their proportion")
    draft: bool = param(
        False,
        "decode JPEG files at a half, a quarter or an eighth where that leaves twice the size asked for: faster for "
        "large photographs, values differ by a few of 255",
    )
    colour: bool = param(True, "three channels; false for one, how bright it is")

    def pictured(self, marks: Marks, hashes: Sequence[str], source: Callable[[int], Source]) -> Content:
        """Return pictures as content.

        Args:
            marks: of N pictures.
            hashes: of their bytes.
            source: returns a picture by its row, from several threads at once.

        Raises:
            UserError: the first cannot be read, or the sizes contradict each other.
        """
        if not self.resize and self.crop:
            raise UserError(f"crop={self.crop} cuts the centre out of what resize leaves: say resize too")
        if not self.resize and self.draft:
            raise UserError(
                "draft=true decodes at a part of the size, down to twice that of resize: say resize too"
            )
        sizes = Sizes(resize=self.resize, crop=self.crop, keep_aspect=self.keep_aspect)
        first = source(0)
        width, height = (sizes.side, sizes.side) if self.resize else size_shown(*first)
        shape = (3 if self.colour else 1, height, width)

        def read(row: int) -> AnyArray:
            return _pixels(source(row), shape, sizes if self.resize else None, first.name, draft=self.draft)

        def inputs() -> Inputs:
            return _packed(hashes, shape, f"{sizes}{' draft' if self.draft else ''}", read)

        return Content(
            marks=marks,
            shape=shape,
            digest=digest_in_order(marks, hashes),
            inputs=inputs,
            name=lambda row: source(row).name,
            hashes=lambda: hashes,
            broken=lambda: _broken(len(hashes), read),
        )


def _packed(
    hashes: Sequence[str], shape: tuple[int, ...], sizes: str, read: Callable[[int], AnyArray]
) -> Packed:
    code = hashlib.sha256(inspect.getsource(sys.modules[__name__]).encode()).hexdigest()
    return packed_items(
        range(len(hashes)), hashes, f"own pictures {code} {sizes} {shape}", shape, "uint8", read
    )


def _pixels(
    source: Source, shape: tuple[int, ...], sizes: Sizes | None, first: str, *, draft: bool
) -> AnyArray:
    """Return uint8 of `shape`: (channels, height, width)."""
    picture = shown(*source, least=2 * sizes.resize if draft and sizes is not None else 0)
    if sizes is not None:
        picture = squared(picture, sizes)
    elif picture.size != (shape[2], shape[1]):
        raise UserError(
            f"{source.name} has {picture.size[0]} x {picture.size[1]} pixels, {first} {shape[2]} x {shape[1]}: say "
            "resize=SIDE to bring all to one size"
        )
    return planes(picture if shape[0] == 3 else picture.convert("L"))


def _broken(items: int, read: Callable[[int], AnyArray]) -> list[str]:
    def complaint(row: int) -> str:
        try:
            read(row)
        except UserError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [said for said in pool.map(complaint, range(items)) if said]


__all__ = ["Pictures", "Source"]
