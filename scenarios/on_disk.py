"""Data sets by name, and what published protocols read from the user's disk.

Most of that are data sets of scenarios/datasets/on_disk. The images of anomaly detection are read by the scenario itself, since what it
deals is not one label an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from harness.contracts import Dataset
from harness.errors import UserError
from harness.selection import configured

ON_DISK = ("cifar10", "cifar100", "svhn", "tinyimagenet", "imagenet", "cub", "cars", "aircraft", "herbarium")
"""Data sets of published presets; who takes part in which stage needs their labels only."""


class AnomalySource(NamedTuple):
    """Images of anomaly detection: their published number of categories and images, the folder below OWB_DATA, how to get them."""

    title: str
    categories: int
    images: int
    folder: str
    obtain: str


ANOMALY_SOURCES: Mapping[str, AnomalySource] = MappingProxyType(
    {
        "mvtec": AnomalySource("MVTec-AD", 15, 5354, "mvtec", "get it from mvtec.com/company/research/datasets/mvtec-ad as OWB_DATA/mvtec"),
        "visa": AnomalySource("VisA", 12, 10_821, "visa", "get it from github.com/amazon-science/spot-diff as OWB_DATA/visa"),
        "realiad": AnomalySource("Real-IAD", 30, 151_050, "realiad", "ask for it at realiad4ad.github.io/Real-IAD as OWB_DATA/realiad"),
    }
)
"""What `anomaly[source=NAME]` reads."""


def dataset_named(text: str) -> Dataset:
    """Return the data set, with its parameters in brackets.

    Raises:
        UserError: it is unknown, or known and not installed.
    """
    try:
        dataset: Dataset = configured("dataset", text)
    except UserError as error:
        if text in ON_DISK and str(error).startswith("unknown dataset"):
            raise UserError(f"{text!r} has to be read from your disk, which no installed data set does; a package can register "
                            "one of that name under openworld.datasets") from None  # fmt: skip
        raise
    return dataset
