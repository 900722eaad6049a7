"""The singular kernel to which infinitely wide and deep networks can go: every item votes for its label with weight
|x - x_i|^-alpha (Radhakrishnan, Belkin and Uhler 2023, Wide and deep neural networks achieve consistency for
classification, arXiv 2204.14126; Devroye, Gyorfi and Krzyzak 1998, the Hilbert kernel estimate).

Items lie on the unit sphere. The vote answers every item that was handed over by its own label, wrong ones too, and is
consistent all the same where alpha is the dimension of the data: the example of benign memorising. As alpha grows it
becomes the nearest neighbour, which is not. `alpha=0` takes the dimension from the data (Facco, d'Errico, Rodriguez and
Laio 2017, TWO-NN): with m_i the distance of the second neighbour over that of the first, n / sum_i log m_i.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.contracts import param
from strategies.noisy_labels.interpolating import Interpolating

_NEAREST = 1e-9
"""Smallest distance."""
_ROWS = 256


def dimension(points: Tensor) -> float:
    """Return the TWO-NN estimate for points (N, d), of which equal ones count once; 1 where it is not defined."""
    points = torch.unique(points, dim=0)
    ratios = []
    for rows in torch.split(torch.arange(len(points)), _ROWS) if len(points) > 2 else ():
        near = _distances(points[rows], points).topk(3, dim=1, largest=False).values
        ratios.append((near[:, 2] / near[:, 1]).log())
    total = float(torch.cat(ratios).sum()) if ratios else 0.0
    return len(points) / total if total > 0 else 1.0


class Hilbert(Interpolating):
    """Let every item vote for its label by a power of its distance; no network, no gradient step."""

    alpha: float = param(
        2.0,
        "exponent; 0 for the dimension of the data, large for the nearest neighbour",
        ge=0,
        ablate=[0.0, 64.0],
    )

    def fit(self) -> None:
        """Find the exponent."""
        self.exponent = self.alpha or dimension(self.points)

    def shares(self, points: Tensor) -> Tensor:
        """Return the votes, scaled so that those for an item's first class are 1."""
        return self._votes(-self.exponent * _distances(points, self.points).clamp_min(_NEAREST).log())

    def shares_of_others(self, rows: Tensor) -> Tensor:
        """Return the votes without that of the item itself."""
        logs = -self.exponent * _distances(self.points[rows], self.points).clamp_min(_NEAREST).log()
        return self._votes(logs.scatter(1, rows[:, None], -torch.inf))

    def _votes(self, logs: Tensor) -> Tensor:
        """Return votes (M, C) for their logarithms by item (M, N), the largest of a row 1."""
        by_class = torch.stack(
            [logs[:, self.handed.labels == label].logsumexp(dim=1) for label in range(len(self.task_of))],
            dim=1,
        )
        largest = by_class.amax(dim=1, keepdim=True)
        return torch.where(largest > -torch.inf, by_class - largest, 0.0).exp()


def _distances(first: Tensor, second: Tensor) -> Tensor:
    return torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")
