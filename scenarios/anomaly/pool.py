"""All images of some categories, wherever they come from, before anything is decided about stages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.contracts import Inputs, IntArray

GOOD = "good"
"""The kind of an image without a defect; number 0 of every list of kinds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """U images of C categories. Made by `textures` or `folders`, parted into stages by `scenario`.

    categories: C names.  kinds: the kinds of defects, `GOOD` first.
    inputs: U images uint8 (U, 3, h, w).  masks: bool (U, H, W) at evaluation resolution, an array or a
    loader.
    category, defect, sample: int64 (U,) index into `categories`, index into `kinds`, and which images show
    one and the same object.
    train: bool (U,) whether an image is learned from; defective ones among them are contamination.  has_mask:
    bool (U,).
    """

    categories: tuple[str, ...]
    kinds: tuple[str, ...]
    inputs: Inputs
    masks: Inputs
    category: IntArray
    defect: IntArray
    sample: IntArray
    train: NDArray[np.bool_]
    has_mask: NDArray[np.bool_]

    @property
    def anomalous(self) -> NDArray[np.bool_]:
        """Return which images have a defect, bool (U,)."""
        return self.defect > 0
