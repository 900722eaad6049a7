"""Optical recognition of handwritten digits, as scikit-learn ships it."""

from __future__ import annotations

import gzip
from typing import ClassVar

import numpy as np

from harness.contracts import Card, Data, Dataset
from scenarios.datasets.packaged import checked, folder_of


class Digits(Dataset):
    """1,797 handwritten digits of 8 x 8 pixels; needs nothing but scikit-learn."""

    card: ClassVar[Card] = Card(
        title="Optical recognition of handwritten digits (test part)",
        items=1797,
        classes=10,
        shape=(1, 8, 8),
        licence="CC BY 4.0 (UCI Machine Learning Repository)",
        source="E. Alpaydin and C. Kaynak, UCI, 1998; digits.csv.gz in scikit-learn",
        package="scikit-learn (tested 1.9.1)",
        digest="a2c48520768d4e2a615680129ae7485c9ab148c626028fbec31a44a1b0164d4c",
        notes="43 people wrote the whole set; who wrote what is not shipped, so writers are on both sides of a split.",
    )

    def load(self) -> Data:
        """Return inputs float32 (1797, 1, 8, 8) in [0, 1], counts of ink divided by 16, in the order of the
        file.
        """
        path = folder_of("sklearn", inside="datasets/data") / "digits.csv.gz"
        (file,) = checked([path], digest=self.card.digest, package=self.card.package)
        with gzip.open(file, "rt", encoding="ascii") as lines:
            table = np.loadtxt(lines, delimiter=",", dtype=np.float32)
        inputs = (table[:, :-1] / 16).reshape(-1, 1, 8, 8)
        return Data(inputs=inputs, labels=table[:, -1].astype(np.int64), class_names=tuple("0123456789"))
