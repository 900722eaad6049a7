"""Categories by name: those that data sets publish, and lists of them as text, `carpet+grid` or
`visa:candle+visa:pcb1`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from harness.errors import UserError, unknown

PUBLISHED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "mvtec": (
            "bottle",
            "cable",
            "capsule",
            "carpet",
            "grid",
            "hazelnut",
            "leather",
            "metal_nut",
            "pill",
            "screw",
            "tile",
            "toothbrush",
            "transistor",
            "wood",
            "zipper",
        ),
        "mvtec-loco": ("breakfast_box", "juice_bottle", "pushpins", "screw_bag", "splicing_connectors"),
        "mvtec-ad-2": ("can", "fabric", "fruit_jelly", "rice", "sheet_metal", "vial", "wallplugs", "walnuts"),
        "visa": (
            "candle",
            "capsules",
            "cashew",
            "chewinggum",
            "fryum",
            "macaroni1",
            "macaroni2",
            "pcb1",
            "pcb2",
            "pcb3",
            "pcb4",
            "pipe_fryum",
        ),
        "realiad": (
            "audiojack",
            "bottle_cap",
            "button_battery",
            "end_cap",
            "eraser",
            "fire_hood",
            "mint",
            "mounts",
            "pcb",
            "phone_battery",
            "plastic_nut",
            "plastic_plug",
            "porcelain_doll",
            "regulator",
            "rolled_strip_base",
            "sim_card_set",
            "switch",
            "tape",
            "terminalblock",
            "toothbrush",
            "toy",
            "toy_brick",
            "transistor1",
            "u_block",
            "usb",
            "usb_adaptor",
            "vcpill",
            "wooden_beads",
            "woodstick",
            "zipper",
        ),
    }
)
"""MVTec-AD (Bergmann et al. 2019), MVTec LOCO AD (Bergmann et al. 2022), MVTec AD 2 (Heckler-Kram et al. 2025),
VisA (Zou et al. 2022), Real-IAD (Wang et al. 2024), each in alphabetical order.
"""


def listed(text: str) -> tuple[str, ...]:
    """Return the names in `text`, which are joined by + ; spaces around them do not count.

    >>> listed("carpet + grid")
    ('carpet', 'grid')
    """
    return tuple(name.strip() for name in text.split("+") if name.strip())


def foreign(text: str) -> tuple[str, ...]:
    """Return the names in `text` with those of other data sets, `visa:candle`, written out: `visa:all` are
    all of VisA.

    Raises:
        UserError: a data set or a category of it that is not published.
    """
    names: list[str] = []
    for name in listed(text):
        source, colon, category = name.partition(":")
        if colon and source not in PUBLISHED:
            raise unknown("data set", source, PUBLISHED, ", ".join(PUBLISHED))
        if category == "all":
            names += [f"{source}:{own}" for own in PUBLISHED[source]]
        elif colon:
            names += [
                f"{source}:{own}"
                for own in chosen(category, PUBLISHED[source], what="category", where=source)
            ]
        else:
            names.append(name)
    return tuple(names)


def chosen(text: str, valid: Sequence[str], *, what: str, where: str) -> tuple[str, ...]:
    """Return the names in `text`, all of `valid` where it is empty.

    Raises:
        UserError: a name that does not exist, with the nearest one, or one that is said twice.
    """
    names = listed(text) or tuple(valid)
    for index, name in enumerate(names):
        if name not in valid:
            raise unknown(what, name, valid, f"{where} has {', '.join(valid)}")
        if name in names[:index]:
            raise UserError(f"{what} {name} is listed twice")
    return names
