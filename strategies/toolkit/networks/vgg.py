"""VGG-19 with batch norm (Simonyan and Zisserman 2015) for images of any size, without its head: `vgg19`.

Its two fully connected layers fit the image instead of one of 224 px, and have no dropout between them:
whoever wants some of their outputs left out does so (nested co-teaching on ANIMAL-10N, whose images of 64 px
leave 2 x 2 places).
"""

from __future__ import annotations

from torch import Tensor, nn

from harness.errors import UserError

_STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Channels and convolutions, each stage followed by a max pooling that halves the sides."""


class VGG19(nn.Module):
    """Sixteen 3 x 3 convolutions with batch norm and ReLU, five poolings, and two fully connected ReLU layers
    of `width` units.
    """

    def __init__(self, item_shape: tuple[int, ...], *, width: int = 4096) -> None:
        """Draw the weights: convolutions normal by fan-out, connected layers normal with deviation 0.01,
        biases zero, as torchvision does.

        Raises:
            UserError: no images, or a side below 32 px, of which nothing is left after five poolings.
        """
        super().__init__()
        if len(item_shape) != 3 or min(item_shape[1:]) < 32:
            raise UserError(
                f"backbone vgg19 needs images (C, H, W) of at least 32 px, the inputs have shape {item_shape}"
            )
        channels, height, breadth = item_shape
        layers: list[nn.Module] = []
        for width_of_stage, convolutions in _STAGES:
            for _ in range(convolutions):
                convolution = nn.Conv2d(channels, width_of_stage, 3, padding=1)
                layers += [convolution, nn.BatchNorm2d(width_of_stage), nn.ReLU(inplace=True)]
                channels = width_of_stage
            layers.append(nn.MaxPool2d(2))
        self.maps = nn.Sequential(*layers, nn.Flatten())
        self.first = nn.Sequential(nn.Linear(channels * (height // 32) * (breadth // 32), width), nn.ReLU())
        self.second = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.features = width
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=0.01)
            if isinstance(part, nn.Conv2d | nn.Linear) and part.bias is not None:
                nn.init.zeros_(part.bias)

    def parts(self) -> list[nn.Module]:
        """Return what ends in the first connected layer, and the second."""
        return [nn.Sequential(self.maps, self.first), self.second]

    def forward(self, images: Tensor) -> Tensor:
        """Return features (N, width) of images (N, C, H, W)."""
        features: Tensor = self.second(self.first(self.maps(images)))
        return features
