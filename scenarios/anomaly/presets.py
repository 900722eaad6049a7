"""Presets for the embedded surfaces, and the published streams and settings of MVTec-AD, VisA and Real-IAD."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from harness.contracts import Preset

_SMALL = "sized here for a CPU"
_VIT = "timm:vit_base_patch14_reg4_dinov2"


def _on_disk(source: str, **said: Any) -> dict[str, Any]:
    """Return images, encoder, budget and evaluation as INP-Former has them, beside what is said."""
    return {
        "source": source,
        "resize": 448,
        "crop": 392,
        "resolution": 256,
        "backbone": _VIT,
        "epochs": 200,
        "batch_size": 16,
        **said,
    }


def _stream(source: str, base: int, increment: int, origin: str = "IUF, README") -> Preset:
    return Preset(
        values=_on_disk(source, setting="continual", base=base, increment=increment),
        source=f"{origin}, categories in alphabetical order; images, budget and evaluation of INP-Former",
    )


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "surfaces": Preset(values={"setting": "multi"}, source=_SMALL),
        "surfaces-single": Preset(values={"setting": "single"}, source=_SMALL),
        "surfaces-continual": Preset(values={"setting": "continual", "epochs": 20}, source=_SMALL),
        "surfaces-few-shot": Preset(
            values={"setting": "few-shot", "shots": 4, "gradient_steps": 600}, source=_SMALL
        ),
        "surfaces-zero-shot": Preset(
            values={"setting": "zero-shot", "zero_shot_source": "brick+grass+gravel"}, source=_SMALL
        ),
        "photos-continual": Preset(
            values={"content": "photos", "setting": "continual", "epochs": 20}, source=_SMALL
        ),
        "mvtec-14-1": _stream("mvtec", 14, 1),
        "mvtec-10-5": _stream("mvtec", 10, 5),
        "mvtec-3-3": _stream("mvtec", 3, 3),
        "mvtec-10-1": _stream("mvtec", 10, 1),
        "visa-11-1": _stream("visa", 11, 1),
        "visa-8-4": _stream("visa", 8, 4),
        "visa-8-1": _stream("visa", 8, 1),
        "ucad-mvtec": _stream("mvtec", 1, 1, "UCAD, released code"),
        "ucad-visa": _stream("visa", 1, 1, "UCAD, released code"),
        "inp-former-mvtec": Preset(values=_on_disk("mvtec"), source="INP-Former, released code, multi-class"),
        "inp-former-visa": Preset(values=_on_disk("visa"), source="INP-Former, released code, multi-class"),
        "inp-former-realiad": Preset(
            values=_on_disk("realiad"), source="INP-Former, released code, multi-class"
        ),
    }
)
