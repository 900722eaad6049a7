"""Batch normalisation that stands still for a part of the training, as networks are fine-tuned."""

from __future__ import annotations

from torch import nn

from strategies.noisy_labels.base import Networks


class FrozenBatchNorm:
    """The batch normalisations of networks, which stand still in a part of the training if `still`."""

    def __init__(self, models: Networks, *, still: bool) -> None:
        every = [
            part
            for model in models
            for part in model.modules()
            if isinstance(part, nn.modules.batchnorm._BatchNorm)
        ]
        self.standing = every if still else []
        self.trained = [
            weights for norm in self.standing for weights in norm.parameters() if weights.requires_grad
        ]

    def freeze(self) -> None:
        """Normalise by the running figures and train neither weights nor figures; after what puts a network
        into training mode.
        """
        for norm in self.standing:
            norm.eval().requires_grad_(False)

    def unfreeze(self) -> None:
        """Let the weights train again that did before."""
        for weights in self.trained:
            weights.requires_grad_(True)
