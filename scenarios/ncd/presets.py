"""Sizes that fit a CPU on embedded data, and the published class splits of NCD and GCD with the network and
budget of their users.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from harness.contracts import Preset

_SMALL = "sized here for a CPU"
_DINO = "timm:vit_base_patch16_224.dino[crop_pct=0.875]"
_CROP = "crop[size=224,of=256]"
_UNO_CROP = "resized-crop[low=0.5,high=1,mirror=0.5,jitter=0.4,jitter_chance=0.6,solarise=0.1]"

_DIGITS: dict[str, Any] = {
    "dataset": "digits",
    "known": 5,
    "novel": 5,
    "class_order": "natural",
    "backbone": "cnn",
    "batch_size": 64,
    "augmentations": "affine[shift=0.125,rotate=5]",
    "first_epochs": 20,
    "gradient_steps": 880,
}


def _small_images(dataset: str, known: int, novel: int) -> dict[str, Any]:
    """Return classes in the order of the data set, a ResNet-18, UNO's passes and large crops."""
    return {
        "dataset": dataset,
        "known": known,
        "novel": novel,
        "class_order": "natural",
        "test_fraction": 0.0,
        "backbone": "timm:resnet18",
        "augmentations": _UNO_CROP,
        "batch_size": 512,
        "first_epochs": 200,
        "epochs": 500,
    }


def _imagenet(letter: str) -> Preset:
    values = {
        "dataset": "imagenet",
        "known_list": "imagenet-882",
        "novel_list": f"imagenet-30-{letter}",
        "test_fraction": 0.0,
        "backbone": "timm:resnet18",
        "augmentations": "crop",
        "batch_size": 256,
        "first_epochs": 100,
        "epochs": 60,
    }
    return Preset(
        values=values,
        source="UNO, released code (utils/data.py, README); the mean over a, b and c is what papers report",
    )


def _fine_grained(dataset: str) -> dict[str, Any]:
    """Return the classes of the Semantic Shift Benchmark and a DINO ViT-B/16 whose last block trains."""
    return {
        "dataset": f"{dataset}[crop=256]",
        "known_list": f"{dataset}-known",
        "novel_list": f"{dataset}-novel",
        "test_fraction": 0.0,
        "augmentations": _CROP,
        "backbone": _DINO,
        "batch_size": 512,
        "first_epochs": 50,
        "epochs": 100,
    }


def _mixed(
    values: dict[str, Any], source: str = "GCD, released code, draws half of the labels; budget of SimGCD"
) -> Preset:
    """Return the generalised form: half of the known classes' items keep their labels, the others are mixed
    with novel ones.
    """
    common = {
        "unlabelled_known": "mix",
        "labelled_fraction": 0.5,
        "backbone": _DINO,
        "augmentations": _CROP,
        "batch_size": 128,
        "first_epochs": 50,
        "epochs": 200,
    }
    return Preset(values={**values, **common}, source=source)


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "digits": Preset(values=_DIGITS, source=_SMALL),
        "chars47": Preset(
            values={
                "dataset": "chars47",
                "known": 20,
                "novel": 12,
                "backbone": "cnn",
                "batch_size": 128,
                "augmentations": "affine[rotate=15,shift=0.1,scale=0.2,shear=0.2,erase=0.2]",
                "first_epochs": 40,
                "gradient_steps": 500,
            },
            source=_SMALL,
        ),
        "clinc150": Preset(
            values={
                "dataset": "clinc150",
                "known": 50,
                "novel": 25,
                "backbone": "adapter",
                "augmentations": "token-dropout",
                "batch_size": 256,
                "first_epochs": 30,
                "gradient_steps": 500,
            },
            source=_SMALL,
        ),
        "gcd-digits": Preset(
            values={**_DIGITS, "unlabelled_known": "mix", "labelled_fraction": 0.5}, source=_SMALL
        ),
        "cifar10-5": Preset(values=_small_images("cifar10", 5, 5), source="AutoNovel and UNO, released code"),
        "cifar100-20": Preset(
            values=_small_images("cifar100", 80, 20), source="AutoNovel, UNO and Cr-KD, released code"
        ),
        "cifar100-50": Preset(
            values=_small_images("cifar100", 50, 50), source="UNO and Cr-KD, released code"
        ),
        "svhn-5": Preset(
            values={
                **_small_images("svhn", 5, 5),
                "augmentations": "crop[mirror=false]",
                "batch_size": 128,
                "epochs": 200,
            },
            source="AutoNovel, released scripts; first stage as in UNO",
        ),
        "imagenet-30-a": _imagenet("a"),
        "imagenet-30-b": _imagenet("b"),
        "imagenet-30-c": _imagenet("c"),
        "cub": Preset(
            values=_fine_grained("cub"),
            source="Cr-KD, released configuration; classes of the Semantic Shift Benchmark",
        ),
        "cars": Preset(
            values=_fine_grained("cars"),
            source="Cr-KD, released configuration; classes of the Semantic Shift Benchmark",
        ),
        "aircraft": Preset(
            values=_fine_grained("aircraft"),
            source="Cr-KD, released configuration; classes of the Semantic Shift Benchmark, trained on train and val",
        ),
        "gcd-cifar10": _mixed(_small_images("cifar10", 5, 5)),
        "gcd-cifar100": _mixed(_small_images("cifar100", 80, 20)),
        "gcd-imagenet100": _mixed(
            {
                "dataset": "imagenet[subset=drawn100-0,crop=256]",
                "known_list": "0-49",
                "novel_list": "50-99",
                "test_fraction": 0.0,
            }
        ),
        "gcd-imagenet": _mixed(
            _small_images("imagenet[crop=256]", 500, 500),
            "SimGCD, released code: the first 500 classes are known",
        ),
        "gcd-cub": _mixed(_fine_grained("cub")),
        "gcd-cars": _mixed(_fine_grained("cars")),
        "gcd-aircraft": _mixed(_fine_grained("aircraft")),
        "gcd-herbarium": _mixed(_fine_grained("herbarium")),
    }
)
