"""What any inputs can bear: noise, or nothing at all."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


class Same:
    """No change: two looks are equal."""

    def __call__(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return the inputs."""
        return inputs


class Noise:
    """Add Gaussian noise of standard deviation `std` to any inputs."""

    def __init__(self, *, std: float = 0.1) -> None:
        """Take the standard deviation."""
        self.std = std

    def __call__(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return noisy inputs."""
        return inputs + self.std * torch.randn(inputs.shape, generator=generator, device=inputs.device)
