"""Data sets by name: those that are installed, and which published ones have to be read from the user's disk."""

from __future__ import annotations

from harness.contracts import Dataset
from harness.errors import UserError
from harness.selection import configured

ON_DISK = ("cifar10", "cifar100", "svhn", "tinyimagenet", "imagenet", "cub", "cars", "aircraft", "herbarium")
"""Data sets of published presets; who takes part in which stage needs their labels only."""


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
