"""Sizes that fit a CPU on embedded data, and the published ones of Happy, MetaGCD, class-iNCD and PromptCCD."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from harness.contracts import Preset

_CODE = "Happy, released code"
_SHIFT = "initial classes are the known ones of the Semantic Shift Benchmark"
_SMALL = "sized here for a CPU; new to old items per class as in Happy"


def _published(dataset: str, initial: int, new: str, n_new: int, n_old: int) -> dict[str, Any]:
    """Return the values that Happy's runs share: the published test, known classes first, a DINO ViT-B/16
    that sees 224 of 256 px.
    """
    return {
        "dataset": dataset,
        "initial": initial,
        "new": new,
        "n_new": str(n_new),
        "n_init": str(n_old),
        "n_seen": str(n_old),
        "class_order": "novel",
        "test_fraction": 0.0,
        "backbone": "timm:vit_base_patch16_224.dino[crop_pct=0.875]",
        "augmentations": "crop[size=224,of=256]",
        "batch_size": 128,
        "first_epochs": 100,
        "epochs": 30,
    }


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "digits": Preset(
            values={
                "dataset": "digits",
                "initial": 4,
                "new": "3x2",
                "n_new": "100",
                "n_init": "8",
                "n_seen": "8",
                "backbone": "mlp",
                "augmentations": "affine[shift=0.1]",
                "batch_size": 64,
                "first_epochs": 40,
                "epochs": 40,
            },
            source=_SMALL,
        ),
        "chars47": Preset(
            values={
                "dataset": "chars47",
                "initial": 27,
                "new": "5x4",
                "n_new": "32",
                "n_init": "2",
                "n_seen": "2",
                "backbone": "cnn",
                "augmentations": "affine",
                "batch_size": 64,
                "first_epochs": 80,
                "epochs": 80,
            },
            source=_SMALL,
        ),
        "glyphs": Preset(
            values={
                "dataset": "glyphs",
                "initial": 32,
                "new": "5x6",
                "n_new": "48",
                "n_init": "4",
                "n_seen": "4",
                "backbone": "cnn",
                "augmentations": "affine",
                "batch_size": 128,
                "first_epochs": 20,
                "epochs": 30,
            },
            source=_SMALL,
        ),
        "clinc150": Preset(
            values={
                "dataset": "clinc150",
                "initial": 75,
                "new": "5x15",
                "n_new": "96",
                "n_init": "6",
                "n_seen": "6",
                "backbone": "adapter",
                "augmentations": "token-dropout",
                "batch_size": 128,
                "first_epochs": 50,
                "epochs": 30,
            },
            source=_SMALL,
        ),
        "happy-cifar100": Preset(
            values=_published("cifar100", 50, "5x10", 400, 25), source=f"{_CODE}, README; Table 1"
        ),
        "happy-cifar100-10": Preset(
            values=_published("cifar100", 50, "10x5", 400, 25), source="Happy, Tables 4 and 9"
        ),
        "happy-tinyimagenet": Preset(
            values=_published("tinyimagenet", 100, "5x20", 400, 25), source=f"{_CODE}, README; Table 1"
        ),
        "happy-tinyimagenet-10": Preset(
            values=_published("tinyimagenet", 100, "10x10", 400, 25), source="Happy, Tables 4 and 10"
        ),
        "happy-imagenet100": Preset(
            values={
                **_published("imagenet[subset=drawn100-0,crop=256]", 50, "5x10", 1000, 60),
                "classes": 100,
                "shortage": "all",
            },
            source=f"{_CODE}, logs; Table 1. The 100 classes are those that the code draws under seed 0, that of "
            "its README; only these are decoded",
        ),
        "happy-cub": Preset(
            values={
                **_published("cub[crop=256]", 100, "5x20", 25, 5),
                "initial_list": "cub-known",
                "epochs": 20,
            },
            source=f"{_CODE}, README; {_SHIFT}",
        ),
        "happy-cars": Preset(
            values={
                **_published("cars[crop=256]", 98, "19+19+19+19+22", 30, 6),
                "initial_list": "cars-known",
                "shortage": "all",
            },
            source=f"{_CODE}; sizes derived from its comments; {_SHIFT}",
        ),
        "happy-aircraft": Preset(
            values={**_published("aircraft[crop=256]", 50, "5x10", 55, 10), "initial_list": "aircraft-known"},
            source=f"{_CODE}; sizes derived from its comments; {_SHIFT}",
        ),
        "metagcd-cifar100": Preset(
            values={
                **_published("cifar100", 80, "4x5", 300, 25),
                "n_seen": "300",
                "class_order": "natural",
                "resample": "disjoint-initial",
            },
            source="MetaGCD, released code, but answers of the learner are scored",
        ),
        "class-incd-cifar100": Preset(
            values={**_published("cifar100", 80, "2x10", 500, 0), "labelled": 1.0, "class_order": "natural"},
            source="FRoST, released code: stages of novel classes alone",
        ),
        "promptccd-cifar100": Preset(
            values={
                **_published("cifar100", 70, "3x10", 0, 0),
                "shares": "87/7/3/3;70/20/10;90/10;100",
                "transductive": True,
            },
            source="PromptCCD, released configuration, shares of a class per stage",
        ),
    }
)
