"""Named protocols: the embedded tracks, and those of the published tables.

Published ones deal the publisher's own split: every training item but those held out, and the whole test
part. Rates are the share of wrong labels, so the "40 %" of ELR and DivideMix, whose new labels may be the
true ones again, is 0.36 of ten classes and 0.396 of a hundred. Networks, batches and passes are those of the
source; where it chooses an epoch on the test or draws a subset once more, the line says what stands here
instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from harness.contracts import Preset

_TRACK: dict[str, Any] = {"batch_size": 64, "validation": "noisy", "told": "matrix"}
_SOURCE = (
    "embedded track; one class-incremental stage, a tenth of the training items held out with labels "
    "as noisy as the rest"
)

_ELR = (
    "ELR, released code (ELR/config_*.json); a tenth of every class held out, as noisy as the rest, and "
    "the epoch is chosen on it"
)
_NESTED = (
    "Nested co-teaching, released code (data/*.py, run scripts); a tenth of every class held out, "
    "with clean labels"
)
_CIFAR_N = "CIFAR-N, released code (main.py): all 50,000 items, a ResNet-34; the epoch is the last one"
_ASYMMETRIC = {
    "cifar10": "asymmetric[map=cifar10,rate={rate}]",
    "cifar100": "superclass[groups=consecutive,rate={rate}]",
}


def _published(dataset: str, noise: str, **values: Any) -> dict[str, Any]:
    """Return what published protocols share: one stage with the publisher's split, classes numbered as the
    data set does.
    """
    over = f"class-incremental[dataset={dataset},stages=1,class_order=natural,test_fraction=0]"
    augmentations = "padded-crop[mirror=0.5]" if dataset.startswith("cifar") else "crop[size=224,of=256]"
    return {"over": over, "noise": noise, "augmentations": augmentations, "batch_size": 128, **values}


def _elr(dataset: str, per_cent: int) -> Preset:
    """Return ELR's symmetric protocol: exactly so many rows get any label, their own as well; a ResNet-34 and
    150 passes.
    """
    classes = {"cifar10": 10, "cifar100": 100}[dataset]
    noise = f"symmetric[rate={per_cent / 100 * (classes - 1) / classes:g},include_self=true,counting=global]"
    return Preset(
        values=_published(dataset, noise, validation="noisy", backbone="resnet34-cifar", epochs=150),
        source=_ELR,
    )


def _asymmetric(dataset: str, epochs: int) -> Preset:
    """Return 40 % of the items of every source class, decided from their true labels (the released code flips
    flipped ones again).
    """
    noise = _ASYMMETRIC[dataset].format(rate=0.4)
    return Preset(
        values=_published(dataset, noise, validation="noisy", backbone="resnet34-cifar", epochs=epochs),
        source=_ELR,
    )


def _nested(dataset: str) -> Preset:
    """Return nested co-teaching's protocol on CIFAR: half of the labels go to other classes, exactly so many
    of each.
    """
    values = _published(
        dataset,
        "symmetric[rate=0.5]",
        validation="clean",
        backbone="resnet18-cifar",
        batch_size=320,
        epochs=350,
    )
    return Preset(values=values, source=f"{_NESTED}; rates 0.2, 0.5 and 0.8 are scripted")


def _human(dataset: str, file: str, column: str) -> Preset:
    noise = f"human[file={file},column={column}]"
    return Preset(values=_published(dataset, noise, backbone="resnet34-cifar", epochs=100), source=_CIFAR_N)


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "digits": Preset(
            values={
                **_TRACK,
                "over": "class-incremental[dataset=digits,stages=1]",
                "epochs": 120,
                "backbone": "mlp[width=256]",
            },
            source=_SOURCE,
        ),
        "mnist5k": Preset(
            values={
                **_TRACK,
                "over": "class-incremental[dataset=mnist5k,stages=1]",
                "epochs": 60,
                "backbone": "mlp[width=256]",
            },
            source=_SOURCE,
        ),
        "split-digits": Preset(
            values={
                **_TRACK,
                "over": "class-incremental[dataset=digits,stages=5]",
                "epochs": 40,
                "backbone": "mlp[width=256]",
                "noise": "symmetric[rate=0.2]",
            },
            source=(
                "embedded track: noisy labels in a class-incremental stream; items go to the stage of "
                "their label, as in Mammoth and SPR"
            ),
        ),
        "two-gaussians": Preset(
            values={
                "over": "two-gaussians",
                "noise": "symmetric[rate=0.4]",
                "probe_epochs": 10,
                "watched": 0,
                "epochs": 2000,
                "batch_size": 500,
                "backbone": "linear",
            },
            source="Liu et al. 2020, section 3: a linear softmax classifier, full-batch gradient descent from zero",
        ),
        **{
            f"{dataset}-symmetric-{rate}": _elr(dataset, rate)
            for dataset in ("cifar10", "cifar100")
            for rate in (20, 40, 60, 80)
        },
        "cifar10-asymmetric-40": _asymmetric("cifar10", 120),
        "cifar100-asymmetric-40": _asymmetric("cifar100", 150),
        "nested-cifar10": _nested("cifar10"),
        "nested-cifar100": _nested("cifar100"),
        **{
            f"cifar10n-{name}": _human("cifar10", "CIFAR-10_human.pt", column)
            for name, column in (
                ("aggregate", "aggre_label"),
                ("random1", "random_label1"),
                ("worst", "worse_label"),
            )
        },
        "cifar100n": _human("cifar100", "CIFAR-100_human.pt", "noisy_label"),
        "animal10n": Preset(
            values=_published("animal10n", "published", backbone="vgg19", augmentations="same", epochs=100),
            source="Nested co-teaching, released code: a VGG-19 without augmentation; the code chooses the "
            "epoch on the test, the last ones "
            "stand here",
        ),
        "clothing1m": Preset(
            values=_published(
                "clothing1m[validation=true,per_class=13714,crop=256]",
                "published",
                validation="published",
                backbone="timm:resnet50",
                batch_size=64,
                epochs=15,
            ),
            source="ELR+, released code: a ResNet-50, 15 passes over 3,000 batches of a class-balanced "
            "subset, the epoch chosen on the "
            "publisher's clean validation images; 13,714 of every class, where the code's 192,000 are four "
            "more, and one draw for all "
            "networks and seeds. How many the smallest class has is not stated here: the code takes what "
            "there is, fewer are refused",
        ),
        "nested-clothing1m": Preset(
            values=_published(
                "clothing1m[validation=true,per_class=smallest,crop=256]",
                "published",
                validation="published",
                backbone="timm:resnet18",
                batch_size=448,
                epochs=30,
            ),
            source="Nested co-teaching, released code: a ResNet-18, every class cut to the size of the "
            "smallest, the epoch chosen on the "
            "publisher's clean validation images; the code draws once for each network, here once for both",
        ),
    }
)
