"""Batched views against a second implementation: torchvision's functions, image by image, with the numbers
that were drawn.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from strategies.toolkit.augmentations import ColourJitter, augmentation_of
from strategies.toolkit.augmentations.blur import blurred
from strategies.toolkit.augmentations.equalise import equalised

functional = pytest.importorskip("torchvision.transforms.functional")

ITEMS, SIDE = 40, 20


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _bytes() -> Tensor:
    """Smooth and rough images, grey ones, black and white ones: uint8 (ITEMS, 3, SIDE, SIDE)."""
    rng = np.random.default_rng(7)
    images = rng.integers(0, 256, (ITEMS, 3, SIDE, SIDE))
    across, down = np.meshgrid(np.linspace(0, 1, SIDE), np.linspace(0, 1, SIDE))
    images[:20] = 255 * np.stack([across, down, across * down])
    images[20:23] = images[20:23, :1]
    images[23], images[24] = 0, 255
    return torch.from_numpy(images.astype(np.uint8))


BYTES = _bytes()
IMAGES = BYTES.float() / 255
ONE_CHANNEL = IMAGES[:, :1]


def _drawn(numbers: int, items: int = ITEMS) -> list[list[float]]:
    """What a view draws: a row of numbers for every item."""
    return torch.rand(numbers, items, generator=_generator(3)).double().T.tolist()


def _jittered(
    image: Tensor | Image.Image, draw: list[float], amounts: tuple[float, ...]
) -> Tensor | Image.Image:
    """Change one image by torchvision's functions; draw: brightness, contrast, saturation, hue, order,
    chance.
    """
    changes = (
        functional.adjust_brightness,
        functional.adjust_contrast,
        functional.adjust_saturation,
        functional.adjust_hue,
    )
    brightness, contrast, saturation, hue = (
        max(0.0, 1 - most) + share * (1 + most - max(0.0, 1 - most)) if place < 3 else most * (2 * share - 1)
        for place, (most, share) in enumerate(zip(amounts, draw[:4], strict=True))
    )
    for place in list(permutations(range(4)))[int(draw[4] * 24)]:
        image = changes[place](image, (brightness, contrast, saturation, hue)[place])
    return image


@pytest.mark.parametrize("amounts", [(0.4, 0.4, 0.2, 0.1), (1.5, 1.5, 1.5, 0.5)])
def test_colour_jitter(amounts: tuple[float, float, float, float]) -> None:
    """Within 1/500: torchvision rounds the shares of the luma to four places."""
    brightness, contrast, saturation, hue = amounts
    view = ColourJitter(brightness=brightness, contrast=contrast, saturation=saturation, hue=hue, chance=0.7)
    found = view(IMAGES, _generator(3))
    changed = 0
    for image, draw, each in zip(IMAGES, _drawn(6), found, strict=True):
        changed += draw[5] < 0.7
        expected = _jittered(image, draw, amounts) if draw[5] < 0.7 else image
        torch.testing.assert_close(each, expected, atol=2e-3, rtol=0)
    assert 20 < changed < ITEMS


def test_colour_jitter_of_pictures_as_released_code_does_it() -> None:
    """PIL cuts values off to bytes after every change, the hue to a 256th of the circle: up to half a grey
    level darker for each.
    """
    found = 255 * augmentation_of("colour-jitter[chance=1]")(IMAGES[:20], _generator(3))
    expected = []
    for image, draw in zip(BYTES[:20], _drawn(6, 20), strict=True):
        changed = _jittered(functional.to_pil_image(image), draw, (0.4, 0.4, 0.2, 0.1))
        expected.append(torch.from_numpy(np.asarray(changed).transpose(2, 0, 1).astype(np.float32)))
    apart = found - torch.stack(expected)
    assert 0 < float(apart.mean()) < 2
    assert float(apart.std()) < 2


def test_colours_that_do_not_change_stay_to_the_bit_and_the_order_is_of_those_that_do() -> None:
    assert torch.equal(augmentation_of("colour-jitter[chance=0]")(IMAGES, _generator()), IMAGES)
    assert torch.equal(
        augmentation_of("colour-jitter[brightness=0,contrast=0,saturation=0,hue=0,chance=1]")(
            IMAGES, _generator()
        ),
        IMAGES,
    )
    found = augmentation_of("colour-jitter[brightness=0.3,contrast=0,saturation=0,hue=0,chance=1]")(
        IMAGES, _generator(3)
    )
    factors = 0.7 + 0.6 * torch.tensor(_drawn(6))[:, 0]
    torch.testing.assert_close(found, (IMAGES * factors[:, None, None, None]).clamp(max=1), atol=1e-6, rtol=0)


def test_images_of_one_channel_have_brightness_and_contrast_alone() -> None:
    found = augmentation_of("colour-jitter[chance=1]")(ONE_CHANNEL, _generator(3))
    for image, draw, each in zip(ONE_CHANNEL, _drawn(6), found, strict=True):
        torch.testing.assert_close(each, _jittered(image, draw, (0.4, 0.4, 0.2, 0.1)), atol=1e-5, rtol=0)
    assert torch.equal(augmentation_of("grey[chance=1]")(ONE_CHANNEL, _generator()), ONE_CHANNEL)


@pytest.mark.parametrize(("border", "sides"), [(4, (SIDE, SIDE)), (1, (SIDE, 13)), (0, (SIDE, SIDE))])
def test_padded_crop(border: int, sides: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut in one go and in small parts."""
    height, width = sides
    images = IMAGES[..., :width]
    expected = []
    for image, (down, across, luck) in zip(images, _drawn(3), strict=True):
        top, left = int(down * (2 * border + 1)), int(across * (2 * border + 1))
        cut = functional.crop(pad(image, [border] * 4), top, left, height, width)
        expected.append(functional.hflip(cut) if luck < 0.5 else cut)
    view = augmentation_of(f"padded-crop[pad={border},mirror=0.5]")
    assert torch.equal(view(images, _generator(3)), torch.stack(expected))
    monkeypatch.setattr("strategies.toolkit.augmentations.padded_crop.AT_ONCE", 3 * images[0].numel())
    assert torch.equal(view(images, _generator(3)), torch.stack(expected))


