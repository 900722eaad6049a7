"""MSBReg: embeddings as particles, held together by their views and spread over the sphere (Moon et al., WACV 2023,
arXiv 2207.03552; no released code).

Legend: V views of B items, z (V, B, d) their embeddings at unit length, n (B, d) a random unit direction of every item.
To a loss are added

    centroid    mean_b 1 - cos(mean_v z_vb, mean_v z'_vb): an item's views meet where a running mean of the network, z',
                has them
    singular    sum_k (s_k - 1 / sqrt d)^2, s the singular values of the centred embeddings over sqrt(V B): a flat
                spectrum, in which none is 0
    brownian    mean_vb <z_vb, n_b>: a push along one direction, the same for all views of an item

Which form of the second the paper takes, and its weights, were not to be had; these are of the same order here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import AfterValidator
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from harness.contracts import Context
from harness.syntax import chosen
from strategies.toolkit.augmentations import generator_of
from strategies.toolkit.augmentations.base import check_range
from strategies.toolkit.discovery.split_network import Previous, SplitNetwork

ProjectionLoss = Callable[[Tensor, Tensor], Tensor]
"""From hidden values (2B, ...) and projections (2B, p), all first views before all second ones, to a scalar."""


def centroid(z: Tensor, target: Tensor) -> Tensor:
    """Return one minus the cosine of the views' means in z and target (V, B, d), the mean over items."""
    return 1 - cosine_similarity(z.mean(dim=0), target.mean(dim=0), dim=-1).mean()


def singular(z: Tensor) -> Tensor:
    """Return how far singular values of z (N, d), centred and over sqrt N, are from 1 / sqrt d: the sum of squares.

    Rows of unit length reach 0 only where their mean is 0 and N is at least d.
    """
    values = torch.linalg.svdvals((z - z.mean(dim=0)) / len(z) ** 0.5)
    distance: Tensor = (values - z.shape[1] ** -0.5).square().sum()
    return distance


def brownian(z: Tensor, directions: Tensor) -> Tensor:
    """Return the mean product of z (V, B, d) with directions (B, d)."""
    return (z * directions).sum(dim=-1).mean()


class MSBReg:
    """The three terms with their weights, for one stage of training."""

    def __init__(
        self, *, centroid: float = 1.0, singular: float = 1.0, brownian: float = 0.1, momentum: float = 0.99
    ) -> None:
        """Take the weights, and how much of the running mean stays at every step; raise `UserError` for one out of
        range.
        """
        check_range("msbreg", 0, 1e6, centroid=centroid, singular=singular, brownian=brownian)
        check_range("msbreg", 0, 1, momentum=momentum)
        self.weights, self.momentum = (centroid, singular, brownian), momentum

    def of(self, network: SplitNetwork, projector: nn.Module, context: Context) -> ProjectionLoss:
        """Return the weighted sum for batches of a stage that begins with this network and this projector."""
        mean, generator = Previous(network, projector), generator_of(context, "brownian")

        def loss(hidden: Tensor, projections: Tensor) -> Tensor:
            with torch.no_grad():
                now = nn.ModuleList([*network.parts[network.frozen :], projector])
                for kept, weight in zip(mean.parameters(), now.parameters(), strict=True):
                    kept.lerp_(weight, 1 - self.momentum)
                for held, fresh in zip(mean.buffers(), now.buffers(), strict=True):
                    held.copy_(fresh)
                target = normalize(mean.head(mean(hidden)).float(), dim=1)
            z = normalize(projections.float(), dim=1)
            views, targets = (torch.stack(each.chunk(2)) for each in (z, target))
            drawn = torch.randn(views.shape[1:], generator=generator, device=z.device)
            terms = (centroid(views, targets), singular(z), brownian(views, normalize(drawn, dim=1)))
            return torch.stack(
                [weight * term for weight, term in zip(self.weights, terms, strict=True)]
            ).sum()

        return loss


def projection_loss_of(
    text: str, network: SplitNetwork, projector: nn.Module, context: Context
) -> ProjectionLoss | None:
    """Return what `text` adds to the loss of two views, None where it is empty.

    Raises:
        UserError: no loss of that name, a parameter it does not have, or a value out of range.
    """
    return _made(text).of(network, projector, context) if text else None


def _made(text: str) -> MSBReg:
    made: MSBReg = chosen("loss of projections", text, {"msbreg": MSBReg})()
    return made


def _known(text: str) -> str:
    if text:
        _made(text)
    return text


Named = Annotated[str, AfterValidator(_known)]
"""A parameter that names what is added, none where it is empty; a wrong one is refused before anything runs."""
