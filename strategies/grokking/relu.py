"""A fully connected ReLU network on one-hot pairs, whose first layer is looked up: relu(T[x] + T[p + y]),
then dense layers.

Prieto et al. 2025 (arXiv 2501.04697) train hidden layers 200-200 without biases. Every weight starts uniform
in +-1 / sqrt(fan in), the default of torch.nn.Linear, where the first layer reads 2 p numbers. Dropout, where
there is any, acts on every hidden layer.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from strategies.grokking.dropout import Dropout
from strategies.grokking.networks import Network, Objective, Seen, Slope, Weights, uniform
from strategies.grokking.tiles import TILE, Buffers, Pass, Tile, begun, errors_of, tiles
from strategies.toolkit.networks import sizes_of


class Relu(Network):
    """Weights table (K, 2 modulus, first size), rows of x above rows of y, layer-1 ... (K, out, in), and
    bias-0 ... (K, out) if wanted.

    Both operands share one tensor, as they share a layer in the usual code: remedies that work tensor by
    tensor see the same.
    """

    drops = True

    def __init__(
        self, *, modulus: int, hidden: str | int = "200+200", bias: bool = False, room: int = TILE
    ) -> None:
        """Take the shape.

        Args:
            modulus: rows of a table, and classes.
            hidden: sizes of the hidden layers, joined by +.
            bias: whether layers have biases.
            room: numbers in a buffer of a tile.

        Raises:
            UserError: sizes that cannot be read.
        """
        self.vocabulary = self.classes = modulus
        self.sizes = sizes_of(hidden)
        self.layers = [f"layer-{number + 1}" for number in range(len(self.sizes))]
        self.biases = [f"bias-{number}" for number in range(len(self.sizes) + 1)]
        self.bias, self.room = bias, room
        self.buffer = Buffers()

    def initial(self, rng: np.random.Generator) -> Weights:
        """Draw layer by layer."""
        weights = {
            "table": uniform(rng, (2 * self.vocabulary) ** -0.5, 1, 2 * self.vocabulary, self.sizes[0])
        }
        outputs = [*self.sizes[1:], self.classes]
        for name, fan_in, fan_out in zip(self.layers, self.sizes, outputs, strict=True):
            weights[name] = uniform(rng, fan_in**-0.5, 1, fan_out, fan_in)
        if self.bias:
            inputs = [2 * self.vocabulary, *self.sizes]
            for name, fan_in, fan_out in zip(self.biases, inputs, [*self.sizes, self.classes], strict=True):
                weights[name] = uniform(rng, fan_in**-0.5, 1, fan_out)
        return weights

    def forward(self, weights: Weights, items: Tensor) -> Tensor:
        """Return logits (K, n, C)."""
        logits = weights["table"].new_empty(*items.shape[:2], self.classes)
        for tile in self._tiles(items, None):
            highest = self._climbed(weights, tile, None)[0][-1]
            found = torch.bmm(tile.of(weights[self.layers[-1]]), highest.mT)
            if self.bias:
                found.add_(tile.of(weights[self.biases[-1]])[..., None])
            tile.of(logits)[:, tile.rows] = found.mT
        return logits

    def observed(self, weights: Weights, items: Tensor) -> Seen:
        """Return the highest hidden layer and the layer above it."""
        features = weights["table"].new_empty(*items.shape[:2], self.sizes[-1])
        for tile in self._tiles(items, None):
            tile.of(features)[:, tile.rows] = self._climbed(weights, tile, None)[0][-1]
        bias = weights[self.biases[-1]] if self.bias else None
        return Seen(features, weights[self.layers[-1]], bias)

    def batch(self, items: Tensor, labels: Tensor) -> list[Tile]:
        """Return the rows in tiles."""
        return list(self._tiles(items, labels))

    def slope(
        self, weights: Weights, batch: list[Tile], objective: Objective, dropout: Dropout | None = None
    ) -> Slope:
        """Return losses and gradients."""
        current = begun(weights, weights, batch, objective, self.buffer)
        for tile in batch:
            levels, masks = self._climbed(weights, tile, dropout)
            bias = tile.of(weights[self.biases[-1]]) if self.bias else None
            errors, factor = errors_of(
                tile.of(weights[self.layers[-1]]), levels[-1], tile, current, self.buffer, bias
            )
            self._descend(current, tile, levels, masks, errors.mT, factor)
        return Slope(current.losses, current.gradients)

    def _climbed(
        self, weights: Weights, tile: Tile, dropout: Dropout | None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return every hidden layer after its activation, (g, c, size), and the dropout masks, if any."""
        level = tile.looked_up(weights["table"])
        levels, masks = [], []
        for number, size in enumerate(self.sizes):
            if number:
                layer = tile.of(weights[self.layers[number - 1]])
                level = torch.bmm(
                    level, layer.mT, out=self.buffer(f"level-{number}", *tile.shape, size, like=level)
                )
            if self.bias:
                level.add_(tile.of(weights[self.biases[number]])[:, None])
            level.clamp_min_(0)
            if dropout is not None:
                masks.append(
                    dropout.fill(self.buffer(f"mask-{number}", *level.shape, like=level), tile.first)
                )
                level.mul_(masks[-1])
            levels.append(level)
        return levels, masks

    def _descend(
        self,
        current: Pass,
        tile: Tile,
        levels: list[Tensor],
        masks: list[Tensor],
        errors: Tensor,
        factor: float,
    ) -> None:
        """Add the gradients of a tile; `factor` times `errors` (g, c, C) are those of the logits."""
        weights, gradients = current.weights, current.gradients
        for number in reversed(range(len(levels))):
            self._add_bias(gradients, tile, number + 1, errors, factor)
            below, layer = levels[number], self.layers[number]
            tile.multiplied(errors.mT, below, gradients[layer], factor=factor)
            back = self.buffer(f"back-{number}", *below.shape, like=below)
            errors = torch.baddbmm(
                back, errors, tile.of(weights[layer]), beta=0, alpha=factor, out=back
            ).mul_(below > 0)
            factor = 1.0
            if masks:
                errors.mul_(masks[number])
        self._add_bias(gradients, tile, 0, errors, 1.0)
        tile.handed_back(errors, gradients["table"])

    def _add_bias(self, gradients: Weights, tile: Tile, number: int, errors: Tensor, factor: float) -> None:
        if self.bias:
            own = tile.of(gradients[self.biases[number]])
            if tile.begins:
                own.zero_()
            own.add_(errors.sum(dim=1), alpha=factor)

    def _tiles(self, items: Tensor, labels: Tensor | None) -> list[Tile]:
        width = max(*self.sizes, self.classes)
        return list(
            tiles(
                items, labels, vocabulary=self.vocabulary, classes=self.classes, width=width, room=self.room
            )
        )


__all__ = ["Relu"]
