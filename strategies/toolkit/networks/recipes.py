"""Backbones of the field's papers by name: `dino`, `dinov2`, `resnet18-cifar`, `resnet34-cifar`,
`preact-resnet18-cifar`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from torch import nn

from harness.errors import UserError
from harness.networks import checked_by
from harness.weights import digest_of, located
from strategies.toolkit.networks.preact import Form, PreActResNet
from strategies.toolkit.networks.state_dicts import put_into
from strategies.toolkit.networks.timm_models import Prepare, Timm, check_said, timm_network


def _needs(name: str, file: str) -> Callable[..., None]:
    """Return the check of a backbone that is nothing without its weights, such as `file` of its authors."""

    def check(*, weights: str = "", **said: Any) -> None:
        if not weights:
            raise UserError(
                f"backbone {name} needs its weights: {name}[weights=FILE], such as {file} of its authors"
            )
        check_said(weights=weights, **said)

    return check


@checked_by(_needs("dino", "dino_vitbase16_pretrain.pth"))
def dino(
    item_shape: tuple[int, ...],
    *,
    weights: str,
    sha256: str = "",
    size: Literal["small", "base"] = "base",
    patch: int = 16,
    image: int = 0,
    crop_pct: float = 1.0,
    trainable: str = "last",
) -> Timm:
    """Return DINO's vision transformer (Caron et al. 2021), as GCD, SimGCD, Happy and Cr-KD have it: the last
    block trains.

    `weights` is a file of the authors, such as dino_vitbase16_pretrain.pth, or timm's.
    """
    name = f"vit_{size}_patch{patch}_224.dino"
    return timm_network(
        item_shape,
        name=name,
        weights=weights,
        sha256=sha256,
        image=image,
        crop_pct=crop_pct,
        trainable=trainable,
    )


@checked_by(_needs("dinov2", "dinov2_vitb14_reg4_pretrain.pth"))
def dinov2(
    item_shape: tuple[int, ...],
    *,
    weights: str,
    sha256: str = "",
    size: Literal["small", "base", "large"] = "base",
    registers: bool = True,
    image: int = 224,
    trainable: str = "last",
) -> Timm:
    """Return DINOv2's vision transformer (Oquab et al. 2024), with four registers or without, for images of
    `image` px.

    `weights` is a file of the authors, such as dinov2_vitb14_reg4_pretrain.pth, or timm's; its positions are
    those of 518 px and are brought to the grid of `image`.
    """
    name = f"vit_{size}_patch14_{'reg4_' if registers else ''}dinov2.lvd142m"
    return timm_network(
        item_shape, name=name, weights=weights, sha256=sha256, image=image, trainable=trainable
    )


@checked_by(check_said)
def resnet18_cifar(
    item_shape: tuple[int, ...], *, weights: str = "", sha256: str = "", trainable: str = "all"
) -> Timm:
    """Return ResNet-18 for small images (Cr-KD, nested co-teaching; drawn anew where no weights are named)."""
    return _resnet_cifar(item_shape, [2, 2, 2, 2], "resnet18-cifar", weights, sha256, trainable)


@checked_by(check_said)
def resnet34_cifar(
    item_shape: tuple[int, ...], *, weights: str = "", sha256: str = "", trainable: str = "all"
) -> Timm:
    """Return ResNet-34 for small images (ELR)."""
    return _resnet_cifar(item_shape, [3, 4, 6, 3], "resnet34-cifar", weights, sha256, trainable)


@checked_by(check_said)
def preact_resnet18_cifar(
    item_shape: tuple[int, ...],
    *,
    form: Form = "identity",
    weights: str = "",
    sha256: str = "",
    trainable: str = "all",
) -> Timm:
    """Return the pre-activation ResNet-18 for small images (He et al. 2016), as in pytorch-cifar or,
    `normed`, as in ELR+ and DivideMix.

    Images are not scaled. The batch norms do that, but in the form `identity` its shortcuts carry what the
    stem makes of them as it is.
    """
    if form not in get_args(Form):
        raise UserError(
            f"form of preact-resnet18-cifar should be {' or '.join(get_args(Form))}, got {form!r}"
        )
    return _unscaled(
        PreActResNet(item_shape[0], [2, 2, 2, 2], form), "preact-resnet18-cifar", weights, sha256, trainable
    )


def _resnet_cifar(
    item_shape: tuple[int, ...], depths: list[int], name: str, weights: str, sha256: str, trainable: str
) -> Timm:
    """Return a ResNet whose first convolution is 3 x 3 with stride 1 and that has no max pooling.

    Convolutions are drawn normal by fan-out, batch norms begin at 1 and 0. Images are not scaled: the batch
    norm behind the first convolution does that, but for the zeros at the edges.
    """
    from timm.models.resnet import BasicBlock, ResNet

    block: Any = BasicBlock  # timm's annotation asks for an instance
    model: Any = ResNet(block, tuple(depths), num_classes=0, in_chans=item_shape[0], zero_init_last=False)
    model.conv1 = nn.Conv2d(item_shape[0], 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    return _unscaled(model, name, weights, sha256, trainable)


def _unscaled(model: nn.Module, name: str, weights: str, sha256: str, trainable: str) -> Timm:
    """Return a model that takes images as they are, with the weights of a file where one is named."""
    if weights:
        file = located(str(weights))
        digest_of(file, str(sha256))
        put_into(model, file, name)
    return Timm(model, Prepare(sides=None, scale=None, colours=False), trainable=trainable, name=name)
