"""Printed digits and letters, drawn from the fonts that matplotlib ships, one group per font family.

A character keeps its size and its place on the base line, so that the cases of look-alike letters stay apart.
Every font gives one upright drawing and some slightly turned, sheared and scaled ones; all of a family stay
on one side of a split.
"""

from __future__ import annotations

import math
import string
import sys
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from harness import seeds
from harness.contracts import Card, Data, Dataset, param
from scenarios.datasets.packaged import Arrays, checked, folder_of, prepared

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase

FAMILIES = {
    "DejaVu Sans": ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    "DejaVu Sans Mono": (
        "DejaVuSansMono",
        "DejaVuSansMono-Bold",
        "DejaVuSansMono-Oblique",
        "DejaVuSansMono-BoldOblique",
    ),
    "DejaVu Serif": ("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    "STIX": ("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    "Computer Modern Roman": ("cmr10", "cmb10", "cmti10"),
    "Computer Modern Sans": ("cmss10",),
    "Computer Modern Typewriter": ("cmtt10",),
}
"""Fonts by family. Symbol fonts put arrows and braces at letters and are left out; so is cmmi10, whose digits
are old-style.
"""

_SIDE, _FINE = 28, 4  # drawn four times as large, then averaged


class Glyphs(Dataset):
    """Printed digits and letters in 21 fonts of seven families; needs nothing but matplotlib."""

    variants: int = param(
        3, "drawings of a character per font: the upright one and slightly deformed ones", ge=1, le=50
    )

    card: ClassVar[Card] = Card(
        title="Printed characters from matplotlib's fonts",
        items=62 * 21 * 3,
        classes=62,
        shape=(1, 28, 28),
        licence="the fonts' own: DejaVu (Bitstream Vera), STIX, BaKoMa; free to use and redistribute",
        source="mpl-data/fonts/ttf in matplotlib, drawn by Pillow",
        package="matplotlib (tested 3.11.2)",
        digest="417a793d44a9db5c3145ae471cd4bcde1e53993d7fcff24ca4d1fad7f954b7dc",
        notes="The digest is taken over the font files; the pixels also depend on Pillow's FreeType "
        "(tested Pillow 12). Groups are font "
        "families, so a test family is never seen in training; with seven families a test fraction of 0.2 "
        "is one family.",
    )

    def load(self) -> Data:
        """Return inputs uint8 (items, 1, 28, 28), ink bright on black, in the order of font, character,
        variant.
        """
        name = f"glyphs-{self.variants}"
        arrays = prepared(name, digest=self.card.digest, recipe=sys.modules[__name__], make=self._prepare)
        return Data(
            inputs=arrays["inputs"],
            labels=arrays["labels"],
            class_names=tuple(CHARACTERS),
            groups=arrays["groups"],
        )

    def _prepare(self) -> Arrays:
        from PIL import ImageFont

        folder = folder_of("matplotlib", inside="mpl-data/fonts/ttf")
        names = [(group, name) for group, family in enumerate(FAMILIES.values()) for name in family]
        checked(
            [folder / f"{name}.ttf" for _, name in names], digest=self.card.digest, package=self.card.package
        )
        images, labels, groups = [], [], []
        for group, name in names:
            font = ImageFont.truetype(str(folder / f"{name}.ttf"), size=round(0.74 * _SIDE * _FINE))
            rng = seeds.stream("glyphs", seed=0, font=name)
            for label, character in enumerate(CHARACTERS):
                images += [
                    _draw(font, character, _deformation(rng) if variant else np.eye(2))
                    for variant in range(self.variants)
                ]
                labels += [label] * self.variants
                groups += [group] * self.variants
        return {
            "inputs": np.stack(images)[:, None],
            "labels": np.array(labels, np.int64),
            "groups": np.array(groups, np.int64),
        }


def _deformation(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a small turn (6 degrees), shear (0.1) and scaling (8 %), standard deviations, as a 2 x 2 matrix."""
    turn = math.radians(6) * rng.normal()
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    shear = np.array([[1.0, 0.1 * rng.normal()], [0.0, 1.0]])
    return np.asarray(rotation @ shear @ np.diag(np.exp(0.08 * rng.normal(size=2))))


def _draw(font: FreeTypeFont, character: str, deformation: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Draw `character` on the base line and deform it about the middle of the picture; return uint8 (28, 28)."""
    from PIL import Image, ImageDraw

    side = _SIDE * _FINE
    image = Image.new("L", (side, side))
    ImageDraw.Draw(image).text((side / 2, 0.74 * side), character, fill=255, font=font, anchor="ms")
    shift = side / 2 - deformation @ np.array([side / 2, side / 2])
    (a, b), (c, d) = deformation
    image = image.transform(
        (side, side), Image.Transform.AFFINE, (a, b, shift[0], c, d, shift[1]), Image.Resampling.BILINEAR
    )
    return np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BOX))
