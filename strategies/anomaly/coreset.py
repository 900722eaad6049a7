"""A few points that lie near all others: the greedy choice of k centres (Gonzalez 1985; Sener and Savarese
2018; PatchCore, section 3.2).

Every step takes the point farthest from those chosen so far. One vector keeps each point's distance to its
nearest chosen point; a step costs one product of all points with the new one, and nothing is computed again:

    nearest[n] = min(nearest[n], |x[n] - x[chosen]|^2)

The released code (patchcore-inspection at fcaa92f) appends a column and takes the minimum anew, and starts
its minimum from the mean distance to ten random points, which then stay in it as a cap. Here these only
decide on the first point. A prefix of the choice is the choice of so few, so a memory is made smaller by
cutting off its end.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from strategies.anomaly.token_memory import rows_at_once

_STARTING = 10


def k_centres(points: Tensor, count: int, rng: np.random.Generator, *, dimensions: int = 128) -> Tensor:
    """Return the rows of `count` points in the order they were chosen, int64; all rows where there are no
    more.

    Args:
        points: (N, D) of any float type.
        count: how many.
        rng: decides on the ten points from which the first is farthest, and on the projection.
        dimensions: distances are taken after a random linear map to so many, where D is larger; 0 for none.
    """
    count = min(count, len(points))
    if not count:
        return torch.zeros(0, dtype=torch.long, device=points.device)
    points = _centred(points, dimensions, rng)
    starting = torch.from_numpy(rng.permutation(len(points))[:_STARTING]).to(points.device)
    chosen = torch.cdist(points, points[starting]).mean(dim=1).argmax()
    squares, nearest = points.square().sum(dim=1), torch.full_like(points[:, 0], torch.inf)
    rows = torch.empty(count, dtype=torch.long, device=points.device)
    for step in range(count):
        rows[step] = chosen
        distances = torch.addmv(squares, points, points[chosen], alpha=-2).add_(squares[chosen])
        torch.minimum(nearest, distances, out=nearest)
        nearest[chosen] = -torch.inf
        chosen = nearest.argmax()
    return rows


def projected(points: Tensor, dimensions: int, rng: np.random.Generator) -> Tensor:
    """Return points (N, D) under a Gaussian random map to `dimensions`, which keeps distances on average; as
    they are where D is no more.

    0 leaves them as they are too (Johnson and Lindenstrauss 1984; PatchCore, section 3.2).
    """
    directions = _directions(points.shape[1], dimensions, rng)
    return points if directions is None else points @ directions.to(points)


def _centred(points: Tensor, dimensions: int, rng: np.random.Generator) -> Tensor:
    """Return points around their mean and projected: products of centred points lose fewer digits. Half
    precision is read in parts.
    """
    if points.dtype != torch.float16:
        return projected(points - points.mean(dim=0), dimensions, rng)
    parts = torch.split(points, rows_at_once(points.shape))
    mean = (
        torch.stack([part.sum(dim=0, dtype=torch.float64) for part in parts]).sum(dim=0) / len(points)
    ).float()
    directions = _directions(points.shape[1], dimensions, rng)
    return torch.cat(
        [
            part.float() - mean if directions is None else (part.float() - mean) @ directions.float()
            for part in parts
        ]
    )


def _directions(channels: int, dimensions: int, rng: np.random.Generator) -> Tensor | None:
    if not 0 < dimensions < channels:
        return None
    return torch.from_numpy(rng.standard_normal((channels, dimensions)) / math.sqrt(dimensions))
