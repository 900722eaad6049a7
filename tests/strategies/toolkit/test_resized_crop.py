"""Resized crops: what is cut, what it becomes, and that all images at once are what each would be alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from harness.errors import UserError
from strategies.toolkit.augmentations import ResizedCrop, augmentation_of


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


IMAGES = torch.rand(6, 3, 16, 12, generator=_generator(9))


def _coordinates(items: int, side: int = 40) -> Tensor:
    """Images whose two channels say where a pixel lies, across and down, in [0, 1]."""
    places = (torch.arange(side) + 0.5) / side
    return torch.stack([places.expand(side, side), places[:, None].expand(side, side)]).repeat(items, 1, 1, 1)


def _sides(cut: Tensor) -> tuple[Tensor, Tensor]:
    """Width and height of what was cut from `_coordinates`, as shares; negative where it was mirrored. Read
    off inside the border.
    """
    pixels = cut.shape[-1]
    width = (cut[:, 0, 0, -4] - cut[:, 0, 0, 3]) * pixels / (pixels - 7)
    height = (cut[:, 1, -4, 0] - cut[:, 1, 3, 0]) * pixels / (pixels - 7)
    return width, height


@pytest.mark.parametrize(("size", "sides"), [(0, (16, 12)), (7, (7, 7)), (20, (20, 20))])
def test_crops_have_the_size_asked_for(size: int, sides: tuple[int, int]) -> None:
    assert ResizedCrop(size=size)(IMAGES, _generator()).shape == (6, 3, *sides)


def test_a_whole_crop_of_the_same_size_changes_nothing() -> None:
    torch.testing.assert_close(ResizedCrop(low=1, high=1)(IMAGES, _generator()), IMAGES, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [9, 23])
def test_a_whole_crop_of_another_size_is_bilinear_resizing(size: int) -> None:
    expected = interpolate(IMAGES, size=(size, size), mode="bilinear", align_corners=False)
    torch.testing.assert_close(
        ResizedCrop(low=1, high=1, size=size)(IMAGES, _generator()), expected, atol=1e-5, rtol=0
    )


def test_areas_are_uniform_in_their_range_aspects_within_theirs_and_every_place_is_met() -> None:
    cut = ResizedCrop(low=0.3, high=0.8)(_coordinates(2000), _generator())
    width, height = _sides(cut)
    area, aspect = width * height, width / height
    assert 0.3 - 1e-3 < float(area.min()) < 0.31
    assert 0.79 < float(area.max()) < 0.8 + 1e-3
    assert float(area.mean()) == pytest.approx(0.55, abs=0.01)
    assert float(aspect.min()) == pytest.approx(3 / 4, abs=0.01)
    assert float(aspect.max()) == pytest.approx(4 / 3, abs=0.01)
    middle = cut[:, :, 19:21, 19:21].mean(dim=(2, 3))
    assert middle.mean(dim=0).tolist() == pytest.approx([0.5, 0.5], abs=0.02)
    reach = torch.stack([(1 - width) / 2, (1 - height) / 2], dim=1)
    assert float((middle - 0.5).abs().sub(reach).max()) < 1e-3, "a rectangle that fits in the image"
    assert float(((middle - 0.5).abs() / reach).max()) > 0.99


def test_mirrors_at_the_rate_said_and_not_at_all_by_default() -> None:
    images = _coordinates(1000)
    assert bool((_sides(ResizedCrop()(images, _generator()))[0] > 0).all())
    turned = _sides(ResizedCrop(mirror=0.3)(images, _generator()))[0] < 0
    assert float(turned.float().mean()) == pytest.approx(0.3, abs=0.05)


def test_all_images_at_once_are_what_each_is_alone() -> None:
    """A second implementation, image by image: sample every pixel by hand, then brightness, contrast and
    threshold.
    """
    view = ResizedCrop(low=0.3, high=0.8, size=9, mirror=0.5, jitter=0.4, jitter_chance=0.7, solarise=0.5)
    cut = view(IMAGES, _generator(3))
    luck = torch.rand(10, len(IMAGES), generator=_generator(3)).double().tolist()
    changed, inverted = set(), set()
    for item, image in enumerate(IMAGES.double()):
        draw = [row[item] for row in luck]
        area = 0.3 + draw[0] * 0.5
        limit = min(math.log(4 / 3), -math.log(area))
        aspect = math.exp((2 * draw[1] - 1) * limit)
        width, height = math.sqrt(area * aspect), math.sqrt(area / aspect)
        left, top = draw[2] * (1 - width), draw[3] * (1 - height)
        alone = torch.empty(3, 9, 9, dtype=torch.double)
        for row in range(9):
            for column in range(9):
                across = (8 - column if draw[4] < 0.5 else column) + 0.5
                x = min(max((left + width * across / 9) * 12 - 0.5, 0), 11)
                y = min(max((top + height * (row + 0.5) / 9) * 16 - 0.5, 0), 15)
                near, far = (min(int(y), 14), min(int(x), 10)), (y - min(int(y), 14), x - min(int(x), 10))
                corner = image[:, near[0] : near[0] + 2, near[1] : near[1] + 2]
                upper, lower = (
                    corner[:, side, 0] * (1 - far[1]) + corner[:, side, 1] * far[1] for side in (0, 1)
                )
                alone[:, row, column] = upper * (1 - far[0]) + lower * far[0]
        if draw[5] < 0.7:
            changed.add(item)
            alone = (alone * (0.6 + 0.8 * draw[6])).clamp(0, 1)
            alone = (alone.mean() + (0.6 + 0.8 * draw[7]) * (alone - alone.mean())).clamp(0, 1)
        if draw[8] < 0.5:
            inverted.add(item)
            alone = torch.where(alone >= draw[9], 1 - alone, alone)
        torch.testing.assert_close(cut[item].double(), alone, atol=1e-4, rtol=0)
    assert 0 < len(changed) < 6
    assert 0 < len(inverted) < 6


def test_a_generator_decides_and_colours_leave_the_geometry_alone() -> None:
    view = ResizedCrop(low=0.3, mirror=0.5, jitter=0.4, jitter_chance=1, solarise=1)
    first, again, other = (view(IMAGES, _generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    plain, uncoloured = (
        ResizedCrop(low=0.3, mirror=0.5, jitter=jitter, jitter_chance=0)(IMAGES, _generator(1))
        for jitter in (0, 0.4)
    )
    torch.testing.assert_close(plain, uncoloured, atol=1e-6, rtol=0)
    assert not torch.allclose(plain, first, atol=1e-2)


@pytest.mark.parametrize("ends", ["low=0,high=1", "low=0.9,high=0.5", "low=0.5,high=1.5"])
def test_bad_shares_of_the_area_are_told(ends: str) -> None:
    with pytest.raises(UserError, match="0 < low <= high <= 1"):
        augmentation_of(f"resized-crop[{ends}]")


def test_only_images_can_be_cut() -> None:
    with pytest.raises(UserError, match="resized-crop needs images"):
        augmentation_of("resized-crop")(torch.ones(2, 5), _generator())
