"""Any timm model as a backbone: with weights or as drawn, for images of any size, with as much of it
trainable as the protocol lends.

Where weights are named, images pass `Prepare` first, so that augmentations and data know nothing of what a model
expects. What does not train stays in evaluation mode and gets no gradient. A transformer's last block runs
for the class token alone where its answer is that token.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from harness.errors import UserError, unknown
from harness.networks import checked_by
from harness.weights import digest_of
from strategies.toolkit.networks.pieces import blocks_trained, pieces_of
from strategies.toolkit.networks.state_dicts import glance, put_into, weights_of
from strategies.toolkit.networks.vit_blocks import Trunk, taken_apart

Scaling = Literal["model", "imagenet", "none"]
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Prepare(nn.Module):
    """Images (N, C, H, W) in [0, 1] as a model takes them: three channels of one, the model's size (bicubic,
    on the device), its scale.

    Images of another size than the model's can be brought to more than that, of which the centre is kept:
    sides / `crop_pct`.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        *,
        sides: tuple[int, int] | None,
        scale: tuple[tuple[float, ...], tuple[float, ...]] | None,
        colours: bool,
        crop_pct: float = 1.0,
    ) -> None:
        """Take height and width or None for any, mean and deviation or None, and whether grey images become
        coloured ones.
        """
        super().__init__()
        self.sides, self.colours, self.scaled, self.crop_pct = sides, colours, scale is not None, crop_pct
        mean, deviation = scale or ((0.0,), (1.0,))
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the images prepared; the same tensor where nothing is to be done."""
        if self.sides and tuple(images.shape[-2:]) != self.sides:
            images = self._centre(images, *self.sides)
        if self.colours and images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)
        return (images - self.mean) / self.deviation if self.scaled else images

    def _centre(self, images: Tensor, height: int, width: int) -> Tensor:
        """Return the centre (N, C, height, width) of images that are brought to sides / crop_pct."""
        whole = [round(side / self.crop_pct) for side in (height, width)]
        if [*images.shape[-2:]] != whole:
            images = interpolate(images, size=whole, mode="bicubic", align_corners=False, antialias=True)
        top, left = (whole[0] - height) // 2, (whole[1] - width) // 2
        return images[..., top : top + height, left : left + width]


class Timm(nn.Module):
    """A model without its head. `frozen` counts the leading pieces that the protocol does not lend for
    training.
    """

    def __init__(self, model: Any, prepare: Prepare, *, trainable: str = "all", name: str = "") -> None:
        super().__init__()
        self.prepare, self.frozen = prepare, 0
        self.features = int(getattr(model, "head_hidden_size", None) or model.num_features)
        self.model: nn.Module | None = model
        self.pieces = nn.ModuleList()
        blocks = blocks_trained(trainable)
        if blocks is not None:
            self.model = None
            self.pieces.extend(self._prepared(pieces_of(model, blocks, name)))
            self.frozen = 1 if blocks else len(self.pieces)
            self.pieces[: self.frozen].requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return pooled features (N, D)."""
        if self.model is not None:
            features: Tensor = self.model(self.prepare(inputs))
            return features
        for part in self.pieces:
            inputs = part(inputs)
        return inputs

    def parts(self) -> list[nn.Module]:
        """Take the model apart: as lent, else a vision transformer's blocks but the last, then the last; any
        other model stays whole.
        """
        return (
            list(self.pieces)
            if self.model is None
            else self._prepared(taken_apart(self.model) or [self.model])
        )

    def train(self, mode: bool = True) -> Self:
        """Change the mode of what trains."""
        super().train(mode)
        for part in self.pieces[: self.frozen]:
            part.eval()
        return self

    def _prepared(self, pieces: list[nn.Module]) -> list[nn.Module]:
        """Return pieces of the model of which the first prepares its images."""
        first, *others = pieces
        if isinstance(first, Trunk):
            first.prepare = self.prepare
            return pieces
        return [nn.Sequential(self.prepare, first), *others]


def check_said(*, trainable: str = "all", weights: str = "", **_: Any) -> None:
    """Raise `UserError` for a wrong `trainable`, or a weights file that is none at first sight."""
    blocks_trained(trainable)
    glance(weights)


