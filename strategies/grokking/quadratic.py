"""The quadratic network of modular arithmetic, f = W (U[x] + V[y])^2, with its gradient in closed form.

With h = U[x] + V[y] and r the gradient of the loss with respect to f, for squared error 2 (f - onehot) / (n
C):

    dW = r^T h^2,    G = 2 h * (r W),    dU[m] = sum of G over the rows with x = m,    dV[m] likewise with y.

Three dense products of n x width x C remain of the seven of the usual code. Network and initialisation are
those of Doshi, Das, He, Gromov 2024 ("To grok or not to grok", arXiv 2310.13061) and their code: no biases,
every weight normal with standard deviation (16 width)^(-1/3), dropout on h; batch norm on h^2 is in
`normalised`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from harness.errors import UserError
from strategies.grokking.dropout import Dropout
from strategies.grokking.networks import Network, Objective, Seen, Slope, Weights, normal
from strategies.grokking.tiles import TILE, Buffers, Pass, Tile, begun, errors_of, tiles

Activation = Literal["square", "relu"]
Products = Literal["exact", "reduced"]


class Quadratic(Network):
    """W act(U[x] + V[y]): weights table (K, 2 modulus, width), rows of U above rows of V, and W (K, classes,
    width).
    """

    drops = True

    def __init__(
        self,
        *,
        modulus: int,
        width: int = 500,
        activation: Activation = "square",
        products: Products = "exact",
        room: int = TILE,
    ) -> None:
        """Take the shape.

        Args:
            modulus: rows of a table, and classes.
            width: hidden neurons.
            activation: square, or ReLU.
            products: exact in the dtype of the weights, or reduced: what is multiplied is rounded to
                bfloat16, off by up to 4e-3; sums and weights stay as they are.
            room: numbers in a buffer of a tile.

        Raises:
            UserError: no activation of that name, or no neurons.
        """
        if activation not in get_args(Activation) or width < 1:
            raise UserError(
                f"backbone quadratic has activation square or relu and width at least 1, got {activation} and {width}"
            )
        self.vocabulary = self.classes = modulus
        self.width, self.activation = width, activation
        self.products, self.room = products, room
        self.buffer = Buffers()

    def initial(self, rng: np.random.Generator) -> Weights:
        """Draw all weights alike, those of U first, then V, then W."""
        deviation = (16 * self.width) ** (-1 / 3)
        return {
            "table": normal(rng, deviation, 1, 2 * self.vocabulary, self.width),
            "W": normal(rng, deviation, 1, self.classes, self.width),
        }

    def parts(self, weights: Weights) -> Weights:
        """Return U, V and W, in the memory of `weights`."""
        return {
            "U": weights["table"][:, : self.vocabulary],
            "V": weights["table"][:, self.vocabulary :],
            "W": weights["W"],
        }

    def forward(self, weights: Weights, items: Tensor) -> Tensor:
        """Return logits (K, n, C)."""
        logits = weights["W"].new_empty(*items.shape[:2], self.classes)
        table, top = self.factors(weights)
        for tile in self._tiles(items, None, self.room):
            active = self.seen(weights, tile, self.active(tile.looked_up(table)))
            tile.of(logits)[:, tile.rows] = torch.bmm(tile.of(top), active.mT).mT
        return logits

    def observed(self, weights: Weights, items: Tensor) -> Seen:
        """Return the activations, as W sees them, and W."""
        features = weights["W"].new_empty(*items.shape[:2], self.width)
        table, top = self.factors(weights)
        for tile in self._tiles(items, None, self.room):
            active = self.active(tile.looked_up(table))
            tile.of(features)[:, tile.rows] = self.seen(weights, tile, active).to(features.dtype)
        return Seen(features, top.to(features.dtype))

    def factors(self, weights: Weights) -> tuple[Tensor, Tensor]:
        """Return table and W in the format in which they are multiplied."""
        table, top = weights["table"], weights["W"]
        return (table.bfloat16(), top.bfloat16()) if self.products == "reduced" else (table, top)

    def seen(self, weights: Weights, tile: Tile, active: Tensor) -> Tensor:
        """Return what W sees of the activation in evaluation mode, (g, c, width)."""
        return active

    def batch(self, items: Tensor, labels: Tensor) -> list[Tile]:
        """Return the rows in tiles."""
        return list(self._tiles(items, labels, self.room))

    def slope(
        self, weights: Weights, batch: list[Tile], objective: Objective, dropout: Dropout | None = None
    ) -> Slope:
        """Return losses and gradients in closed form."""
        current = begun(weights, self.trained(weights), batch, objective, self.buffer)
        table, top = self.factors(weights)
        for tile in batch:
            hidden = tile.looked_up(table)
            mask = (
                None
                if dropout is None
                else dropout.fill(self.buffer("mask", *hidden.shape, like=hidden), tile.first)
            )
            if mask is not None:
                hidden.mul_(mask)
            back = self.above(tile.of(top), self.active(hidden), tile, current)
            if self.activation == "square":
                hidden.mul_(back)
            else:
                torch.mul(hidden > 0, back, out=hidden)
            if mask is not None:
                hidden.mul_(mask)
            tile.handed_back(hidden, current.gradients["table"])
        return Slope(current.losses, current.gradients)

    def above(self, top: Tensor, active: Tensor, tile: Tile, current: Pass) -> Tensor:
        """Return the gradient for `active` (g, c, width), doubled for the square; add to losses and the
        gradients of what lies above it.
        """
        errors, factor = errors_of(top, active, tile, current, self.buffer)
        tile.multiplied(errors, active, current.gradients["W"], factor=factor)
        back = self.buffer("back", *active.shape, like=errors)
        steep = 2 if self.activation == "square" else 1
        return torch.baddbmm(back, errors.mT, top, beta=0, alpha=steep * factor, out=back)

    def active(self, hidden: Tensor) -> Tensor:
        """Return the activation of `hidden`, in a buffer."""
        active = self.buffer("active", *hidden.shape, like=hidden)
        if self.activation == "square":
            return torch.mul(hidden, hidden, out=active)
        return torch.clamp_min(hidden, 0, out=active)

    def _tiles(self, items: Tensor, labels: Tensor | None, room: int | None) -> Iterator[Tile]:
        return tiles(
            items, labels, vocabulary=self.vocabulary, classes=self.classes, width=self.width, room=room
        )


__all__ = ["Activation", "Products", "Quadratic"]
