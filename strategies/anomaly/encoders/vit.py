"""Patch tokens of a vision transformer from its middle blocks, in an earlier and a later group (INP-Former,
released code at 17d2653).

Of twelve blocks the outputs of 2 to 9 (counted from 0) are taken, before the final norm and without class and
register tokens; blocks after the last one taken are not run. Their first half averaged is the first group,
the rest the second. Other depths are scaled: 4, 6, ..., 18 of
24. Any timm vision transformer serves, DINOv2 with registers in the paper; weights come from a file.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from harness.errors import UserError, unknown
from harness.networks import checked_by
from harness.weights import digest_of
from strategies.anomaly.encoders.checks import patches, whole
from strategies.toolkit.networks.state_dicts import glance, put_into, weights_of

_OF_TWELVE = range(2, 10)
_LISTING = "python -c 'import timm; print(timm.list_models(\"vit_*\"))'"


class ViT(nn.Module):
    """Images (N, C, H, W) in [0, 1], scaled by ImageNet's mean and deviation, to tokens (N, G, P, D); G is 2,
    or 1 for a single block.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, model: Any, grid: tuple[int, int], *, image: int = 0, digest: str = "") -> None:
        """Take a timm vision transformer; `image` is the side images are brought to, 0 for their own size."""
        super().__init__()
        self.taken = taken_blocks(len(model.blocks))
        model.blocks = model.blocks[: self.taken[-1] + 1]
        model.norm = nn.Identity()
        self.model, self.grid, self.image, self.digest = model, grid, image, digest
        self.groups, self.channels = min(2, len(self.taken)), int(model.embed_dim)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None], persistent=False)
        self.register_buffer(
            "deviation", torch.tensor([0.229, 0.224, 0.225])[:, None, None], persistent=False
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return tokens (N, G, P, D)."""
        if self.image:
            images = interpolate(
                images, size=(self.image, self.image), mode="bilinear", align_corners=False, antialias=True
            )
        scaled = (images.expand(-1, 3, -1, -1) - self.mean) / self.deviation
        outputs = self.model.forward_intermediates(
            scaled, indices=self.taken, norm=False, output_fmt="NLC", intermediates_only=True
        )
        half = len(outputs) // 2
        parts = [outputs[:half], outputs[half:]] if half else [outputs]
        return torch.stack([torch.stack(part).mean(dim=0) for part in parts], dim=1)


def taken_blocks(depth: int) -> list[int]:
    """Return the blocks whose outputs are taken, in order.

    >>> taken_blocks(12), taken_blocks(24)
    ([2, 3, 4, 5, 6, 7, 8, 9], [4, 6, 8, 10, 12, 14, 16, 18])
    """
    return sorted({depth * place // 12 for place in _OF_TWELVE})


def vit_tiny(
    item_shape: tuple[int, ...], *, patch: int = 4, width: int = 64, depth: int = 6, heads: int = 4
) -> ViT:
    """Return a small vision transformer as drawn, never trained: what a transformer's shape alone gives."""
    from timm.models.vision_transformer import VisionTransformer

    whole("vit-tiny", patch=patch, width=width, depth=depth, heads=heads)
    if width % heads:
        raise UserError(
            f"width of encoder vit-tiny should be a multiple of its heads, got width={width}, heads={heads}"
        )
    height, width_px = item_shape[1:]
    grid = patches((height, width_px), patch, "vit-tiny")
    model = VisionTransformer(
        img_size=(height, width_px),
        patch_size=patch,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        num_classes=0,
    )
    return ViT(model, grid)


def _check(*, name: str | None = None, weights: str = "", **_: Any) -> None:
    import timm

    if name is not None and not timm.is_model(name):
        raise unknown("timm model", name, timm.list_models("*vit*"), _LISTING)
    glance(weights)


@checked_by(_check)
def timm_vit(
    item_shape: tuple[int, ...],
    *,
    name: str,
    weights: str = "",
    image: int = 0,
    sha256: str = "",
    pretrained: bool = False,
) -> ViT:
    """Return any of timm's vision transformers.

    Args:
        item_shape: of one image, of 1 or 3 channels.
        name: as timm has it, such as vit_base_patch14_reg4_dinov2.lvd142m.
        weights: a file of timm's or of the authors' tensors; as drawn where none is named.
        image: side in pixels that images are brought to; 0 leaves their size.
        sha256: what the weights file has to have, or its first digits.
        pretrained: take timm's own weights instead of a file.

    Raises:
        UserError: not a vision transformer, a size its patches do not fill, or a weights file that does not
        fit.
    """
    import timm
    from timm.models.vision_transformer import VisionTransformer

    if image:
        whole(f"timm:{name}", image=image)
    sides = (image, image) if image else item_shape[1:]
    try:
        model = timm.create_model(name, pretrained=False, num_classes=0, img_size=sides)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"encoder timm:{name} cannot be made for images {sides[0]} x {sides[1]}: {error}"
        ) from None
    except TypeError:  # networks of other kinds do not take the size of an image
        model = None
    if not isinstance(model, VisionTransformer):
        raise UserError(f"encoder timm:{name} is no plain vision transformer (some: {_LISTING})")
    grid = patches(sides, int(model.patch_embed.patch_size[0]), f"timm:{name}")
    digest = ""
    if file := weights_of(name, weights, pretrained):
        digest = digest_of(file, str(sha256))
        put_into(model, file, name)
    return ViT(model, grid, image=image, digest=digest)
