"""Sparse codes of patches over a fixed dictionary: which few waves a patch is made of, by one of four penalties
(Rentzeperis, Calatroni, Perrinet and Prandi, PLoS Computational Biology 2023, arXiv 2301.10002; no released code).

A patch x of 8 x 8 grey pixels, less its mean and at about unit length, is rebuilt from unit columns of D:

    min over a of  |x - D a|^2 / 2 + w sum_k phi(a_k)      u = a - m D'(D a - x),  a = prox(u; m, w)

by proximal steps from a = 0, m a little below 1 / |D|^2; phi is |a| (soft), |a|^(1/2) (half), 1 where a is not 0
(hard), or the continuous envelope of the last (cel0; Soubies, Blanc-Feraud and Aubert 2015). Columns are products of
cosines, an overcomplete discrete cosine transform without its constant, so that nothing is learnt. A token is the mean
of |a| over the four patches around its 4 x 4 pixels, and their mean grey. The source learns its dictionary and whitens;
here dividing by the length takes the place of that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad, unfold

from harness.errors import UserError, unknown
from strategies.anomaly.encoders.checks import patches, whole
from strategies.anomaly.encoders.gabor import GREY_LEVEL, PATCH

SIDE = 8
"""Pixels on a side of what is coded."""


def soft(u: Tensor, step: float, weight: float) -> Tensor:
    """Return sign(u) max(|u| - t, 0), t = step * weight."""
    return u.sign() * (u.abs() - step * weight).clamp_min(0)


def half(u: Tensor, step: float, weight: float) -> Tensor:
    """Return the minimiser of (u - a)^2 / 2 + t |a|^(1/2) in closed form (Xu, Chang, Xu and Zhang 2012)."""
    t = 2 * step * weight
    size = u.abs().clamp_min(torch.finfo(u.dtype).tiny)
    phase = torch.arccos((t / 8 * (size / 3).pow(-1.5)).clamp_max(1))
    found = 2 / 3 * u * (1 + torch.cos(2 * math.pi / 3 - 2 / 3 * phase))
    return found.where(u.abs() > 54 ** (1 / 3) / 4 * t ** (2 / 3), 0)


def hard(u: Tensor, step: float, weight: float) -> Tensor:
    """Return u where it is larger than sqrt(2 t), else 0."""
    return u.where(u.abs() > math.sqrt(2 * step * weight), 0)


def cel0(u: Tensor, step: float, weight: float) -> Tensor:
    """Return sign(u) min(|u|, max(|u| - sqrt(2 weight) step, 0) / (1 - step)), for unit columns and a step below 1."""
    size = u.abs()
    return u.sign() * torch.minimum(size, (size - math.sqrt(2 * weight) * step).clamp_min(0) / (1 - step))


THRESHOLDS: Mapping[str, Callable[[Tensor, float, float], Tensor]] = {
    "soft": soft,
    "half": half,
    "hard": hard,
    "cel0": cel0,
}


class SparseCodes(nn.Module):
    """Images (N, C, H, W) in [0, 1] to tokens (N, 1, P, frequencies^2); P counts patches of 4 x 4 pixels, row by
    row.
    """

    groups = 1
    digest = ""
    atoms: Tensor

    def __init__(
        self,
        item_shape: tuple[int, ...],
        *,
        threshold: str = "cel0",
        weight: float = 0.01,
        frequencies: int = 12,
        steps: int = 50,
    ) -> None:
        super().__init__()
        whole("sparse-codes", frequencies=frequencies, steps=steps)
        if threshold not in THRESHOLDS:
            raise unknown("threshold of encoder sparse-codes", threshold, THRESHOLDS, ", ".join(THRESHOLDS))
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
            raise UserError(f"weight of encoder sparse-codes should be at least 0, got {weight!r}")
        if frequencies < 2:
            raise UserError(f"encoder sparse-codes needs at least 2 frequencies, got {frequencies}")
        self.threshold, self.weight, self.steps = THRESHOLDS[threshold], float(weight), steps
        self.grid = patches(item_shape[1:], PATCH, "sparse-codes")
        self.channels = frequencies**2
        atoms = dictionary(frequencies)
        self.step = 0.99 / float(torch.linalg.matrix_norm(atoms, 2)) ** 2
        self.register_buffer("atoms", atoms.float(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return tokens (N, 1, P, D)."""
        grey = images.mean(dim=1, keepdim=True)
        shown = unfold(pad(grey, (3, 3, 3, 3), mode="reflect"), SIDE, stride=2).transpose(1, 2)
        shown = shown - shown.mean(dim=2, keepdim=True)
        shown = shown / (shown.norm(dim=2, keepdim=True) + SIDE * GREY_LEVEL)
        height, width = (2 * side for side in self.grid)
        codes = self.coded(shown).abs().transpose(1, 2).reshape(len(grey), -1, height, width)
        features = torch.cat([avg_pool2d(codes, 2), avg_pool2d(grey, PATCH)], dim=1)
        return features.flatten(2).transpose(1, 2)[:, None]

    def coded(self, items: Tensor) -> Tensor:
        """Return codes (..., A) of patches (..., 64)."""
        wanted, gram = items @ self.atoms, self.atoms.T @ self.atoms
        codes = torch.zeros_like(wanted)
        for _ in range(self.steps):
            codes = self.threshold(codes - self.step * (codes @ gram - wanted), self.step, self.weight)
        return codes


def dictionary(frequencies: int) -> Tensor:
    """Return unit columns, float64 (64, frequencies^2 - 1): products of cosines down and across."""
    places = torch.arange(SIDE, dtype=torch.float64) + 0.5
    waves = torch.cos(
        math.pi * torch.arange(frequencies, dtype=torch.float64) * places[:, None] / frequencies
    )
    waves[:, 1:] -= waves[:, 1:].mean(dim=0)
    waves = waves / waves.norm(dim=0)
    return torch.einsum("ia,jb->ijab", waves, waves).reshape(SIDE**2, -1)[:, 1:]
