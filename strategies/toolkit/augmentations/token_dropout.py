"""Texts with tokens left out."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from harness.errors import UserError


class TokenDropout:
    """Leave tokens out of items (B, tokens, D); absent tokens are zero rows, and one token always stays."""

    def __init__(self, *, rate: float = 0.3) -> None:
        """Take the share left out, in [0, 1)."""
        if not 0 <= rate < 1:
            raise UserError(f"token-dropout needs a rate in [0, 1), got {rate}")
        self.rate = rate

    def __call__(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return items of the same shape with more zero rows."""
        if inputs.ndim != 3:
            raise UserError(
                f"augmentation token-dropout needs items (tokens, D), the inputs have shape {tuple(inputs.shape[1:])}"
            )
        present = inputs.any(dim=2)
        luck = torch.rand(present.shape, generator=generator, device=inputs.device).masked_fill_(
            ~present, -1.0
        )
        kept = (luck >= self.rate) | (luck == luck.amax(dim=1, keepdim=True))
        return inputs * kept[:, :, None]
