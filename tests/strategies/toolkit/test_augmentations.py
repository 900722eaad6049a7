"""Views: what may change, what may not, and that they come from the stream that is handed in."""

from __future__ import annotations

import pytest
import torch

from harness.errors import UserError
from harness.plugins import registered
from strategies.toolkit.augmentations import Affine, Chain, Crop, TokenDropout, augmentation_of


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


IMAGES = torch.rand(4, 1, 14, 14, generator=_generator(9))
COLOURED = torch.rand(16, 3, 14, 14, generator=_generator(9))
VIEWS = sorted(registered("augmentation"))
JOINED = "padded-crop[pad=2,mirror=0.5]+colour-jitter+grey"


@pytest.mark.parametrize("text", [*VIEWS, JOINED])
def test_a_view_has_the_same_shape_follows_its_generator_and_leaves_the_inputs_alone(text: str) -> None:
    inputs = torch.rand(4, 6, 14) if text == "token-dropout" else COLOURED.clone()
    before = inputs.clone()
    view = augmentation_of(text)
    first, again, other = (view(inputs, _generator(seed)) for seed in (1, 1, 2))
    assert first.shape == inputs.shape
    assert torch.equal(first, again)
    assert torch.equal(inputs, before)
    assert torch.equal(first, other) == (text == "same")


