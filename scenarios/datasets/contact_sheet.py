"""A contact sheet: a few images of every class side by side, as one picture or one page."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.contracts import Data, IntArray
from harness.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

EACH = 8
MOST_CLASSES = 100
FORMATS = (".png", ".html")
_SIDE, _NAMES, _GAP = 64, 160, 2


def write_sheet(data: Data, path: Path) -> str:
    """Write images of the classes, evenly spread over their items; return what was left out, in words.

    Args:
        data: images (N, channels, height, width).
        path: ends in .png or .html, which shows names in any script.

    Raises:
        UserError: other inputs than images, another format, or a file that cannot be written.
    """
    if len(data.inputs.shape) != 4 or data.inputs.shape[1] not in (1, 3):
        raise UserError(
            f"a contact sheet shows images of 1 or 3 channels, these inputs have shape {tuple(data.inputs.shape)}"
        )
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"a contact sheet is called *{' or *'.join(FORMATS)}, not {path.name}")
    content = _page(data) if path.suffix.lower() == ".html" else _picture(data)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
    left = len(data.class_names) - MOST_CLASSES
    return f"the first {MOST_CLASSES} of {len(data.class_names)} classes" if left > 0 else ""


def _picture(data: Data) -> bytes:
    from PIL import Image, ImageDraw

    strips = [*_strips(data)]
    step = _SIDE + _GAP
    sheet = Image.new("RGB", (_NAMES + EACH * step, len(strips) * step), "white")
    pen = ImageDraw.Draw(sheet)
    for line, (name, strip) in enumerate(strips):
        pen.text((4, line * step + _SIDE // 2 - 6), name[:24], fill="black")
        sheet.paste(strip, (_NAMES, line * step))
    return _png(sheet)


def _page(data: Data) -> bytes:
    lines = [
        f'<tr><th>{html.escape(name)}</th><td><img alt="" '
        f'src="data:image/png;base64,{base64.b64encode(_png(strip)).decode()}"></td></tr>'
        for name, strip in _strips(data)
    ]
    return (
        '<!doctype html><meta charset="utf-8"><title>contact sheet</title>'
        "<style>body{font:14px sans-serif;background:#fff;color:#000}th{text-align:left;padding-right:1em}</style>"
        f"<table>{''.join(lines)}</table>\n"
    ).encode()


def _strips(data: Data) -> Iterator[tuple[str, Image]]:
    """Yield the name of every class and a strip of its images."""
    from PIL import Image

    for label, name in enumerate(data.class_names[:MOST_CLASSES]):
        rows = np.flatnonzero(data.labels == label)
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, EACH).astype(np.int64))]
        strip = Image.new("RGB", (EACH * (_SIDE + _GAP), _SIDE), "white")
        for place, pixels in enumerate(_pixels(data, chosen)):
            shown = Image.fromarray(pixels)
            scale = _SIDE / max(shown.size)
            small = shown.resize((max(1, round(shown.width * scale)), max(1, round(shown.height * scale))))
            strip.paste(small, (place * (_SIDE + _GAP), 0))
        yield name, strip


def _pixels(data: Data, rows: IntArray) -> NDArray[np.uint8]:
    """Return images as uint8 (N, height, width, 3)."""
    images = np.asarray(data.inputs[rows])
    if images.dtype != np.uint8:
        images = np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(images.transpose(0, 2, 3, 1), (*_sides(images), 3)))


def _sides(images: NDArray[np.uint8]) -> tuple[int, int, int]:
    return len(images), images.shape[2], images.shape[3]


def _png(picture: Image) -> bytes:
    content = BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


__all__ = ["EACH", "FORMATS", "MOST_CLASSES", "write_sheet"]
