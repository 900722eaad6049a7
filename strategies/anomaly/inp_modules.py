"""The trained part of INP-Former: prototypes of an image's normal parts, and a decoder that rebuilds its
tokens from these alone.

A few learnable queries attend to the tokens of one image and become its prototypes. The decoder has only them
as keys and values, and no path around its attention, so that it has little means of copying anomalies
(Luo et al., CVPR 2025; released code 17d2653, which is followed).

    extractor  T' = T + Proj(softmax(q k' / sqrt(d)) v),  q = LN(T) Wq,  k, v = LN(X) Wkv;  P = T' +
    MLP(LN(T')) decoder    y = Proj(relu(s q k') v),  q = LN(h) Wq at unit length,  k, v = LN(P) Wkv, k at
    unit length;  h' = y + MLP(LN(y))

Both attentions have few prototypes on one side, so their linear layers are applied on that side, with the
same result: what is computed for every token is a product with heads * M vectors instead of C. A bias of the
extractor's keys shifts a whole row of its softmax and says nothing; there is none.

Legend: B images, G groups, P patches, C channels, M prototypes, H heads, d = C / H.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from harness.contracts import Context
from harness.errors import UserError
from strategies.toolkit.networks import drawn_from

Source = Literal["image", "learned", "both"]
Attention = Literal["relu", "softmax", "relu-rows"]
Fusion = Literal["mean", "sum"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """What the trained part looks like.

    source: prototypes of the image, the learned queries themselves, or both.
    unit: whether the decoder's queries and keys have unit length; else their products are divided by sqrt(d).
    residual: whether a path leads around the decoder's attention.
    fusion: how groups become the one feature map that extractor and bottleneck see.
    deviation: standard deviation of fresh weights, drawn from a normal cut at three of them.
    """

    heads: int = 4
    prototypes: int = 6
    extractor_blocks: int = 1
    decoder_blocks: int = 4
    source: Source = "image"
    attention: Attention = "relu"
    unit: bool = True
    residual: bool = False
    dropout: float = 0.0
    fusion: Fusion = "mean"
    deviation: float = 0.05


class Rebuilt(NamedTuple):
    """fused (B, P, C): the groups as one; prototypes (B, M, C) or (1, M, C); groups: for each its rebuilt
    tokens (B, P, C).
    """

    fused: Tensor
    prototypes: Tensor
    groups: list[Tensor]


class ExtractorBlock(nn.Module):
    """Cross-attention from queries to tokens, pre-norm; queries and tokens share the first norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.norm, self.q, self.k = (
            nn.LayerNorm(width, eps=1e-8),
            nn.Linear(width, width),
            nn.Linear(width, width, bias=False),
        )
        self.v, self.proj = nn.Linear(width, width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.LayerNorm(width, eps=1e-8), *_mlp(width))

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """Return (B, M, C) from queries (B, M, C) or (1, M, C) and tokens (B, P, C)."""
        rows, count, width = queries.shape
        tokens = self.norm(tokens)
        asked = self.q(self.norm(queries)).reshape(rows, count, self.heads, self.size) * self.size**-0.5
        keys, values = (layer.weight.view(self.heads, self.size, width) for layer in (self.k, self.v))
        folded = torch.einsum("bmhd,hdc->bhmc", asked, keys).reshape(rows, -1, width)
        shares = (folded @ tokens.transpose(1, 2)).softmax(dim=2)
        gathered = (shares @ tokens).reshape(len(tokens), self.heads, count, width)
        queries = queries + self.proj(
            torch.einsum("bhmc,hdc->bmhd", gathered, values).flatten(2) + self.v.bias
        )
        return queries + self.mlp(queries)  # type: ignore[no-any-return]


class GuidedBlock(nn.Module):
    """Attention from tokens to prototypes, pre-norm with one norm for both, then an MLP with a path around
    it.
    """

    def __init__(self, width: int, design: Design) -> None:
        super().__init__()
        self.heads, self.size = design.heads, width // design.heads
        self.attention, self.unit, self.residual = design.attention, design.unit, design.residual
        self.norm, self.q, self.kv = (
            nn.LayerNorm(width, eps=1e-8),
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
        )
        self.proj = nn.Linear(width, width)
        self.scale = nn.Parameter(torch.ones(design.heads))
        self.mlp = nn.Sequential(nn.LayerNorm(width, eps=1e-8), *_mlp(width))

    def forward(self, tokens: Tensor, prototypes: Tensor) -> Tensor:
        """Return (B, P, C) from tokens (B, P, C) and prototypes (B, M, C) or (1, M, C)."""
        rows, count, width = prototypes.shape
        heads, size = self.heads, self.size
        keys, values = self.kv(self.norm(prototypes)).view(rows, count, 2, heads, size).unbind(dim=2)
        scale = self.scale.repeat_interleave(count)
        queries = self.q(self.norm(tokens))
        keys = normalize(keys, dim=3) if self.unit else keys * size**-0.5
        by_head = torch.eye(
            heads, dtype=keys.dtype, device=keys.device
        )  # one product with keys of the other heads as zeros
        weights = (
            queries
            @ torch.einsum("bmhd,hg->bhdgm", keys, by_head).reshape(rows, width, heads * count)
            * scale
        )
        if self.unit:
            lengths = queries.view(*queries.shape[:2], heads, size).norm(dim=3, keepdim=True).clamp_min(1e-12)
            weights = (weights.view(*queries.shape[:2], heads, count) / lengths).flatten(2)
        weights = self._activated(weights, count)
        rebuilt = torch.einsum("bmhd,chd->bhmc", values, self.proj.weight.view(width, heads, size)).reshape(
            rows, heads * count, width
        )
        attended = weights @ rebuilt + self.proj.bias
        if self.residual:
            attended = attended + tokens
        return attended + self.mlp(attended)  # type: ignore[no-any-return]

    def _activated(self, weights: Tensor, count: int) -> Tensor:
        """Return attention (B, P, H * M); softmax and rows of sum one are within a head."""
        by_head = weights.view(*weights.shape[:2], self.heads, count)
        if self.attention == "softmax":
            return by_head.softmax(dim=3).flatten(2)
        by_head = by_head.relu()
        if self.attention == "relu-rows":
            by_head = by_head / by_head.sum(dim=3, keepdim=True).clamp_min(1e-12)
        return by_head.flatten(2)