@pytest.mark.parametrize("text", sorted({*VIEWS, JOINED} - {"token-dropout"}))
def test_a_view_takes_a_single_image_and_images_that_are_not_laid_out_in_order(text: str) -> None:
    view = augmentation_of(text)
    assert view(COLOURED[:1], _generator()).shape == (1, 3, 14, 14)
    strewn = COLOURED.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(view(strewn, _generator(1)), view(COLOURED, _generator(1)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("text", sorted({*VIEWS, JOINED} - {"token-dropout", "noise"}))
def test_views_of_images_keep_values_between_black_and_white(text: str) -> None:
    images = torch.cat([torch.zeros(8, 3, 14, 14), torch.ones(8, 3, 14, 14), COLOURED])
    shown = augmentation_of(text)(images, _generator())
    assert float(shown.min()) > -0.2, "bicubic enlargement alone may overshoot"
    assert float(shown.max()) < 1.2
    if text != "crop":
        assert float(shown.min()) >= 0
        assert float(shown.max()) <= 1 + 1e-6


def test_views_joined_by_plus_are_one_after_another() -> None:
    generator = _generator(4)
    first = augmentation_of("affine[rotate=5]")(COLOURED, generator)
    expected = augmentation_of("noise[std=0.2]")(first, generator)
    assert torch.equal(
        augmentation_of(" affine[rotate=5] + noise[std=0.2] ")(COLOURED, _generator(4)), expected
    )
    assert not isinstance(augmentation_of("affine[rotate=5]"), Chain)


def test_one_of_two_views_is_drawn_for_every_image() -> None:
    images = torch.rand(600, 1, 6, 6, generator=_generator(5)) * 0.4
    shown = augmentation_of("either[one=solarise[chance=1,low=0,high=0],other=same,chance=0.3]")(
        images, _generator()
    )
    inverted = (shown == 1 - images).flatten(1).all(dim=1)
    same = (shown == images).flatten(1).all(dim=1)
    assert bool((inverted ^ same).all())
    assert float(inverted.float().mean()) == pytest.approx(0.3, abs=0.05)
    for chance, expected in ((0, images), (1, 1 - images)):
        always = augmentation_of(f"either[one=solarise[chance=1,low=0,high=0],other=same,chance={chance}]")
        torch.testing.assert_close(always(images, _generator()), expected, atol=0, rtol=0)


def test_two_views_of_which_one_makes_images_smaller_are_told() -> None:
    with pytest.raises(UserError, match="equally large"):
        augmentation_of("either[one=resized-crop[size=7],other=same]")(COLOURED, _generator())


def test_affine_with_no_amounts_changes_nothing() -> None:
    view = Affine(rotate=0, shift=0, scale=0, shear=0)
    torch.testing.assert_close(view(IMAGES, _generator()), IMAGES, atol=1e-5, rtol=0)


def test_affine_moves_the_middle_by_at_most_the_shift_and_every_image_differently() -> None:
    images = torch.zeros(200, 1, 21, 21)
    images[:, :, 10, 10] = 1
    moved = Affine(rotate=0, shift=0.1, scale=0, shear=0)(images, _generator())
    mass = moved.sum(dim=(1, 2, 3))
    rows = (moved.sum(dim=(1, 3)) * torch.arange(21)).sum(dim=1) / mass - 10
    assert float(rows.abs().max()) <= 0.1 * 21 + 1e-4
    assert float(rows.std()) == pytest.approx(2.1 / 3**0.5, rel=0.15)


def test_affine_turns_by_the_angle_drawn() -> None:
    """A line from the middle to the right comes to lie at most `rotate` degrees above or below."""
    images = torch.zeros(100, 1, 41, 41)
    images[:, :, 20, 20:40] = 1
    moved = Affine(rotate=30, shift=0, scale=0, shear=0)(images, _generator())
    span = torch.arange(41) - 20.0
    mass = moved.sum(dim=(1, 2, 3))
    x, y = (moved.sum(dim=(1, 2)) * span).sum(1) / mass, (moved.sum(dim=(1, 3)) * span).sum(1) / mass
    angles = torch.rad2deg(torch.atan2(y, x))
    assert 20 < float(angles.abs().max()) <= 31


def test_erasing_blots_out_one_square_of_the_side_said() -> None:
    blotted = Affine(rotate=0, shift=0, scale=0, shear=0, erase=0.5)(torch.ones(50, 1, 10, 10), _generator())
    holes = (blotted < 0.5)[:, 0]
    assert set(holes.sum(dim=(1, 2)).tolist()) == {25}
    assert len({tuple(hole.flatten().tolist()) for hole in holes}) > 5


def test_crops_are_cut_from_the_enlarged_image_at_every_place_and_mirrored_half_the_time() -> None:
    ramp = torch.arange(28.0).repeat(400, 1, 28, 1)
    cut = Crop()(ramp, _generator())
    rising = cut[:, 0, 14, 20] > cut[:, 0, 14, 8]
    assert 0.4 < float(rising.float().mean()) < 0.6
    left = cut[rising][:, 0, 14, 0]
    assert float(left.min()) < 0.6
    assert float(left.max()) > 2.5, (
        "the enlarged image has four more columns, so up to 3.5 old ones are cut off"
    )


def test_tokens_are_left_out_at_the_rate_absent_ones_stay_absent_and_one_always_stays() -> None:
    inputs = torch.ones(500, 10, 3)
    inputs[:, 8:] = 0
    inputs[0, 1:] = 0
    kept = TokenDropout(rate=0.4)(inputs, _generator()).any(dim=2)
    assert not kept[:, 8:].any()
    assert kept[0, 0]
    assert float(kept[1:, :8].float().mean()) == pytest.approx(0.6, abs=0.02)
    assert TokenDropout(rate=0.99)(inputs, _generator()).any(dim=2).sum(dim=1).min() == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("afine", "did you mean 'affine'"),
        ("affine[turn=3]", "unknown parameter of augmentation affine 'turn'"),
        ("token-dropout[rate=1]", "rate in [0, 1)"),
        ("crop+afine", "did you mean 'affine'"),
        ("", "unknown augmentation ''"),
        ("either[one=afine]", "did you mean 'affine'"),
        ("either[chance=2]", "either needs chance between 0 and 1, got 2"),
        (
            "crop[size=224]",
            "crop cuts size pixels out of as many or more, such as crop[size=224,of=256], got size=224 and of=0",
        ),
        ("crop[size=9,of=8]", "got size=9 and of=8"),
        ("crop[size=7.5,of=8]", "crop needs size as a whole number of pixels, got 7.5"),
        ("padded-crop[pad=-1]", "padded-crop needs pad as a whole number of pixels, got -1"),
        ("padded-crop[pad=1.5]", "padded-crop needs pad as a whole number of pixels, got 1.5"),
        ("padded-crop[mirror=true]", "padded-crop needs mirror between 0 and 1, got True"),
        ("colour-jitter[hue=0.6]", "colour-jitter needs hue between 0 and 0.5, got 0.6"),
        ("colour-jitter[contrast=much]", "colour-jitter needs contrast between 0 and 100, got 'much'"),
        ("grey[chance=-0.1]", "grey needs chance between 0 and 1, got -0.1"),
        (
            "solarise[low=0.9,high=0.5]",
            "solarise needs thresholds with low <= high, got low=0.9 and high=0.5",
        ),
        ("equalise[chance=7]", "equalise needs chance between 0 and 1, got 7"),
        ("blur[low=0]", "blur needs standard deviations with 0 < low <= high, got low=0 and high=2"),
        ("blur[window=4]", "blur needs an odd window, or 0 for a tenth of the image, got 4"),
    ],
)
def test_bad_views_are_told(text: str, said: str) -> None:
    with pytest.raises(UserError) as problem:
        augmentation_of(text)
    assert said in str(problem.value)


def test_views_of_the_wrong_kind_of_item_are_told() -> None:
    with pytest.raises(UserError, match="augmentation affine needs images"):
        augmentation_of("affine")(torch.ones(2, 5), _generator())
    with pytest.raises(UserError, match="colour-jitter needs images of 1 or 3 channels, the inputs have 4"):
        augmentation_of("colour-jitter")(torch.ones(2, 4, 5, 5), _generator())
    with pytest.raises(UserError, match="augmentation token-dropout needs items"):
        augmentation_of("token-dropout")(IMAGES, _generator())