def test_padded_crops_meet_every_place_and_mirror_at_the_rate_said() -> None:
    spot = torch.zeros(2000, 1, 9, 9)
    spot[:, :, 4, 4] = 1
    found = augmentation_of("padded-crop[pad=2]")(spot, _generator())[:, 0].nonzero()[:, 1:]
    counts = torch.bincount((found[:, 0] - 2) * 5 + found[:, 1] - 2, minlength=25)
    assert len(counts) == 25
    assert int(counts.min()) > 2000 / 25 * 0.6
    ramp = torch.arange(9.0).expand(2000, 1, 9, 9)
    falling = augmentation_of("padded-crop[pad=0,mirror=0.3]")(ramp, _generator())[:, 0, 0, 0] == 8
    assert float(falling.float().mean()) == pytest.approx(0.3, abs=0.04)


def test_grey() -> None:
    found = augmentation_of("grey[chance=0.4]")(IMAGES, _generator(3))
    luck = torch.rand(ITEMS, generator=_generator(3))
    for image, draw, each in zip(IMAGES, luck.tolist(), found, strict=True):
        expected = functional.rgb_to_grayscale(image, num_output_channels=3) if draw < 0.4 else image
        torch.testing.assert_close(each, expected, atol=2e-4, rtol=0)


def test_solarise() -> None:
    found = augmentation_of("solarise[chance=0.4,low=0.2,high=0.7]")(IMAGES, _generator(3))
    for image, (chance, place), each in zip(IMAGES, _drawn(2), found, strict=True):
        expected = functional.solarize(image, 0.2 + 0.5 * place) if chance < 0.4 else image
        torch.testing.assert_close(each, expected, atol=1e-6, rtol=0)


def test_equalise() -> None:
    assert torch.equal(
        (255 * equalised(IMAGES)).round().byte(), torch.stack([functional.equalize(image) for image in BYTES])
    )
    found = augmentation_of("equalise[chance=0.4]")(IMAGES, _generator(3))
    luck = torch.rand(ITEMS, generator=_generator(3))
    assert torch.equal(found, torch.where((luck < 0.4)[:, None, None, None], equalised(IMAGES), IMAGES))


@pytest.mark.parametrize("window", [3, 9])
def test_blur(window: int) -> None:
    deviations = torch.linspace(0.1, 2, ITEMS)
    found = blurred(IMAGES, deviations, window)
    for image, deviation, each in zip(IMAGES, deviations.tolist(), found, strict=True):
        torch.testing.assert_close(
            each, functional.gaussian_blur(image, window, deviation), atol=1e-5, rtol=0
        )
    shown = augmentation_of(f"blur[chance=0.4,window={window}]")(IMAGES, _generator(3))
    luck = torch.rand(2, ITEMS, generator=_generator(3))
    expected = blurred(IMAGES, 0.1 + 1.9 * luck[1], window)
    torch.testing.assert_close(
        shown, torch.where((luck[0] < 0.4)[:, None, None, None], expected, IMAGES), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize(("side", "window"), [(224, 23), (32, 3), (14, 3)])
def test_a_window_is_a_tenth_of_the_image_unless_told(side: int, window: int) -> None:
    images = torch.rand(2, 1, side, side, generator=_generator(1))
    told = augmentation_of(f"blur[chance=1,window={window}]")(images, _generator(3))
    assert torch.equal(augmentation_of("blur[chance=1]")(images, _generator(3)), told)


@pytest.mark.parametrize("sides", [(8, 8), (16, 16), (24, 20)])
def test_a_crop_of_a_size_is_a_window_of_the_enlarged_image(sides: tuple[int, int]) -> None:
    """Every crop of 14 px out of 16 is one of nine windows or its mirror image, of what torchvision enlarges
    or shrinks to 16 px.
    """
    images = torch.rand(200, 3, *sides, generator=_generator(3)) * 0.6 + 0.2
    shown = augmentation_of("crop[size=14,of=16]")(images, _generator())
    assert shown.shape == (200, 3, 14, 14)
    large = functional.resize(
        images, [16, 16], interpolation=functional.InterpolationMode.BICUBIC, antialias=True
    ).clamp(0, 1)
    windows = [large[..., top : top + 14, left : left + 14] for top in range(3) for left in range(3)]
    near = torch.stack(
        [
            (shown - each).abs().amax(dim=(1, 2, 3))
            for each in [*windows, *(window.flip(-1) for window in windows)]
        ]
    )
    assert float(near.amin(dim=0).max()) < 1e-5
    met = torch.bincount(near.argmin(dim=0), minlength=18)
    assert bool((met > 0).all())
    assert 60 < int(met[:9].sum()) < 140
