"""Networks by name: `linear`, `mlp`, `cnn`, `adapter`, `quadratic`, `relu`, any timm model as `timm:NAME`. A backbone maps inputs (N, ...)
to features (N, D).

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
from torch.nn.functional import embedding_bag, gelu, normalize

from harness.contracts import Context
from harness.errors import Unsuitable, UserError, unknown
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


class Lookup(nn.Module):
    """T[x] + T[p + y] for pairs of residues (N, 2) or (N, 3), where a third number says nothing: a linear layer on one-hot pairs."""

    def __init__(self, item_shape: tuple[int, ...], modulus: int, width: int) -> None:
        super().__init__()
        if modulus < 2:
            raise UserError(f"backbones that look residues up need to know how many there are: modulus should be at least 2, got {modulus}")
        if len(item_shape) != 1 or item_shape[0] not in (2, 3):
            raise UserError(f"backbones that look residues up need items (2,) or (3,), the inputs have shape {item_shape}")
        self.modulus = modulus
        self.table = nn.Parameter(torch.empty(2 * modulus, width).uniform_(-1, 1) / math.sqrt(2 * modulus))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (N, width).

        Raises:
            Unsuitable: a number that is no residue, such as a mixture of two.
        """
        pairs = inputs[:, :2].long()
        if torch._C._functorch.peek_interpreter_stack() is not None:  # per-item gradients: no branch on values there, and no bag
            return self.table[pairs + pairs.new_tensor([0, self.modulus])].sum(dim=1)
        if len(pairs) and not (torch.equal(pairs.to(inputs.dtype), inputs[:, :2]) and 0 <= pairs.min() <= pairs.max() < self.modulus):
            raise Unsuitable("the protocol's network looks whole numbers up, and these inputs are mixed or changed")
        return embedding_bag(pairs + pairs.new_tensor([0, self.modulus]), self.table, mode="sum")


class Square(nn.Module):
    """x^2."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the squares."""
        return inputs.square()


class Quadratic(nn.Module):
    """(U[x] + V[y])^2 on pairs of residues, the network of Doshi et al. 2024 below its head; every weight normal, (16 width)^(-1/3)."""

    def __init__(self, item_shape: tuple[int, ...], *, width: int = 500, modulus: int = 0, activation: str = "square") -> None:
        super().__init__()
        if activation not in ("square", "relu"):
            raise UserError(f"activation of backbone quadratic should be square or relu, got {activation!r}")
        self.lookup = Lookup(item_shape, modulus, width)
        self.activation: nn.Module = Square() if activation == "square" else nn.ReLU()
        self.features = width
        self.deviation = (16 * width) ** (-1 / 3)
        nn.init.normal_(self.lookup.table, std=self.deviation)

    def parts(self) -> list[nn.Module]:
        """Return lookup and activation as one piece."""
        return [nn.Sequential(self.lookup, self.activation)]

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features (N, width)."""
        return self.activation(self.lookup(inputs))  # type: ignore[no-any-return]

    def new_head(self, classes: int) -> nn.Linear:
        """Return W, drawn like all other weights, without bias."""
        head = nn.Linear(self.features, classes, bias=False)
        nn.init.normal_(head.weight, std=self.deviation)
        return head


class Relu(nn.Module):
    """Fully connected ReLU layers on pairs of residues, of which the first is looked up (Prieto et al. 2025: 200-200, without biases)."""

    def __init__(self, item_shape: tuple[int, ...], *, hidden: str | int = "200+200", modulus: int = 0, bias: bool = False) -> None:
        super().__init__()
        sizes = sizes_of(hidden)
        self.lookup = Lookup(item_shape, modulus, sizes[0])
        self.first_bias = nn.Parameter(torch.empty(sizes[0]).uniform_(-1, 1) / math.sqrt(2 * modulus)) if bias else None
        layers: list[nn.Module] = [nn.ReLU()]
        for fan_in, fan_out in itertools.pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out, bias=bias), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.bias, self.features = bias, sizes[-1]

    def parts(self) -> list[nn.Module]:
        """Return the whole network as one piece."""
        return [self]

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features (N, last hidden size)."""
        looked_up = self.lookup(inputs)
        return self.layers(looked_up if self.first_bias is None else looked_up + self.first_bias)  # type: ignore[no-any-return]

    def new_head(self, classes: int) -> nn.Linear:
        """Return the last layer, with a bias where the others have one."""
        return nn.Linear(self.features, classes, bias=self.bias)


def sizes_of(hidden: str | int) -> list[int]:
    """Return the sizes of hidden layers, written as `200+200`.

    Raises:
        UserError: something that is not one or several numbers of at least 1.
    """
    parts = str(hidden).split("+")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise UserError(f"hidden should be sizes of layers joined by +, such as 200+200, got {hidden!r}")
    return [int(part) for part in parts]


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


BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "linear": Linear, "mlp": MLP, "cnn": CNN, "adapter": Adapter, "quadratic": Quadratic, "relu": Relu,
}  # fmt: skip


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
    """Return the protocol's backbone for items of `item_shape`, with `features` outputs, initialised from the stream `init`.

    Raises:
        Unsuitable: the protocol has a frozen encoder where a network to train is needed.
    """
    from strategies.toolkit.encoders import ENCODERS

    if single(context.backbone).name in ENCODERS:
        raise Unsuitable(f"trains a network, and the protocol has a frozen encoder: {context.backbone}")
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
