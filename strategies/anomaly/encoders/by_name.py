"""Frozen encoders by name: images to a grid of feature vectors, which detectors of anomalies compare. Nothing
in them learns from a stage.

`gabor`, `scattering` and `lite0` give one group of features per patch, vision transformers two, an earlier
and a later one (INP-Former). The protocol chooses the encoder, so that detectors are compared on the same
features; weights that are drawn follow a seed of the cell.

Legend: N images, G groups, P patches in row order, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from harness.contracts import Context, Inputs
from harness.errors import Unsuitable
from harness.networks import kinds_of, maker
from strategies.toolkit.networks.compiling import compiled
from strategies.toolkit.training.tensors import as_tensor


class Network(Protocol):
    """What an encoder is made of. digest: SHA-256 of its weights file, empty where it has none."""

    grid: tuple[int, int]
    groups: int
    channels: int
    digest: str

    def __call__(self, images: Tensor) -> Tensor:
        """Return tokens (N, G, P, D) of images (N, C, H, W) in [0, 1]."""
        ...


@dataclass(frozen=True, slots=True)
class Encoder:
    """A frozen network in evaluation mode. It is rebuilt from its name where a cell continues, and is no part
    of a strategy's state.
    """

    network: Network
    device: str

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along height and width; P is their product."""
        return self.network.grid

    @property
    def groups(self) -> int:
        """G."""
        return self.network.groups

    @property
    def channels(self) -> int:
        """D."""
        return self.network.channels

    @property
    def digest(self) -> str:
        """SHA-256 of the weights file, empty where there is none."""
        return self.network.digest

    @torch.no_grad()  # not inference_mode: its tensors could not be trained on
    def encode(self, inputs: Inputs, *, chunk: int = 64) -> Tensor:
        """Return tokens float32 (N, G, P, D) on the device; `chunk` images pass at once."""
        height, width = self.grid
        tokens = torch.empty(len(inputs), self.groups, height * width, self.channels, device=self.device)
        for start in range(0, len(inputs), chunk):
            rows = np.arange(start, min(start + chunk, len(inputs)))
            tokens[start : start + chunk] = self.network(as_tensor(np.asarray(inputs[rows]), self.device))
        return tokens


def encoder(context: Context, item_shape: tuple[int, ...], *, seed: int = 0) -> Encoder:
    """Return the protocol's encoder for images of `item_shape` (C, H, W).

    Args:
        context: its `backbone` names the encoder.
        item_shape: of one image.
        seed: decides on weights that are drawn; the same in every stage of a cell.

    Raises:
        UserError: no encoder of that name, a parameter it does not have, images it cannot take, or a weights
        file that is not what it says.
        Unsuitable: the items are no images, or the protocol has a network to train where an encoder is
        needed.
    """
    if len(item_shape) != 3:
        raise Unsuitable(f"encoders take images (C, H, W), the inputs have shape {item_shape}")
    if kinds_of(context.backbone) == {"backbone"}:
        raise Unsuitable(
            f"needs a frozen encoder, and the protocol has a network to train: {context.backbone}"
        )
    make = maker("encoder", context.backbone)
    before = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        network = make(item_shape)
    finally:
        torch.set_rng_state(before)
    return Encoder(compiled(network.to(context.device).requires_grad_(False).eval(), context), context.device)
