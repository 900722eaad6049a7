"""`transformer`: one layer of attention and an MLP on pairs of residues, for modular arithmetic. Tokens (N, 2) or
(N, 3) to features (N, D).

The network of the code of Doshi, Das, He, Gromov 2024 (arXiv 2310.13061) below its head: learned embeddings of
tokens and positions drawn from N(0, 1), no layer norm, no biases, no mask; linear layers normal with variance
1 / inputs; the last token alone asks. `strategies.grokking.transformer` is the same network, many of them stacked.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.errors import UserError
from strategies.toolkit.networks.lookups import rows_of


class TokenTransformer(nn.Module):
    """Attention from the last token, then an MLP of one hidden layer, both beside a residual stream."""

    def __init__(
        self,
        item_shape: tuple[int, ...],
        *,
        width: int = 128,
        heads: int = 4,
        factor: int = 4,
        scaling: float = 1.0,
        modulus: int = 0,
    ) -> None:
        """Draw the weights.

        Args:
            item_shape: (2,) for x and y, (3,) with the sign "=" after them, which is the number `modulus`.
            width: numbers per token.
            heads: parts that attention divides these into.
            factor: hidden neurons of the MLP per number of a token.
            scaling: 1 for the maximal-update scaling, 0 for the standard one.
            modulus: how many residues there are.

        Raises:
            UserError: other items, no modulus, or heads that do not divide the width.
        """
        super().__init__()
        if modulus < 2:
            raise UserError(
                "backbone transformer needs to know how many residues there are: modulus should be at least "
                f"2, got {modulus}"
            )
        if len(item_shape) != 1 or item_shape[0] not in (2, 3):
            raise UserError(
                f"backbone transformer needs items (2,) or (3,), the inputs have shape {item_shape}"
            )
        if width % heads:
            raise UserError(f"heads of the transformer should divide its width {width}, got {heads}")
        self.vocabulary, self.heads, self.features = modulus + (item_shape[0] > 2), heads, width
        self.scale = (1 + scaling) / 2
        self.token, self.position = nn.Embedding(self.vocabulary, width), nn.Embedding(item_shape[0], width)
        self.query, self.key, self.value, self.mix = (_linear(width, width) for _ in range(4))
        self.widen, self.narrow = _linear(width, factor * width), _linear(factor * width, width)

    def parts(self) -> list[nn.Module]:
        """Return the whole network as one piece."""
        return [self]

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features (N, width) of tokens (N, t), scaled for the head.

        Raises:
            Unsuitable: a number that is no token, such as a mixture of two.
        """
        tokens = rows_of(inputs, self.vocabulary)
        embedded = self.token(tokens) + self.position.weight  # (N, t, D)
        last = embedded[:, -1]
        query, key, value = (
            layer(rows).unflatten(-1, (self.heads, -1))
            for layer, rows in ((self.query, last), (self.key, embedded), (self.value, embedded))
        )
        scores = torch.einsum("nhd,nthd->nth", query, key) / query.shape[-1] ** self.scale
        mixed = torch.einsum("nth,nthd->nhd", scores.softmax(dim=1), value).flatten(1)
        rest = last + self.mix(mixed)
        rest = rest + self.narrow(self.widen(rest).relu())
        return rest / self.features**self.scale  # type: ignore[no-any-return]

    def new_head(self, classes: int) -> nn.Linear:
        """Return the last layer, drawn like the others, without bias."""
        return _linear(self.features, classes)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(layer.weight, std=inputs**-0.5)
    return layer
