"""Data sets by name, and what published protocols read from the user's disk.

Most of that are data sets of scenarios/datasets/on_disk. The images of anomaly detection are read by the
scenario itself, since what it deals is not one label an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from harness.contracts import Card, Data, Dataset
from harness.errors import UserError
from harness.selection import configured
from scenarios.datasets.sound import loaded

ON_DISK = ("cifar10", "cifar100", "svhn", "tinyimagenet", "imagenet", "cub", "cars", "aircraft", "herbarium")
"""Data sets of published presets; who takes part in which stage needs their labels only."""


class AnomalySource(NamedTuple):
    """Images of anomaly detection: their published number of categories and images, the folder below
    OWB_DATA, how to get them, whose they are.
    """

    title: str
    categories: int
    images: int
    folder: str
    obtain: str
    licence: str
    source: str


ANOMALY_SOURCES: Mapping[str, AnomalySource] = MappingProxyType(
    {
        "mvtec": AnomalySource(
            "MVTec-AD",
            15,
            5354,
            "mvtec",
            "get it from mvtec.com/company/research/datasets/mvtec-ad as OWB_DATA/mvtec",
            "CC BY-NC-SA 4.0",
            "P. Bergmann et al. 2019, MVTec AD; mvtec.com/company/research/datasets/mvtec-ad",
        ),
        "mvtec-loco": AnomalySource(
            "MVTec LOCO AD",
            5,
            3340,
            "mvtec-loco",
            "get it from mvtec.com/company/research/datasets/mvtec-loco as OWB_DATA/mvtec-loco",
            "CC BY-NC-SA 4.0",
            "P. Bergmann et al. 2022, Beyond Dents and Scratches; mvtec.com/company/research/datasets/mvtec-loco",
        ),
        "mvtec-ad-2": AnomalySource(
            "MVTec AD 2",
            8,
            0,
            "mvtec-ad-2",
            "get it from mvtec.com/company/research/datasets/mvtec-ad-2 as OWB_DATA/mvtec-ad-2",
            "CC BY-NC-SA 4.0",
            "L. Heckler-Kram et al. 2025, The MVTec AD 2 Dataset; mvtec.com/company/research/datasets/mvtec-ad-2",
        ),
        "visa": AnomalySource(
            "VisA",
            12,
            10_821,
            "visa",
            "get it from github.com/amazon-science/spot-diff as OWB_DATA/visa",
            "not verified",
            "Y. Zou et al. 2022, SPot-the-Difference; github.com/amazon-science/spot-diff",
        ),
        "realiad": AnomalySource(
            "Real-IAD",
            30,
            151_050,
            "realiad",
            "ask for it at realiad4ad.github.io/Real-IAD as OWB_DATA/realiad",
            "CC BY-NC-SA 4.0",
            "C. Wang et al. 2024, Real-IAD; realiad4ad.github.io/Real-IAD",
        ),
    }
)
"""What `anomaly[source=NAME]` reads."""


class HumanSource(NamedTuple):
    """Labels that people gave to the training items of a data set: what they belong to, how many, the file,
    its columns, how to get it.
    """

    title: str
    dataset: str
    classes: int
    labels: int
    file: str
    columns: tuple[str, ...]
    licence: str
    source: str
    obtain: str


HUMAN_FOLDERS = ("cifar-10-100n/data", "cifar-10-100n", "CIFAR-N")
"""Where below OWB_DATA these files are looked for, besides OWB_DATA itself."""

_WEI = "J. Wei et al. 2022, Learning with Noisy Labels Revisited; github.com/UCSC-REAL/cifar-10-100n"

HUMAN_SOURCES: Mapping[str, HumanSource] = MappingProxyType(
    {
        "cifar10n": HumanSource(
            "CIFAR-10N",
            "cifar10",
            10,
            50_000,
            "CIFAR-10_human.pt",
            ("aggre_label", "random_label1", "random_label2", "random_label3", "worse_label"),
            "CC BY-NC 4.0",
            _WEI,
            "get data/CIFAR-10_human.pt from github.com/UCSC-REAL/cifar-10-100n into OWB_DATA",
        ),
        "cifar100n": HumanSource(
            "CIFAR-100N",
            "cifar100",
            100,
            50_000,
            "CIFAR-100_human.pt",
            ("noisy_label",),
            "CC BY-NC 4.0",
            _WEI,
            "get data/CIFAR-100_human.pt from github.com/UCSC-REAL/cifar-10-100n into OWB_DATA",
        ),
    }
)
"""What `noisy-labels[noise=human[file=NAME]]` reads beside a data set with its published test part."""


def dataset_named(text: str) -> Dataset:
    """Return the data set, with its parameters in brackets.

    Raises:
        UserError: it is unknown, known and not installed, or no data set.
    """
    try:
        dataset: Dataset = configured("dataset", text)
    except UserError as error:
        if text in ON_DISK and str(error).startswith("unknown dataset"):
            raise UserError(
                f"{text!r} has to be read from your disk, which no installed data set does; a package can register "
                "one of that name under openworld.datasets"
            ) from None
        raise
    if not isinstance(dataset, Dataset):
        raise UserError(f"{text} is no data set: derive it from openworld.Dataset")
    if not isinstance(getattr(type(dataset), "card", None), Card):
        raise UserError(f"{text} has no card: say `card = Card(...)` in its class, see openworld.Card")
    return dataset


def data_of(text: str) -> Data:
    """Return what the data set loads, held against the contract.

    Raises:
        UserError: it is unknown or not there, or what it loads is wrong: see `scenarios.datasets.sound`.
    """
    return loaded(dataset_named(text), text)
