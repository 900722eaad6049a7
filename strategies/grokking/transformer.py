"""A transformer of one layer for modular arithmetic, K of them stacked: attention from the last token, an
MLP, and logits from there.

Network and initialisation as in the code of Doshi, Das, He, Gromov 2024 (arXiv 2310.13061): learned
embeddings of tokens and positions drawn from N(0, 1), no layer norm, no biases, no mask, no tied weights;
linear layers normal with variance 1 / inputs. With t tokens and width d,

    x = E[token] + P[position];  a = softmax over positions of q_last . k / d_head^((1 + s) / 2);
    r = x_last + O (sum a v);  r <- r + D relu(C r);  logits = H r / d^((1 + s) / 2),

where s = 1 is the maximal-update scaling and s = 0 the standard one. There is one layer, so nothing but the
last token asks. Queries, keys
and values are computed once for every token at every position and then looked up: some hundred rows instead
of one per item and position.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness.errors import UserError
from strategies.grokking.networks import Network, Seen, Weights, normal


class Transformer(Network):
    """The layer between lookup and logits.

    Weights: token (K, V, d), position (K, t, d), query, key, value, mix (K, d, d), widen (K, f d, d), narrow
    (K, d, f d), head (K, C, d); a matrix maps from its last axis to the one before it.
    """

    def __init__(
        self,
        *,
        modulus: int,
        tokens: int = 2,
        width: int = 128,
        heads: int = 4,
        factor: int = 4,
        scaling: float = 1.0,
    ) -> None:
        """Take the shape.

        Args:
            modulus: classes; tokens are the residues and, where items have three, the sign "=" as number
                `modulus`.
            tokens: 2 for x and y, 3 with the sign after them.
            width: numbers per token, d.
            heads: parts that attention divides these into.
            factor: hidden neurons of the MLP per number of a token.
            scaling: s.

        Raises:
            UserError: the heads do not divide the width.
        """
        if width % heads:
            raise UserError(f"heads of the transformer should divide its width {width}, got {heads}")
        self.classes, self.tokens = modulus, tokens
        self.vocabulary = modulus + (tokens > 2)
        self.width, self.heads, self.factor, self.scaling = width, heads, factor, scaling

    def initial(self, rng: np.random.Generator) -> Weights:
        """Draw embeddings from N(0, 1), matrices with variance 1 / inputs."""
        d, wide = self.width, self.factor * self.width
        shapes = {
            "token": (self.vocabulary, d),
            "position": (self.tokens, d),
            "query": (d, d),
            "key": (d, d),
            "value": (d, d),
            "mix": (d, d),
            "widen": (wide, d),
            "narrow": (d, wide),
            "head": (self.classes, d),
        }
        tables = ("token", "position")
        return {
            name: normal(rng, 1.0 if name in tables else shape[-1] ** -0.5, 1, *shape)
            for name, shape in shapes.items()
        }

    def forward(self, weights: Weights, items: Tensor) -> Tensor:
        """Return logits (K, n, C) of items int64 (K, n, t)."""
        features, head, _ = self.observed(weights, items)
        logits: Tensor = features @ head.mT
        return logits

    def observed(self, weights: Weights, items: Tensor) -> Seen:
        """Return the stream of the last token and the head in its scale."""
        embedded = weights["token"][:, None] + weights["position"][:, :, None]  # (K, t, V, d)
        last = embedded[:, -1]
        rest = (
            looked_up(last, items[:, :, -1])
            + self._attended(weights, embedded, last, items) @ weights["mix"].mT
        )
        rest = rest + (rest @ weights["widen"].mT).relu() @ weights["narrow"].mT
        return Seen(rest, weights["head"] / self.width ** ((1 + self.scaling) / 2))

    def _attended(self, weights: Weights, embedded: Tensor, last: Tensor, items: Tensor) -> Tensor:
        """Return what the last token of every item takes from all of them, heads side by side, (K, n, d)."""
        scale = (self.width // self.heads) ** ((1 + self.scaling) / 2)
        query = self._headed(looked_up(last @ (weights["query"].mT / scale), items[:, :, -1]))
        keys, values = (
            [
                looked_up(table, items[:, :, place])
                for place, table in enumerate((embedded @ weights[name].mT[:, None]).unbind(dim=1))
            ]
            for name in ("key", "value")
        )
        shares = torch.stack([(query * self._headed(key)).sum(dim=-1) for key in keys]).softmax(dim=0)
        mixed = torch.stack(
            [share[..., None] * self._headed(value) for share, value in zip(shares, values, strict=True)]
        )
        return mixed.sum(dim=0).flatten(2)

    def _headed(self, rows: Tensor) -> Tensor:
        """Return (K, n, heads, d / heads)."""
        return rows.view(*rows.shape[:2], self.heads, -1)


def looked_up(tables: Tensor, rows: Tensor) -> Tensor:
    """Return rows int64 (K, n) of tables (K, V, d), (K, n, d)."""
    networks, size, width = tables.shape
    starts = torch.arange(0, networks * size, size, device=rows.device)[:, None]
    return torch.nn.functional.embedding(rows + starts, tables.reshape(networks * size, width))


__all__ = ["Transformer", "looked_up"]
