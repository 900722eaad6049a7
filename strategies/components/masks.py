"""Images times smooth random masks, which both mask components share.

Cells of a grid, in [0, 1], are enlarged to the image and blurred; all channels are multiplied by the same mask, in the
first part of a stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from harness.contracts import param
from strategies.components.contract import Component, Need
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.training.loop import Batch

_KERNEL, _SIGMA = 3, 1.5


def spread(cells: Tensor, height: int, width: int) -> Tensor:
    """Return masks (B, 1, H, W) for cells (B, G, G): each enlarged to its part of the image, then blurred, with the
    border repeated.
    """
    large = functional.interpolate(cells[:, None], size=(height, width), mode="nearest")
    edge = _KERNEL // 2
    return functional.conv2d(
        functional.pad(large, [edge] * 4, mode="replicate"), _blur(cells.device, cells.dtype)
    )


@lru_cache(maxsize=4)
def _blur(device: torch.device, dtype: torch.dtype) -> Tensor:
    places = torch.arange(_KERNEL, device=device, dtype=dtype) - _KERNEL // 2
    line = torch.exp(-0.5 * (places / _SIGMA).square())
    return torch.outer(line / line.sum(), line / line.sum())[None, None]


class Masks(Component):
    """A component that multiplies images by masks."""

    grid: int = param(0, "cells along a side; 0 for a quarter of the image's height, at least 2", ge=0)
    share: float = param(0.66, "share of a stage in which masks are used", ge=0, le=1, ablate=[0.0, 1.0])
    scaled: bool = param(False, "whether masks are divided by a half, so that their mean is 1", ablate=[True])

    needs: ClassVar[frozenset[Need]] = frozenset({"images"})
    neutral: ClassVar[Mapping[str, Any]] = MappingProxyType({"share": 0.0})

    def cells_along(self, network: Classifier) -> int:
        """Return the number of cells along a side."""
        return self.grid or max(2, round(network.item_shape[1] / 4))

    def masked(self, batch: Batch, cells: Tensor) -> Batch:
        """Return the batch with its images times the masks of `cells` (B, G, G)."""
        masks = spread(cells.to(batch.inputs), *batch.inputs.shape[-2:])
        return batch._replace(inputs=batch.inputs * (masks / 0.5 if self.scaled else masks))
