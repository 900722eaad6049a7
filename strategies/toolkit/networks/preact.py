"""Pre-activation ResNet for small images (He et al. 2016, "Identity Mappings in Deep Residual Networks"), in
the two forms that are run.

Names of the tensors are those of the public CIFAR implementations, so that weights trained with these can be
read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn.functional import relu

Form = Literal["identity", "normed"]
_WIDTHS = (64, 128, 256, 512)


class PreActBlock(nn.Module):
    """Batch norm, ReLU, 3 x 3 convolution, twice, and a shortcut around them; (N, C, H, W) to (N, width, H /
    stride, W / stride).

    A shortcut with a 1 x 1 convolution starts behind the first ReLU. One without starts at the input, or also
    behind that ReLU (`normed`).
    """

    def __init__(self, channels: int, width: int, *, stride: int, normed: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        changes = stride != 1 or channels != width
        self.shortcut = nn.Sequential(
            *([nn.Conv2d(channels, width, 1, stride=stride, bias=False)] if changes else [])
        )
        self.from_input = not (changes or normed)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the sum of both paths."""
        active = relu(self.bn1(inputs))
        passed: Tensor = inputs if self.from_input else self.shortcut(active)
        return passed + self.conv2(relu(self.bn2(self.conv1(active))))  # type: ignore[no-any-return]


class PreActResNet(nn.Module):
    """A 3 x 3 stem, four stages of blocks, and the mean over positions, with no batch norm or ReLU before it;
    features (N, 512).

    In both forms weights are drawn as torch does, and the last ReLU of He et al. is left out:

    - `identity`: as He et al. have it, the stem is a convolution alone and a shortcut an identity where
      shapes allow (pytorch-cifar).
    - `normed`: the code of ELR+ and DivideMix, where batch norm and ReLU follow the stem, and every shortcut
      starts behind a block's first ReLU, so that none is an identity of its input.
    """

    num_features = _WIDTHS[-1]
    pretrained_cfg: ClassVar[dict[str, Any]] = {"classifier": "linear"}  # the head's name in weights files

    def __init__(self, channels: int, depths: Sequence[int], form: Form) -> None:
        """Take the channels of images, and the number of blocks of every stage."""
        super().__init__()
        normed = form == "normed"
        self.conv1 = nn.Conv2d(channels, _WIDTHS[0], 3, padding=1, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(_WIDTHS[0]) if normed else nn.Identity()
        self.act1: nn.Module = nn.ReLU() if normed else nn.Identity()
        before = _WIDTHS[0]
        for number, (width, depth) in enumerate(zip(_WIDTHS, depths, strict=True), start=1):
            first = PreActBlock(before, width, stride=1 if number == 1 else 2, normed=normed)
            others = [PreActBlock(width, width, stride=1, normed=normed) for _ in range(depth - 1)]
            self.add_module(f"layer{number}", nn.Sequential(first, *others))
            before = width
        self.global_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, images: Tensor) -> Tensor:
        """Return features (N, 512) of images (N, C, H, W)."""
        for part in self.children():
            images = part(images)
        return images
