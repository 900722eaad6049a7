"""A convolutional autoencoder on pixels: what it rebuilds badly is anomalous.

Three convolutions of stride 2 lead to a bottleneck of a few channels on an eighth of the grid, three steps of
nearest-neighbour upsampling and convolution lead back; the loss is the mean squared error (Bergmann et al.
2019 use one as a detector). A patch's score is the root of its mean squared error. Pixels alone are weak on
textures, and gradient steps on one category after another forget the earlier ones: that is what this baseline
is for. It does not use the protocol's encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate, mse_loss

from harness.contracts import Context, Prediction, Query, Stage, Strategy, param
from harness.errors import Unsuitable
from strategies.anomaly.shortened import shortened
from strategies.toolkit.networks import drawn_from
from strategies.toolkit.training.eval_mode import eval_mode
from strategies.toolkit.training.loop import cosine, train
from strategies.toolkit.training.tensors import as_tensor, items_of

_CHUNK = 64
_SMALLEST = 8


class PixelAutoencoder(Strategy):
    """Train on the stage's normal images, going on from the weights of the stage before; answer the error of
    rebuilding.
    """

    lr: float = param(1e-3, "learning rate of Adam, falling to zero along half a cosine", gt=0)
    width: int = param(16, "channels of the first convolution, doubled by the second", ge=1, unit="channels")
    bottleneck: int = param(4, "channels of the bottleneck", ge=1, unit="channels", ablate=[1, 16])
    patch: int = param(4, "side of the square whose errors are averaged", ge=1, unit="px")

    def setup(self) -> None:
        """Make an empty network; it is built when the first images show their shape."""
        self.network = Rebuilding(self.context, width=self.width, bottleneck=self.bottleneck)

    def learn(self, stage: Stage) -> None:
        """Take the protocol's number of steps on the stage's images.

        Raises:
            Unsuitable: items that are not images, or images smaller than 8 x 8.
            Diverged: as `train` does.
        """
        if not self.network.item_shape:
            self.network.build(tuple(stage.inputs.shape[1:]))
        optimiser = torch.optim.Adam(self.network.parameters(), lr=self.lr, fused=True)
        train(
            self.network,
            items_of(stage, self.context),
            lambda batch: mse_loss(self.network(batch.inputs), batch.inputs),
            optimiser,
            self.context,
            schedule=cosine,
        )

    def predict(self, query: Query) -> Prediction:
        """Answer the root of the mean squared error per patch, float32 of 11 bits (N, h, w)."""
        maps = []
        with eval_mode(self.network):
            for start in range(0, len(query.ids), _CHUNK):
                rows = np.arange(start, min(start + _CHUNK, len(query.ids)))
                images = as_tensor(np.asarray(query.inputs[rows]), self.context.device)
                errors = (self.network(images) - images).square().mean(dim=1)
                height, width = (max(1, side // self.patch) for side in images.shape[2:])
                maps.append(shortened(adaptive_avg_pool2d(errors, (height, width)).sqrt()))
        return Prediction(anomaly_maps=np.concatenate(maps))


class Rebuilding(nn.Module):
    """Images (N, C, H, W) in [0, 1] to images of the same shape through a narrow middle."""

    def __init__(self, context: Context, *, width: int, bottleneck: int) -> None:
        super().__init__()
        self.context, self.width, self.bottleneck = context, width, bottleneck
        self.item_shape: tuple[int, ...] = ()

    def build(self, item_shape: tuple[int, ...]) -> Self:
        """Make all layers with weights from the stream `init`; raise `Unsuitable` for what is no image or too
        small a one.
        """
        if len(item_shape) != 3 or min(item_shape[1:]) < _SMALLEST:
            raise Unsuitable(
                f"its autoencoder takes images (C, H, W) from 8 x 8, the inputs have shape {item_shape}"
            )
        wide = 2 * self.width
        with drawn_from(self.context, "init"):
            encoder = [
                _down(item_shape[0], self.width),
                nn.ReLU(),
                _down(self.width, wide),
                nn.ReLU(),
                _down(wide, self.bottleneck),
            ]
            decoder = [
                _up(self.bottleneck, wide),
                nn.ReLU(),
                _up(wide, self.width),
                nn.ReLU(),
                _up(self.width, item_shape[0]),
            ]
            self.layers = nn.Sequential(*encoder, *decoder).to(self.context.device)
        self.item_shape = item_shape
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return the images as rebuilt."""
        rebuilt: Tensor = self.layers(images)
        if rebuilt.shape == images.shape:
            return rebuilt
        return interpolate(rebuilt, size=images.shape[2:], mode="bilinear", align_corners=False)

    def get_extra_state(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to build the network first."""
        return {"item_shape": list(self.item_shape)}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Nothing is left to do; `load_state_dict` has built the network."""

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Build the network that `state` was taken from, then load its weights."""
        if state["_extra_state"]["item_shape"]:
            self.build(tuple(state["_extra_state"]["item_shape"]))
        return super().load_state_dict(state, strict=strict, assign=assign)


def _down(fan_in: int, fan_out: int) -> nn.Module:
    return nn.Conv2d(fan_in, fan_out, 3, stride=2, padding=1)


def _up(fan_in: int, fan_out: int) -> nn.Module:
    return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(fan_in, fan_out, 3, padding=1))
