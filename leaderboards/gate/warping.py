"""Images seen a little otherwise: all that are handed over are turned, sheared and scaled by the same small amounts,
and get a little noise.

A learner learns from these as well as from the others. Who knows the images of a data set by heart, by a table of
what identifies them or by weights that were trained elsewhere on their labels, meets images that it does not know.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import sparse

from harness.cell.sealing import Episode
from harness.contracts import AnyArray, Inputs, Query
from harness.statistics.series import Floats

_TURN = (6.0, 12.0)  # degrees, either way
_SHEAR = 0.1
_SCALE = 0.08
_NOISE = 0.01  # of the range of all inputs
_SMALLEST = 8  # pixels a side
_AT_ONCE = 1 << 22  # values


class Warp:
    """One small change, the same for all items. Noise is the item's own, the same wherever it is handed over."""

    def __init__(self, rng: np.random.Generator) -> None:
        angle = np.deg2rad(rng.uniform(*_TURN) * rng.choice([-1, 1]))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        shear = np.array([[1.0, rng.uniform(-_SHEAR, _SHEAR)], [0.0, 1.0]])
        self.matrix = turn @ shear * rng.uniform(1 - _SCALE, 1 + _SCALE)
        self.seed = int(rng.integers(2**62))

    def inputs(self, inputs: Inputs) -> Inputs:
        """Return the images otherwise, of the same shape (N, C, H, W) and dtype."""
        images = np.asarray(inputs)
        count, channels, *size = images.shape
        weights = self._weights(*size)
        rows = images.reshape(count * channels, -1)
        low, high = float(images.min(initial=0)), float(images.max(initial=0))
        noise = np.random.default_rng(self.seed)
        out = np.empty_like(rows)
        step = max(1, _AT_ONCE // rows.shape[1])
        for start in range(0, len(rows), step):
            seen = (weights @ rows[start : start + step].T.astype(np.float64)).T
            seen = np.clip(seen + noise.normal(0, _NOISE * (high - low), seen.shape), low, high)
            out[start : start + step] = np.rint(seen) if images.dtype.kind in "iu" else seen
        return out.reshape(images.shape)

    def _weights(self, height: int, width: int) -> sparse.csr_array:
        """Return by how much every pixel counts for every one of the warped image: cubic convolution (Keys 1981), which
        keeps contrast, so that who trains for few epochs is not set back; the edge goes on.
        """
        middle = np.array([(height - 1) / 2, (width - 1) / 2])
        grid = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), axis=-1)
        at = (grid.reshape(-1, 2) - middle) @ self.matrix.T + middle
        first = np.floor(at).astype(int)
        rows, columns, values = [], [], []
        for offset in itertools.product(range(-1, 3), repeat=2):
            pixel = first + offset
            rows.append(np.arange(len(at)))
            down, right = np.clip(pixel, 0, [height - 1, width - 1]).T
            columns.append(down * width + right)
            values.append(_cubic(at - pixel).prod(axis=1))
        shape = (len(at), len(at))
        return sparse.csr_array(
            (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=shape
        )


def _cubic(distance: Floats) -> Floats:
    """Return what a pixel so many pixels away counts along one axis.

    >>> _cubic(np.array([0.0, 0.5, 1.0, 1.5, 2.0])).tolist()
    [1.0, 0.5625, 0.0, -0.0625, 0.0]
    """
    far = np.abs(distance)
    near = (1.5 * far - 2.5) * far**2 + 1
    return np.where(far < 1, near, np.where(far < 2, ((-0.5 * far + 2.5) * far - 4) * far + 2, 0.0))


def warped(episodes: Sequence[Episode], rng: np.random.Generator) -> list[Episode] | None:
    """Return the episodes with all images otherwise; None where inputs are no images in memory."""
    if not all(
        _are_images(episode.stage.inputs) and _are_images(episode.query.inputs) for episode in episodes
    ):
        return None
    warp = Warp(rng)
    queries: dict[int, Query] = {}
    found = []
    for stage, query in episodes:
        if id(query) not in queries:
            queries[id(query)] = replace(query, inputs=warp.inputs(query.inputs))
        apart = stage.validation and replace(stage.validation, inputs=warp.inputs(stage.validation.inputs))
        changed = replace(stage, inputs=warp.inputs(stage.inputs), validation=apart)
        found.append(Episode(changed, queries[id(query)]))
    return found


def _are_images(inputs: Inputs | AnyArray) -> bool:
    return isinstance(inputs, np.ndarray) and inputs.ndim == 4 and min(inputs.shape[2:]) >= _SMALLEST


__all__ = ["Warp", "warped"]
