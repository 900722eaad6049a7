"""The network of UNO and Cr-KD: prototypes for known classes on the features, heads with a projector and
prototypes for novel ones.

Scores are cosines: prototypes are matrices without bias whose rows are brought back to unit length before
every training step, outside the gradient (`at_unit_length`), features and projections are scaled to unit
length in the forward pass. Known scores use the feature itself, novel ones a projection of the raw feature.
Sources: Fini et al. 2021 (UNO) and Gu et al. 2023 (Cr-KD), released code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from harness.contracts import Context, Inputs, Observation
from strategies.toolkit.discovery.split_network import Previous, SplitNetwork
from strategies.toolkit.networks import drawn_from
from strategies.toolkit.training.eval_mode import eval_mode
from strategies.toolkit.training.tensors import as_array, as_tensor


class Prototypes(nn.Linear):
    """Scores (N, K) of inputs scaled to unit length; rows are of unit length after `at_unit_length`."""

    def __init__(self, features: int, rows: int) -> None:
        super().__init__(features, rows, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return cosines (N, K), up to the drift of the rows since they were brought to unit length."""
        return super().forward(normalize(inputs, dim=1))

    @torch.no_grad()
    def at_unit_length(self) -> Self:
        """Bring every row to unit length."""
        self.weight.copy_(normalize(self.weight, dim=1))
        return self


class NovelHead(nn.Sequential):
    """A projector (linear, batch norm, ReLU, linear) and prototypes: from raw features (N, d) to scores (N,
    K).
    """

    def __init__(self, features: int, width: int, out: int, rows: int) -> None:
        super().__init__(
            nn.Linear(features, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, out),
            Prototypes(out, rows).at_unit_length(),
        )


class Scores(NamedTuple):
    """known (N, Cl); novel (H, N, Cu), one slice per head; over (H, N, F * Cu), finer rows, None where there
    are none.
    """

    known: Tensor
    novel: Tensor
    over: Tensor | None


class HeadSizes(NamedTuple):
    """Number of heads, hidden units and outputs of their projectors, novel classes, and how many finer rows
    stand for one of these.
    """

    heads: int
    width: int
    out: int
    novel: int
    overcluster: int = 0


class NovelNetwork(SplitNetwork):
    """Backbone, known prototypes, and from stage 1 on the heads for novel classes."""

    def __init__(self, context: Context) -> None:
        """Make an empty network; `build` and `grow` fill it."""
        super().__init__(context)
        self.sizes: HeadSizes | None = None
        self.known: Prototypes | None = None
        self.novel, self.over = nn.ModuleList(), nn.ModuleList()

    def build(self, item_shape: tuple[int, ...], known: int) -> Self:
        """Make backbone and known prototypes with weights from the stream `init`."""
        self.build_backbone(item_shape)
        with drawn_from(self.context, "init"):
            self.known = Prototypes(self.dimensions, known).to(self.context.device)
        return self

    def grow(self, sizes: HeadSizes) -> Self:
        """Make the heads for novel classes with weights from the stream `heads`."""
        self.sizes = sizes
        with drawn_from(self.context, "heads"):
            self.novel = self._heads([sizes.novel] * sizes.heads, sizes)
            self.over = self._heads(
                [sizes.overcluster * sizes.novel] * sizes.heads if sizes.overcluster else [], sizes
            )
        return self

    def widen(self, classes: int) -> Self:
        """Give the prototypes on the features rows for `classes` classes; those there are stay."""
        assert self.known is not None
        before = self.known
        with drawn_from(self.context, "heads"):
            self.known = Prototypes(self.dimensions, classes).to(self.context.device)
        with torch.no_grad():
            self.known.weight[: before.out_features] = before.weight
        return self

    @property
    def classes(self) -> int:
        """Return how many classes have a prototype on the features."""
        return self.known.out_features if self.known else 0

    def scores(self, features: Tensor) -> Scores:
        """Return all scores of features (N, d) as one batch: batch norm sees these items alone."""
        assert self.known is not None
        novel = (
            torch.stack([head(features) for head in self.novel])
            if len(self.novel)
            else features.new_zeros(1, len(features), 0)
        )
        over = torch.stack([head(features) for head in self.over]) if len(self.over) else None
        return Scores(self.known(features), novel, over)

    def observed(self, inputs: Inputs, *, chunk: int = 512) -> Observation | None:
        """Return features, the scores of known classes and of the first head, and the prototypes where all classes have
        one on the features; None before the network is built.
        """
        if self.known is None:
            return None
        with eval_mode(self):
            parts = torch.split(as_tensor(inputs, self.context.device), chunk)
            features = torch.cat([self(part) for part in parts])
            scores = self.scores(features)
            return Observation(
                features=as_array(features),
                logits=as_array(torch.cat([scores.known, scores.novel[0]], dim=1)),
                head=None if len(self.novel) else as_array(self.known.weight),
            )

    def at_unit_length(self) -> None:
        """Bring all prototypes to unit length; called before every training step."""
        for part in self.modules():
            if isinstance(part, Prototypes):
                part.at_unit_length()

    def teacher(self) -> Previous:
        """Return a frozen copy of what trains and of the known prototypes."""
        assert self.known is not None
        return Previous(self, self.known)

    def get_extra_state(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to build the network first."""
        return {
            "item_shape": list(self.item_shape),
            "known": self.classes,
            "heads": list(self.sizes or ()),
            "frozen": self.frozen,
        }

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Nothing is left to do; `load_state_dict` has built the network."""

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Build the network that `state` was taken from, then load its weights."""
        extra = state["_extra_state"]
        if extra["item_shape"]:
            self.build(tuple(extra["item_shape"]), extra["known"])
            if extra["heads"]:
                self.grow(HeadSizes(*extra["heads"]))
            self.frozen = extra["frozen"]
            self._hold_frozen()
        return super().load_state_dict(state, strict=strict, assign=assign)

    def _heads(self, rows: list[int], sizes: HeadSizes) -> nn.ModuleList:
        return nn.ModuleList(NovelHead(self.dimensions, sizes.width, sizes.out, each) for each in rows).to(
            self.context.device
        )