def _check(*, name: str | None = None, trainable: str = "all", **parameters: Any) -> None:
    import timm

    blocks_trained(trainable)
    if name is not None and not timm.is_model(name):
        raise unknown(
            "timm model", name, timm.list_models(), "python -c 'import timm; print(timm.list_models())'"
        )
    check_said(**parameters)


@checked_by(_check)
def timm_network(
    item_shape: tuple[int, ...],
    *,
    name: str,
    weights: str = "",
    sha256: str = "",
    pretrained: bool = False,
    trainable: str = "all",
    image: int = 0,
    crop_pct: float = 1.0,
    norm: Scaling | Literal[""] = "",
    **options: Any,
) -> Timm:
    """Return any timm model without its head.

    Args:
        item_shape: of one image (C, H, W); of 1 or 3 channels where weights are named.
        name: as timm has it, such as vit_base_patch16_224.dino; the tag says what `norm` is.
        weights: a file of timm's or of the authors' tensors; as drawn where none is named.
        sha256: what the weights file has to have, or its first digits.
        pretrained: take timm's own weights instead of a file.
        trainable: all, last (block), blocks-N for the last N, or head, which trains nothing here.
        image: side in pixels that images are brought to; 0 for the one the model demands, if it demands one.
        crop_pct: share of the side whose centre the model sees, for images that are not of its size yet, as
            crops are; as published 0.875.
        norm: mean and deviation that images are scaled by: the model's own, ImageNet's, or none; the model's
            where weights are named, else none.
        options: what timm's `create_model` takes besides, such as img_size or drop_path_rate.

    Raises:
        UserError: timm cannot make it like this, or weights that do not fit.
    """
    file = weights_of(name, weights, pretrained)
    if file and item_shape[0] not in (1, 3):
        raise UserError(
            f"timm:{name} with weights takes images of 1 or 3 channels, the inputs have shape {item_shape}"
        )
    model = _created(name, 3 if file else item_shape[0], image, options)
    if file:
        digest_of(file, str(sha256))
        put_into(model, file, name)
    normalisation = norm or ("model" if file else "none")
    sides = (image, image) if image else _demanded(model)
    prepare = Prepare(
        sides=sides,
        scale=_scale(normalisation, model),
        colours=bool(file),
        crop_pct=_share(crop_pct, sides, name),
    )
    return Timm(model, prepare, trainable=trainable, name=f"timm:{name}")


def _created(name: str, channels: int, image: int, options: dict[str, Any]) -> Any:
    import timm

    known: Any = timm.get_pretrained_cfg(name)
    if image and known and known.fixed_input_size:
        options = {**options, "img_size": image}
    try:
        return timm.create_model(name, pretrained=False, num_classes=0, in_chans=channels, **options)
    except (TypeError, RuntimeError, AssertionError, ValueError) as error:
        stated = ", ".join(f"{option}={value}" for option, value in options.items()) or "no parameters"
        raise UserError(
            f"backbone timm:{name} cannot be made with {stated}: {' '.join(str(error).split())[:200]}"
        ) from None


def _share(crop_pct: float, sides: tuple[int, int] | None, name: str) -> float:
    """Return `crop_pct`; raise `UserError` where it is no share, or there are no sides that it could be of."""
    if isinstance(crop_pct, bool) or not isinstance(crop_pct, int | float) or not 0 < crop_pct <= 1:
        raise UserError(
            f"crop_pct of a backbone should be a share above 0 and up to 1, such as 0.875, got {crop_pct!r}"
        )
    if crop_pct < 1 and sides is None:
        raise UserError(
            f"crop_pct={crop_pct:g} needs a size that images are brought to, and timm:{name} takes any: "
            "say image=224 too"
        )
    return float(crop_pct)


def _demanded(model: Any) -> tuple[int, int] | None:
    """Return the height and width that a model refuses to go without, or None."""
    embed = getattr(model, "patch_embed", None)
    size = getattr(embed, "img_size", None)
    return (int(size[0]), int(size[1])) if size and getattr(embed, "strict_img_size", True) else None


def _scale(norm: str, model: Any) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return mean and deviation by their name."""
    if norm not in ("model", "imagenet", "none"):
        raise UserError(f"norm of a backbone should be model, imagenet or none, got {norm!r}")
    if norm == "none":
        return None
    own: Any = getattr(model, "pretrained_cfg", {})
    return (tuple(own["mean"]), tuple(own["std"])) if norm == "model" and own.get("mean") else _IMAGENET
