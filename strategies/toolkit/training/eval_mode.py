"""A look at a network in the middle of its training, and at what it makes of items."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from harness.errors import Diverged


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode without gradient; afterwards every part is in the mode it was in, also
    one that stood still.
    """
    modes = {part: part.training for part in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def of_some_length(features: Tensor) -> Tensor:
    """Return features (N, d), if each has a length; at unit length those whose squares leave the format would
    be zero without a word.

    Raises:
        Diverged: one has none, named by its row.
    """
    lost = torch.linalg.vector_norm(features, dim=1).isfinite().logical_not()
    if lost.any():
        row = int(lost.nonzero()[0, 0])
        raise Diverged(
            f"the features of item {row} are not finite, or so large that their length is not: "
            f"{features[row].abs().max():.3g}"
        )
    return features
