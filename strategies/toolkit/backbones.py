"""Networks by name: `linear`, `mlp`, `cnn`, `adapter`, any timm model as `timm:NAME`. A backbone maps inputs (N, ...) to features (N, D).

The protocol chooses the backbone, so that strategies are compared on the same network; weights are drawn from the stream `init`. `parts`
are the pieces a method may freeze, in the order of the forward pass, which is their composition.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize

from harness.contracts import Context
from harness.errors import UserError, unknown
from harness.selection import chosen as selected
from harness.selection import single


class Linear(nn.Module):
    """The flattened inputs themselves: with its head a linear classifier, which starts from zero as theory has it."""

    zero_head = True

    def __init__(self, item_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.features = math.prod(item_shape)

    def parts(self) -> list[nn.Module]:
        """Return the one piece, which has no weights."""
        return [self]

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the inputs (N, D)."""
        return inputs.flatten(1)


class MLP(nn.Module):
    """Flatten, then `depth` fully connected ReLU layers of `width` units."""

    def __init__(self, item_shape: tuple[int, ...], *, width: int = 128, depth: int = 2) -> None:
        super().__init__()
        sizes = [math.prod(item_shape), *[width] * depth]
        layers = [layer for fan_in, fan_out in itertools.pairwise(sizes) for layer in (nn.Linear(fan_in, fan_out), nn.ReLU())]
        self.layers = nn.Sequential(nn.Flatten(), *layers)
        self.features = sizes[-1]

    def parts(self) -> list[nn.Module]:
        """Return one piece per layer."""
        layers = list(self.layers)
        return [nn.Sequential(*layers[:3]), *(nn.Sequential(*layers[at : at + 2]) for at in range(3, len(layers), 2))]

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features (N, width)."""
        features: Tensor = self.layers(inputs)
        return features


class CNN(nn.Module):
    """Three 3x3 convolutions with group norm and stride 2, then the mean over positions; for small images on a CPU."""

    def __init__(self, item_shape: tuple[int, ...], *, width: int = 32) -> None:
        super().__init__()
        if len(item_shape) != 3:
            raise UserError(f"backbone cnn needs images (C, H, W), the inputs have shape {item_shape}")
        sizes = [item_shape[0], width, 2 * width, 4 * width]
        blocks = [
            nn.Sequential(nn.Conv2d(fan_in, fan_out, 3, stride=2, padding=1, bias=False), nn.GroupNorm(8, fan_out), nn.ReLU())
            for fan_in, fan_out in itertools.pairwise(sizes)
        ]
        self.layers = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.features = sizes[-1]

    def parts(self) -> list[nn.Module]:
        """Return one piece per convolution; the last one pools."""
        layers = list(self.layers)
        return [*layers[:2], nn.Sequential(*layers[2:])]

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features (N, 4 * width)."""
        features: Tensor = self.layers(inputs)
        return features


class Adapter(nn.Module):
    """Frozen features with a trainable residual layer on top: x + W2 gelu(W1 x), x of unit length.

    Items are feature vectors (D,), or sets of them (tokens, D) of which the mean over the rows that are not zero counts.
    """

    def __init__(self, item_shape: tuple[int, ...], *, width: int = 512) -> None:
        super().__init__()
        if len(item_shape) not in (1, 2):
            raise UserError(f"backbone adapter needs features (D,) or (tokens, D), the inputs have shape {item_shape}")
        self.pool = UnitMean()
        self.layer = Residual(item_shape[-1], width)
        self.features = item_shape[-1]

    def parts(self) -> list[nn.Module]:
        """Return the pooling, which has no weights, and the layer."""
        return [self.pool, self.layer]

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features (N, D)."""
        features: Tensor = self.layer(self.pool(inputs))
        return features


class UnitMean(nn.Module):
    """The mean of an item's rows that are not zero, at unit length."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (N, D)."""
        return normalize(inputs.sum(dim=1) if inputs.ndim == 3 else inputs, dim=1)  # a mean and a sum point the same way


class Residual(nn.Module):
    """x + W2 gelu(W1 x)."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(features, width), nn.Linear(width, features)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (N, D)."""
        return inputs + self.out(gelu(self.into(inputs)))  # type: ignore[no-any-return]


class Timm(nn.Module):
    """Any timm model without its head, freshly initialised, for the inputs' number of channels and size."""

    def __init__(self, item_shape: tuple[int, ...], *, name: str, **options: Any) -> None:
        import timm

        super().__init__()
        model: Any = timm.create_model(name, pretrained=False, num_classes=0, in_chans=item_shape[0], **options)
        self.model = model
        self.features = int(model.num_features)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return pooled features (N, D)."""
        features: Tensor = self.model(inputs)
        return features

    def parts(self) -> list[nn.Module]:
        """Take the model apart: a vision transformer's blocks but the last, then the last; any other model stays whole."""
        from strategies.toolkit.transformers import taken_apart

        return taken_apart(self.model) or [self]


BACKBONES: dict[str, Callable[..., nn.Module]] = {"linear": Linear, "mlp": MLP, "cnn": CNN, "adapter": Adapter}


def chosen(text: str) -> Callable[[tuple[int, ...]], nn.Module]:
    """Return what makes the backbone that `text` selects from an item's shape.

    Raises:
        UserError: no backbone of that name, or a parameter it does not have.
    """
    selection = single(text)
    kind, _, name = selection.name.partition(":")
    if kind == "timm" and name:
        import timm

        if not timm.is_model(name):
            raise unknown("timm model", name, timm.list_models(), "python -c 'import timm; print(timm.list_models())'")
        return partial(Timm, name=name, **selection.params)
    return selected("backbone", text, {**BACKBONES, "timm:NAME": Timm}, given=("item_shape",))


def backbone(context: Context, item_shape: tuple[int, ...], init: str = "init") -> nn.Module:
    """Return the protocol's backbone for items of `item_shape`, with `features` outputs, initialised from the stream `init`."""
    make = chosen(context.backbone)
    with drawn_from(context, init):
        return make(item_shape).to(context.device)


class drawn_from:  # noqa: N801  (reads as a statement at its use)
    """Context manager: torch's global generator follows the stream `name` inside and is put back afterwards."""

    def __init__(self, context: Context, name: str) -> None:
        self.seed = int(context.stream(name).integers(2**63))

    def __enter__(self) -> None:
        self.before = torch.get_rng_state()
        torch.manual_seed(self.seed)

    def __exit__(self, *_: object) -> None:
        torch.set_rng_state(self.before)
