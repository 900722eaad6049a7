"""What a network sees of images that are not of its size: the centre of the enlarged image, as published
evaluations do, against PIL's.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import CenterCrop, Compose, InterpolationMode, Resize  # type: ignore[import-untyped]

from harness.errors import UserError
from harness.networks import maker
from strategies.toolkit.networks import Prepare


def _prepare(crop_pct: float) -> Prepare:
    return Prepare(sides=(56, 56), scale=None, colours=False, crop_pct=crop_pct)


@pytest.mark.parametrize("side", [32, 64, 100])
def test_the_centre_is_that_of_resizing_and_cropping_a_picture(side: int) -> None:
    """56 of 64 px; PIL rounds to whole values between its passes, which is where the two differ."""
    pixels = (
        np.random.default_rng(side)
        .integers(40, 216, size=(side // 4, side // 4, 3), dtype=np.uint8)
        .repeat(4, axis=0)
        .repeat(4, axis=1)
    )
    picture = Compose([Resize(64, interpolation=InterpolationMode.BICUBIC), CenterCrop(56)])(
        Image.fromarray(pixels)
    )
    ours = _prepare(0.875)(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
    theirs = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
    torch.testing.assert_close(ours, theirs, atol=2 / 255, rtol=0)


def test_images_of_the_models_size_are_taken_as_they_are() -> None:
    crops = torch.rand(2, 3, 56, 56)
    assert _prepare(0.875)(crops) is crops
    assert not torch.equal(_prepare(1.0)(torch.rand(1, 3, 64, 64)), _prepare(0.875)(torch.rand(1, 3, 64, 64)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "timm:resnet10t[crop_pct=0.875]",
            "crop_pct=0.875 needs a size that images are brought to, and timm:resnet10t takes any: say image=224",
        ),
        (
            "timm:resnet10t[image=64,crop_pct=1.5]",
            "crop_pct of a backbone should be a share above 0 and up to 1, such as 0.875, got 1.5",
        ),
        ("timm:resnet10t[image=64,crop_pct=0]", "should be a share above 0 and up to 1"),
    ],
)
def test_a_share_that_means_nothing_is_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said.replace("[", r"\[")):
        maker("backbone", text)((3, 32, 32))