class InpNetwork(nn.Module):
    """Queries, extractor, bottleneck and decoder. It is built once the width of the tokens is known."""

    def __init__(self, context: Context, design: Design) -> None:
        """Take what it looks like."""
        super().__init__()
        self.context, self.design = context, design
        self.width = self.groups = 0

    def build(self, width: int, groups: int) -> Self:
        """Make all parts for `groups` target maps of tokens of `width` channels, with weights from the stream
        `init`.

        Raises:
            UserError: heads that do not divide the width, or decoder blocks that cannot be shared out evenly
            over the groups.
        """
        design = self.design
        if width % design.heads:
            raise UserError(
                f"heads must divide the width of the tokens, got heads={design.heads} and width {width}"
            )
        if design.decoder_blocks % groups:
            raise UserError(
                f"every target map needs the same number of decoder blocks, got {design.decoder_blocks} "
                f"for {groups} maps"
            )
        self.width, self.groups = width, groups
        with drawn_from(self.context, "init"):
            extractors = [
                ExtractorBlock(width, design.heads)
                for _ in range(design.extractor_blocks if design.source != "learned" else 0)
            ]
            self.extractor = nn.ModuleList(extractors)
            self.bottleneck = nn.Sequential(*_mlp(width, design.dropout))
            self.decoder = nn.ModuleList(GuidedBlock(width, design) for _ in range(design.decoder_blocks))
            for layer in self.modules():
                if isinstance(layer, nn.Linear):
                    _start(layer, design.deviation)
            self.queries = nn.Parameter(torch.randn(design.prototypes, width))
        return self.to(self.context.device)

    def fused(self, tokens: Tensor) -> Tensor:
        """Return the groups of tokens (B, G, P, C) as one map (B, P, C): their mean (code) or their sum (the
        paper, over layers).
        """
        return tokens.mean(dim=1) if self.design.fusion == "mean" else tokens.sum(dim=1)

    def extracted(self, fused: Tensor) -> Tensor:
        """Return the prototypes (B, M, C) of fused tokens (B, P, C); (1, M, C) where they are the same for
        every image.
        """
        learned = self.queries[None]
        if self.design.source == "learned":
            return learned
        found = learned
        for block in self.extractor:
            found = block(found, fused)
        return found if self.design.source == "image" else torch.cat([found, learned.expand_as(found)], dim=1)

    def forward(self, tokens: Tensor) -> Rebuilt:
        """Rebuild tokens (B, G, P, C); the last blocks of the decoder stand for the first group."""
        fused = self.fused(tokens)
        prototypes = self.extracted(fused)
        hidden, outputs = self.bottleneck(fused), []
        for block in self.decoder:
            hidden = block(hidden, prototypes)
            outputs.append(hidden)
        return Rebuilt(fused, prototypes, by_group(outputs, self.groups))

    def get_extra_state(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to build the network first."""
        return {"width": self.width, "groups": self.groups}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Nothing is left to do; `load_state_dict` has built the network."""

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Build the network that `state` was taken from, then load its weights."""
        extra = state["_extra_state"]
        if extra["width"]:
            self.build(extra["width"], extra["groups"])
        return super().load_state_dict(state, strict=strict, assign=assign)


def by_group(outputs: list[Tensor], groups: int) -> list[Tensor]:
    """Return for every group the mean of its share of the decoder's outputs, counted from the last one.

    So the deepest blocks stand for the shallowest layers of the encoder (code: the list is reversed, then
    cut).
    """
    share = len(outputs) // groups
    backwards = outputs[::-1]
    return [
        sum(backwards[at + 1 : at + share], backwards[at]) / share for at in range(0, len(outputs), share)
    ]


def _mlp(width: int, dropout: float = 0.0) -> list[nn.Module]:
    """Return C -> 4C -> C with GELU; dropout on input, hidden and output as in Dinomaly."""
    into, out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
    if not dropout:
        return [into, nn.GELU(), out]
    return [nn.Dropout(dropout), into, nn.GELU(), nn.Dropout(dropout), out, nn.Dropout(dropout)]


def _start(layer: nn.Linear, deviation: float) -> None:
    nn.init.trunc_normal_(layer.weight, std=deviation, a=-3 * deviation, b=3 * deviation)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
