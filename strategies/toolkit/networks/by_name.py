"""The protocol's backbone, with weights from a stream."""

from __future__ import annotations

import torch
from torch import nn

from harness.contracts import Context
from harness.errors import Unsuitable
from harness.networks import kinds_of, maker
from strategies.toolkit.networks.compiling import compiled


def backbone(context: Context, item_shape: tuple[int, ...], init: str = "init") -> nn.Module:
    """Return the protocol's backbone for items of `item_shape`, with `features` outputs, initialised from the
    stream `init`.

    Its calls are compiled where the run asks for it; `parts()` are then not, and are for the caller to
    compile.

    Raises:
        Unsuitable: the protocol has a frozen encoder where a network to train is needed.
    """
    if kinds_of(context.backbone) == {"encoder"}:
        raise Unsuitable(f"trains a network, and the protocol has a frozen encoder: {context.backbone}")
    make = maker("backbone", context.backbone)
    with drawn_from(context, init):
        network: nn.Module = make(item_shape)
        return compiled(network.to(context.device), context)


class drawn_from:  # noqa: N801  (reads as a statement at its use)
    """Context manager: torch's global generator follows the stream `name` inside and is put back afterwards."""

    def __init__(self, context: Context, name: str) -> None:
        self.seed = int(context.stream(name).integers(2**63))

    def __enter__(self) -> None:
        self.before = torch.get_rng_state()
        torch.manual_seed(self.seed)

    def __exit__(self, *_: object) -> None:
        torch.set_rng_state(self.before)
