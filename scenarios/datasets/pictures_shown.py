"""A picture file as a viewer shows it: upright, indexed pictures in their colours, what is clear over a plain
ground, in 8 bits a channel.

EXIF says how a camera was held; a picture is turned accordingly, and so is a mask. Colours below what is
clear do not show: a photograph lies over white, a mask over black, so that nothing is defective where nothing
was painted. Of 16 bits a viewer shows the high byte, as Pillow does itself of colours; where all values are
so low that it shows black, the picture is refused. Colour profiles are not applied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.contracts import AnyArray
from harness.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image, Transpose

_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
_LEAST_OF_16 = 4096
"""Pictures of 16 bits that stay below this use 12 bits at most, and look black."""
_LOSSY = ("AVIF", "JPEG", "JPEG2000", "MPO", "WEBP")


def shown(path: Path | str, content: bytes | None = None, *, least: int = 0) -> Image:
    """Return a photograph as a viewer shows it, in mode RGB.

    Args:
        path: of its file; of a picture that lies in something else, what to call it.
        content: the bytes of such a picture.
        least: both sides that are needed at least, in px; a JPEG file that is twice, four or eight times as large is
            decoded at that part of its size. 0 for the size it has.

    Raises:
        UserError: the file is damaged, no picture, or of values that no viewer shows alike, named.
    """
    from PIL import Image

    opened = _upright(path, content, least)
    if (deep := _deep(opened)) is not None:
        if 0 < (largest := int(deep.max())) < _LEAST_OF_16:
            raise UserError(
                f"image {path} is of 16 bits and has no value above {largest}, which shows as black; scale "
                "its values to 16 "
                "bits first, or convert it to 8 bits a channel"
            )
        opened = Image.fromarray((deep >> 8).astype(np.uint8))
    return _over(opened, "white", path)


def size_shown(path: Path | str, content: bytes | None = None) -> tuple[int, int]:
    """Return width and height of a picture as a viewer shows it, in px; of most, nothing but the head of the
    file is read.

    Raises:
        UserError: the file is damaged or no picture, named.
    """
    with _reading(path, content) as opened:
        if _turn(opened) is None:
            return opened.size
    return _upright(path, content).size


def marked(path: Path) -> NDArray[np.bool_]:
    """Return where a mask is not black, bool (height, width); in formats that change values, where it is
    nearer to white.

    Raises:
        UserError: as `shown`.
    """
    opened = _upright(path)
    values: AnyArray = np.asarray(
        opened if opened.mode[0] in "IF" else _over(opened, "black", path)
    )  # of deep values none is too low
    values = values if values.ndim == 2 else values.max(axis=2)
    return values > (127 if _is_lossy(path, opened.format) else 0)


def _upright(path: Path | str, content: bytes | None = None, least: int = 0) -> Image:
    """Return a decoded picture, turned as EXIF says; its format is kept."""
    with _reading(path, content) as opened:
        if least:
            opened.draft(None, (least, least))
        opened.load()  # which turns a TIFF by itself
        turn = _turn(opened)
        if turn is None:
            return opened
        turned = opened.transpose(turn)
    turned.format = opened.format
    return turned


def _turn(opened: Image) -> Transpose | None:
    """Return what brings a picture upright; None where it is or does not say."""
    from PIL.Image import Transpose

    turns: Mapping[int, Transpose] = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    try:
        orientation = opened.getexif().get(0x0112)
    except (
        Exception
    ):  # damaged EXIF fails anywhere in its reader; a viewer shows such a picture as it is stored
        return None
    return turns.get(orientation) if isinstance(orientation, int) else None


def _deep(opened: Image) -> NDArray[np.int64] | None:
    """Return the values of a grey picture of 16 bits, None of any other; a few formats come in Pillow's mode
    of 32 bits.
    """
    if opened.mode.startswith("I;16") or (opened.mode == "I" and opened.format in ("PNG", "PPM")):
        return np.asarray(opened).astype(np.int64)
    return None


def _over(opened: Image, ground: str, path: Path | str) -> Image:
    """Return a picture of 8 bits a channel over a plain ground, in mode RGB."""
    from PIL import Image

    if opened.mode not in _EIGHT_BIT:
        raise UserError(
            f"image {path} is of mode {opened.mode}, which viewers do not show alike; convert it to 8 bits "
            "a channel first"
        )
    if opened.has_transparency_data:
        opened = Image.alpha_composite(Image.new("RGBA", opened.size, ground), opened.convert("RGBA"))
    return opened if opened.mode == "RGB" else opened.convert("RGB")


def _is_lossy(path: Path, form: str | None) -> bool:
    """Whether values of a file may be others than were saved; the chunks of a WebP say whether they are."""
    if form != "WEBP":
        return form in _LOSSY
    with path.open("rb") as file:
        return b"VP8L" not in file.read(64)


@contextmanager
def _reading(path: Path | str, content: bytes | None) -> Iterator[Image]:
    from PIL import Image

    try:
        with Image.open(path if content is None else BytesIO(content)) as opened:
            yield opened
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot read the image {path}: damaged, or not an image ({error})") from None
