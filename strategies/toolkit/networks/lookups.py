"""Networks that look pairs of residues up, for modular arithmetic: `quadratic` and `relu`. Pairs (N, 2) or
(N, 3) to features (N, D).
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from harness.errors import Unsuitable, UserError


def is_transformed() -> bool:
    """Return whether torch.func looks on, such as for per-item gradients: no branch on values is allowed then."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def rows_of(inputs: Tensor, size: int) -> Tensor:
    """Return inputs as rows, int64, of a table of `size` rows.

    Raises:
        Unsuitable: a number that is none of them, such as a mixture of two.
    """
    rows = inputs.long()
    if is_transformed() or not len(rows):
        return rows
    if torch.equal(rows.to(inputs.dtype), inputs) and 0 <= rows.min() <= rows.max() < size:
        return rows
    raise Unsuitable("the protocol's network looks whole numbers up, and these inputs are mixed or changed")


class Lookup(nn.Module):
    """T[x] + T[p + y] for pairs of residues (N, 2) or (N, 3), where a third number says nothing: a linear
    layer on one-hot pairs.
    """

    def __init__(self, item_shape: tuple[int, ...], modulus: int, width: int) -> None:
        super().__init__()
        if modulus < 2:
            raise UserError(
                "backbones that look residues up need to know how many there are: modulus should be at "
                f"least 2, got {modulus}"
            )
        if len(item_shape) != 1 or item_shape[0] not in (2, 3):
            raise UserError(
                f"backbones that look residues up need items (2,) or (3,), the inputs have shape {item_shape}"
            )
        self.modulus = modulus
        self.table = nn.Parameter(torch.empty(2 * modulus, width).uniform_(-1, 1) / math.sqrt(2 * modulus))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (N, width).

        Raises:
            Unsuitable: a number that is no residue, such as a mixture of two.
        """
        pairs = rows_of(inputs[:, :2], self.modulus)
        if is_transformed():  # no bag there
            return self.table[pairs + pairs.new_tensor([0, self.modulus])].sum(dim=1)
        return embedding_bag(pairs + pairs.new_tensor([0, self.modulus]), self.table, mode="sum")


class Square(nn.Module):
    """x^2."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the squares."""
        return inputs.square()


class Quadratic(nn.Module):
    """(U[x] + V[y])^2 on pairs of residues, the network of Doshi et al. 2024 below its head; every weight
    normal, (16 width)^(-1/3).
    """

    def __init__(
        self, item_shape: tuple[int, ...], *, width: int = 500, modulus: int = 0, activation: str = "square"
    ) -> None:
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
    """Fully connected ReLU layers on pairs of residues, of which the first is looked up (Prieto et al. 2025:
    200-200, without biases).
    """

    def __init__(
        self,
        item_shape: tuple[int, ...],
        *,
        hidden: str | int = "200+200",
        modulus: int = 0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        sizes = sizes_of(hidden)
        self.lookup = Lookup(item_shape, modulus, sizes[0])
        self.first_bias = (
            nn.Parameter(torch.empty(sizes[0]).uniform_(-1, 1) / math.sqrt(2 * modulus)) if bias else None
        )
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
