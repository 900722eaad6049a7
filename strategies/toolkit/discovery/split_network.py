"""A backbone in pieces, the first of which may be frozen: what is frozen runs once for all who use it, and
without gradient.

So a student, its teacher and its previous self share one pass through the part that they have in common.
"""

from __future__ import annotations

import copy
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from harness.contracts import Context
from strategies.toolkit.networks import backbone
from strategies.toolkit.networks.compiling import compiled

Trainable = Literal["all", "last", "head"]
"""Which parts of the backbone train: all, the last, or none."""


class SplitNetwork(nn.Module):
    """Features in two steps: `hidden` runs the frozen parts without gradient, `features` the rest."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self.context = context
        self.item_shape: tuple[int, ...] = ()
        self.frozen = self.held = 0

    def build_backbone(self, item_shape: tuple[int, ...]) -> None:
        """Make the protocol's backbone for items of that shape, with weights from the stream `init`."""
        self.item_shape = item_shape
        whole: Any = backbone(self.context, item_shape)
        self.dimensions, self.held = int(whole.features), int(getattr(whole, "frozen", 0))
        self.parts, self.frozen = (
            nn.ModuleList(compiled(part, self.context) for part in whole.parts()),
            self.held,
        )
        self._hold_frozen()

    def freeze(self, trainable: Trainable) -> Self:
        """Let the named parts train and freeze those before; what the protocol does not lend for training
        stays as it is.

        What a part itself froze when it was made stays so too.
        """
        self.frozen = max(
            self.held, {"all": 0, "last": len(self.parts) - 1, "head": len(self.parts)}[trainable]
        )
        self._hold_frozen()
        return self

    def train(self, mode: bool = True) -> Self:
        """Change the mode of what trains; what is frozen answers as in evaluation."""
        super().train(mode)
        if self.item_shape:
            for part in self.parts[: self.frozen]:
                part.eval()
        return self

    def hidden(self, inputs: Tensor) -> Tensor:
        """Return what the frozen parts make of inputs (N, ...), without gradient."""
        with torch.no_grad():
            for part in self.parts[: self.frozen]:
                inputs = part(inputs)
        return inputs

    def features(self, hidden: Tensor) -> Tensor:
        """Return features (N, d) of what `hidden` returned."""
        for part in self.parts[self.frozen :]:
            hidden = part(hidden)
        return hidden

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features (N, d)."""
        return self.features(self.hidden(inputs))

    def weights(self, *, decay: float) -> list[dict[str, Any]]:
        """Return the trainable weights in two groups: matrices decay, vectors do not."""
        trainable = [weight for weight in self.parameters() if weight.requires_grad]
        return [
            {"params": [weight for weight in trainable if weight.ndim > 1], "weight_decay": decay},
            {"params": [weight for weight in trainable if weight.ndim <= 1], "weight_decay": 0.0},
        ]

    def _hold_frozen(self) -> None:
        for part in self.parts[: self.frozen]:
            part.requires_grad_(False).eval()


class Previous(nn.Module):
    """The trainable parts and a head as they were; fed with the same hidden values."""

    def __init__(self, network: SplitNetwork, head: nn.Module) -> None:
        super().__init__()
        self.parts, self.head = copy.deepcopy(network.parts[network.frozen :]), copy.deepcopy(head)
        self.requires_grad_(False).eval()
        for part in self.parts:
            compiled(part, network.context)

    @torch.no_grad()
    def forward(self, hidden: Tensor) -> Tensor:
        """Return features (N, d)."""
        for part in self.parts:
            hidden = part(hidden)
        return hidden
