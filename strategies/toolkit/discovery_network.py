"""The network of GCD, SimGCD and Happy: a backbone in frozen and trainable parts, a cosine classifier and a projector.

The classifier's rows are always of unit length, so logits are cosines. Its parameter is the direction v of every row: a short v turns
faster, for the gradient goes with 1 / |v|, and a row set by hand should get the usual length (`usual_length`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from harness.contracts import Context
from strategies.toolkit.backbones import backbone, drawn_from

Trainable = Literal["all", "last", "head"]
"""Which parts of the backbone train: all, the last, or none."""


class CosineClassifier(nn.Module):
    """Logits (N, K): cosines between features and rows. v keeps PyTorch's default initialisation, uniform within 1 / sqrt(d)."""

    def __init__(self, features: int, rows: int) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.empty(rows, features).uniform_(-(features**-0.5), features**-0.5))

    def forward(self, features: Tensor) -> Tensor:
        """Return cosines (N, K)."""
        return linear(normalize(features, dim=1), normalize(self.v, dim=1))


class Projector(nn.Sequential):
    """Linear, GELU, Linear, GELU, Linear without batch norm; weights of standard deviation 0.02, biases 0 (DINO's head)."""

    def __init__(self, features: int, width: int, out: int) -> None:
        layers = [nn.Linear(features, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, out)]
        super().__init__(*layers)
        for layer in layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)


class DiscoveryNetwork(nn.Module):
    """Features in two steps: `hidden` runs the frozen parts without gradient, `features` the rest.

    So student, teacher and previous network share one pass through what is frozen.
    """

    def __init__(self, context: Context, *, width: int, out: int) -> None:
        """Take the projector's width and output size; the network itself is made by `build`, once the inputs' shape is known."""
        super().__init__()
        self.context, self.width, self.out = context, width, out
        self.item_shape: tuple[int, ...] = ()
        self.frozen = 0

    def build(self, item_shape: tuple[int, ...], rows: int) -> Self:
        """Make all parts with weights from the stream `init`."""
        self.item_shape = item_shape
        whole: Any = backbone(self.context, item_shape)
        self.dimensions = int(whole.features)
        self.parts = nn.ModuleList(whole.parts())
        self.set_rows(rows)
        self.renew_projector()
        return self

    @property
    def rows(self) -> int:
        """How many classes and clusters the classifier tells apart."""
        return len(self.classifier.v)

    def set_rows(self, rows: int) -> None:
        """Make a classifier of `rows` fresh rows; the first ones keep their v where there was a classifier."""
        before: CosineClassifier | None = getattr(self, "classifier", None)
        with drawn_from(self.context, "init"):
            self.classifier = CosineClassifier(self.dimensions, rows).to(self.context.device)
        if before is not None:
            with torch.no_grad():
                self.classifier.v[: len(before.v)] = before.v

    def renew_projector(self) -> None:
        """Start the projector afresh."""
        with drawn_from(self.context, "projector"):
            self.projector = Projector(self.dimensions, self.width, self.out).to(self.context.device)

    def freeze(self, trainable: Trainable) -> Self:
        """Let the named parts train and freeze those before; what a part itself froze when it was made stays so."""
        self.frozen = {"all": 0, "last": len(self.parts) - 1, "head": len(self.parts)}[trainable]
        for part in self.parts[: self.frozen]:
            part.requires_grad_(False)
        return self

    def hidden(self, inputs: Tensor) -> Tensor:
        """Return what the frozen parts make of inputs (N, ...), without gradient."""
        with torch.no_grad():
            for part in self.parts[: self.frozen]:
                inputs = part(inputs)
        return inputs

    def features(self, hidden: Tensor) -> Tensor:
        """Return features (N, d) of what `hidden` returned."""
        for part in self.parts[self.frozen :]:
            hidden = part(hidden)
        return hidden

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features (N, d)."""
        return self.features(self.hidden(inputs))

    def previous(self) -> Previous:
        """Return a frozen copy of what trains, to be fed with the same hidden values."""
        return Previous(self.parts[self.frozen :], self.classifier)

    def weights(self, *, decay: float) -> list[dict[str, Any]]:
        """Return the trainable weights in two groups: matrices decay, vectors do not."""
        trainable = [weight for weight in self.parameters() if weight.requires_grad]
        return [
            {"params": [weight for weight in trainable if weight.ndim > 1], "weight_decay": decay},
            {"params": [weight for weight in trainable if weight.ndim <= 1], "weight_decay": 0.0},
        ]

    def get_extra_state(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to build the network first."""
        return {"item_shape": list(self.item_shape), "rows": self.rows if self.item_shape else 0, "frozen": self.frozen}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Nothing is left to do; `load_state_dict` has built the network."""

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Build the network that `state` was taken from, then load its weights."""
        extra = state["_extra_state"]
        if extra["item_shape"]:
            self.build(tuple(extra["item_shape"]), extra["rows"])
            self.frozen = extra["frozen"]
            for part in self.parts[: self.frozen]:
                part.requires_grad_(False)
        return super().load_state_dict(state, strict=strict, assign=assign)


class Previous(nn.Module):
    """The trainable parts and the classifier as they were."""

    def __init__(self, parts: nn.ModuleList, classifier: CosineClassifier) -> None:
        super().__init__()
        self.parts, self.classifier = copy.deepcopy(parts), copy.deepcopy(classifier)
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, hidden: Tensor) -> Tensor:
        """Return features (N, d)."""
        for part in self.parts:
            hidden = part(hidden)
        return hidden


def usual_length(features: int, rows: int, generator: torch.Generator) -> float:
    """Return the mean length of freshly initialised rows v, about 0.577 (root of a third) in many dimensions."""
    drawn = torch.rand(rows, features, generator=generator, device=generator.device)
    return float(((2 * drawn - 1) * features**-0.5).norm(dim=1).mean())
