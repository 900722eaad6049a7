"""Nested dropout: only the first k channels of the features count, k drawn anew for every batch, small k most
often.

Channels come to be ordered by importance; the best k is chosen on validation items afterwards. Draws, masks
and the choice follow the released code of "Compressing Features for Learning with Noisy Labels" (Chen et al.
2022): P(k) goes with exp(-((k - mu) / sigma)^2), no factor 1/2, and nothing is rescaled. (Rippel et al. 2014,
who had the idea, draw k geometrically.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from harness.errors import UserError
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.networks import MLP, VGG19
from strategies.toolkit.training.eval_mode import eval_mode

Law = Literal["half-gaussian", "geometric", "uniform"]
Shrink = Callable[[Tensor], Tensor]

BLOCK = 1 << 22  # numbers held at a time while sweeping


def widths_law(width: int, law: Law, sigma: float, mu: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return P(k) for k = 1 to `width`, float64 (width,): half-gaussian as above; geometric with mean sigma,
    cut off; uniform.
    """
    k = np.arange(1, width + 1)
    if law == "uniform":
        return np.full(width, 1 / width)
    exponent = (
        -np.square((k - mu) / sigma)
        if law == "half-gaussian"
        else (k - 1) * np.log1p(-1 / max(sigma, 1 + 1e-9))
    )
    weights = np.exp(exponent - exponent.max())
    return np.asarray(weights / weights.sum())


def prefix_mask(kept: Tensor, width: int) -> Tensor:
    """Return ones in the first k of `width` columns, float32 (len(kept), width), for k in `kept`."""
    return (torch.arange(width, device=kept.device) < kept[:, None]).float()


def right_by_width(features: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> Tensor:
    """Return how many items every k gets right, int64 (D,) for k = 1 to D, in one pass.

    The classifier is linear, so the logits of all k are a running sum over channels; blocks of channels bound
    the memory.

    Args:
        features: (..., N, D); leading dimensions are networks, whose logits are averaged.
        weight: (..., C, D).
        bias: (..., C) or None.
        labels: int64 (N,).
    """
    features, weight = features.reshape(-1, *features.shape[-2:]), weight.reshape(-1, *weight.shape[-2:])
    networks, items, width = features.shape
    classes = weight.shape[1]
    logits = torch.zeros(items, 1, classes, device=features.device)
    if bias is not None:
        logits += bias.reshape(networks, classes).sum(dim=0)
    right = torch.empty(width, dtype=torch.int64, device=features.device)
    block = max(1, BLOCK // (items * classes))
    for start in range(0, width, block):
        channels = slice(start, min(start + block, width))
        parts = torch.einsum("mnd,mcd->ndc", features[..., channels], weight[..., channels])
        parts[:, :1] += logits
        running = parts.cumsum(dim=1)
        logits = running[:, -1:]
        right[channels] = (running.argmax(dim=2) == labels[:, None]).sum(dim=0)
    return right


def through_two_layers(model: nn.Module, inputs: Tensor, before: Shrink, after: Shrink) -> Tensor:
    """Return features (N, D) of a network that ends in two fully connected layers, with something done to the
    outputs of both.

    Raises:
        UserError: the network does not end like that.
    """
    if not isinstance(model, MLP | VGG19) or len(parts := model.parts()) < 2:
        raise UserError(
            "compressing two layers needs a backbone that ends in two fully connected ones: vgg19, or mlp "
            "with depth=2 or more"
        )
    *front, last = parts
    return after(last(before(nn.Sequential(*front)(inputs))))


def best_width(right: Tensor, items: int, penalty: float) -> int:
    """Return the k with the best accuracy - penalty * (k - 1); the smallest where several are best."""
    scores = right.double() / items - penalty * torch.arange(len(right), device=right.device)
    return int(scores.argmax()) + 1


def checked_width(k: int, width: int) -> int:
    """Return k; raise `UserError` where there are not so many channels."""
    if not 1 <= k <= width:
        raise UserError(f"k={k} channels are asked for, the features have {width}")
    return k


def logits_of(model: Classifier, features: Tensor) -> Tensor:
    """Return logits (N, C) of features (N, D)."""
    assert model.head is not None
    logits: Tensor = model.head(features)
    return logits


def features_of(model: Classifier, inputs: Tensor, *, chunk: int = 512) -> Tensor:
    """Return features (N, D) in evaluation mode."""
    with eval_mode(model):
        return torch.cat([model.backbone(part) for part in torch.split(inputs, chunk)])


@torch.no_grad()
def logits_of_width(model: Classifier, features: Tensor, width: int) -> Tensor:
    """Return logits of the first `width` channels."""
    assert model.head is not None
    return nn.functional.linear(features[:, :width], model.head.weight[:, :width], model.head.bias)
