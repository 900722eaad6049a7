"""The network of GCD, SimGCD and Happy: a backbone in frozen and trainable parts, a cosine classifier and a
projector.

The classifier's rows are always of unit length, so logits are cosines. Its parameter is the direction v of
every row: a short v turns faster, for the gradient goes with 1 / |v|, and a row set by hand should get the
usual length (`usual_length`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from harness.contracts import Context, Inputs, Observation
from strategies.toolkit.discovery.split_network import Previous, SplitNetwork
from strategies.toolkit.networks import drawn_from
from strategies.toolkit.training.eval_mode import eval_mode
from strategies.toolkit.training.tensors import as_array, as_tensor


class CosineClassifier(nn.Module):
    """Logits (N, K): cosines between features and rows. v keeps PyTorch's default initialisation, uniform
    within 1 / sqrt(d).
    """

    def __init__(self, features: int, rows: int) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.empty(rows, features).uniform_(-(features**-0.5), features**-0.5))

    def forward(self, features: Tensor) -> Tensor:
        """Return cosines (N, K)."""
        return linear(normalize(features, dim=1), normalize(self.v, dim=1))


class Projector(nn.Sequential):
    """Linear, GELU, Linear, GELU, Linear without batch norm; weights of standard deviation 0.02, biases 0
    (DINO's head).
    """

    def __init__(self, features: int, width: int, out: int) -> None:
        layers = [
            nn.Linear(features, width),
            nn.GELU(),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, out),
        ]
        super().__init__(*layers)
        for layer in layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)


class DiscoveryNetwork(SplitNetwork):
    """A backbone in pieces, a cosine classifier and a projector."""

    def __init__(self, context: Context, *, width: int, out: int) -> None:
        """Take the projector's width and output size; the network itself is made by `build`, once the inputs'
        shape is known.
        """
        super().__init__(context)
        self.width, self.out = width, out

    def build(self, item_shape: tuple[int, ...], rows: int) -> Self:
        """Make all parts with weights from the stream `init`."""
        self.build_backbone(item_shape)
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

    def observed(self, inputs: Inputs, *, chunk: int = 512) -> Observation | None:
        """Return features, cosines and the classifier's rows at unit length; None before the network is built."""
        if not self.item_shape:
            return None
        with eval_mode(self):
            parts = torch.split(as_tensor(inputs, self.context.device), chunk)
            features = torch.cat([self(part) for part in parts])
            return Observation(
                features=as_array(features),
                logits=as_array(self.classifier(features)),
                head=as_array(normalize(self.classifier.v, dim=1)),
            )

    def previous(self) -> Previous:
        """Return a frozen copy of what trains, to be fed with the same hidden values."""
        return Previous(self, self.classifier)

    def get_extra_state(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to build the network first."""
        return {
            "item_shape": list(self.item_shape),
            "rows": self.rows if self.item_shape else 0,
            "frozen": self.frozen,
        }

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Nothing is left to do; `load_state_dict` has built the network."""

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Build the network that `state` was taken from, then load its weights."""
        extra = state["_extra_state"]
        if extra["item_shape"]:
            self.build(tuple(extra["item_shape"]), extra["rows"])
            self.frozen = extra["frozen"]
            self._hold_frozen()
        return super().load_state_dict(state, strict=strict, assign=assign)


def usual_length(features: int, rows: int, generator: torch.Generator) -> float:
    """Return the mean length of freshly initialised rows v, about 0.577 (root of a third) in many dimensions."""
    drawn = torch.rand(rows, features, generator=generator, device=generator.device)
    return float(((2 * drawn - 1) * features**-0.5).norm(dim=1).mean())
