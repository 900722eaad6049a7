"""Handwritten digits and letters that the miniworld package ships as textures, prepared as EMNIST prepares
its own.

Every image is cut to its ink, blurred a little, scaled into 24 x 24 with its proportions kept, and centred in
28 x 28 (Cohen et al. 2017, "EMNIST", section II-A, has the same steps on 128 x 128 scans). The 47-class
variant joins the 15 letters whose cases look alike, as EMNIST's "balanced" split does.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.contracts import Card, Data, Dataset
from scenarios.datasets.packaged import Arrays, checked, folder_of, prepared

ALIKE = "cijklmopsuvwxyz"
"""Letters whose two cases EMNIST's 47-class variant joins."""

_SOURCE_DIGEST = "60fe709282ce9a5d97600ebaadd91fc398dc368b2dc3fb05e1f945357b86f72f"
_SIDE, _MARGIN = 28, 2


class Chars62(Dataset):
    """3,100 handwritten digits and letters, both cases apart: 62 classes of 50."""

    card: ClassVar[Card] = Card(
        title="Handwritten characters, 62 classes",
        items=3100,
        classes=62,
        shape=(1, 28, 28),
        licence="Apache-2.0 (package); scans very probably public domain (NIST SD 19), not proven",
        source=(
            "textures/chars in miniworld; its maintainer names NIST Special Database 19, elsewhere "
            "EMNIST, as origin"
        ),
        package="miniworld (tested 2.1.0)",
        digest=_SOURCE_DIGEST,
        notes="Upper and lower case of many letters cannot be told apart without context, which caps "
        "accuracy; chars47 joins them. "
        "No exact duplicates. Writers are not known, so one may be on both sides of a split.",
    )

    def load(self) -> Data:
        """Return inputs uint8 (3100, 1, 28, 28), ink bright on black, in the order of character code and
        number.
        """
        arrays = prepared(
            "chars",
            digest=_SOURCE_DIGEST,
            recipe=sys.modules[__name__],
            make=lambda: _prepare(self.card.package),
        )
        codes = arrays["codes"]
        present = np.unique(codes)
        return Data(
            inputs=arrays["inputs"],
            labels=np.searchsorted(present, codes).astype(np.int64),
            class_names=_names(present),
        )


class Chars47(Dataset):
    """3,100 handwritten digits and letters, look-alike cases joined: 47 classes of 50 or 100."""

    card: ClassVar[Card] = Card(
        title="Handwritten characters, 47 classes",
        items=3100,
        classes=47,
        shape=(1, 28, 28),
        licence=Chars62.card.licence,
        source=Chars62.card.source,
        package=Chars62.card.package,
        digest=_SOURCE_DIGEST,
        notes="The cases of C I J K L M O P S U V W X Y Z are joined as in EMNIST's balanced split; these "
        "15 classes have 100 items, "
        "the other 32 have 50. Writers are not known, so one may be on both sides of a split.",
    )

    def load(self) -> Data:
        """Return inputs uint8 (3100, 1, 28, 28); the items of `Chars62` in the same order, joined letters
        under their upper case.
        """
        arrays = prepared(
            "chars",
            digest=_SOURCE_DIGEST,
            recipe=sys.modules[__name__],
            make=lambda: _prepare(self.card.package),
        )
        upper = {ord(letter): ord(letter.upper()) for letter in ALIKE}
        codes = np.array([upper.get(int(code), int(code)) for code in arrays["codes"]])
        present = np.unique(codes)
        return Data(
            inputs=arrays["inputs"],
            labels=np.searchsorted(present, codes).astype(np.int64),
            class_names=_names(present),
        )


def _names(codes: NDArray[np.int64]) -> tuple[str, ...]:
    return tuple(chr(int(code)) for code in codes)


def _prepare(package: str) -> Arrays:
    folder = folder_of("miniworld", inside="textures/chars")
    files = checked(folder.glob("ch_0x*.png"), digest=_SOURCE_DIGEST, package=package)
    ordered = sorted(files, key=_code_and_number)
    images = np.stack([_ink_box(_ink(file)) for file in ordered])
    # The names say 0x, the numbers are decimal: 48 is the digit zero.
    return {
        "inputs": images[:, None],
        "codes": np.array([_code_and_number(file)[0] for file in ordered], dtype=np.int64),
    }


def _code_and_number(file: Path) -> tuple[int, int]:
    code, number = re.fullmatch(r"ch_0x(\d+)_(\d+)", file.stem).groups()  # type: ignore[union-attr]
    return int(code), int(number)


def _ink(file: Path) -> NDArray[np.uint8]:
    """Return the amount of ink (H, W), 255 where it is blackest."""
    from PIL import Image

    with Image.open(file) as image:
        return np.uint8(255) - np.asarray(image.convert("L"))


def _ink_box(ink: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut to the ink, blur, scale to fit, centre; return uint8 (28, 28)."""
    from PIL import Image, ImageFilter

    rows, columns = np.nonzero(ink > 64)
    box = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    image = Image.fromarray(np.pad(box, 2)).filter(ImageFilter.GaussianBlur(1))
    scale = (_SIDE - 2 * _MARGIN) / max(image.size)
    image = image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.BICUBIC
    )
    canvas = Image.new("L", (_SIDE, _SIDE))
    canvas.paste(image, ((_SIDE - image.width) // 2, (_SIDE - image.height) // 2))
    return np.asarray(canvas)
