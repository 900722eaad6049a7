"""Images times random masks whose law is learned by policy gradient (Yavuz and Yang 2024, arXiv 2406.14568; released
code at ece96ae).

A cell is Beta(exp a, exp b); a linear policy says a and b of every cell from the image, mean over channels and pooled
to the grid, a tenth of it beside nine tenths of a running mean. Its loss is the textbook form, mean_b (CE_b - mean CE)
sum_cells log pdf, and reaches the policy alone. The released code multiplies the batch's mean loss by log sum_cells
pdf, all items sharing one reward; that also multiplies the classifier's learning rate, and is not built.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributions import Beta
from torch.nn import functional

from harness.contracts import param
from harness.errors import Diverged
from strategies.components.contract import Rate
from strategies.components.masks import Masks
from strategies.ood_scores import Seen
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.losses.robust import cross_entropy
from strategies.toolkit.training.loop import Batch

_INSIDE = 1e-4
"""Cells are kept this far from 0 and 1 where their density is taken."""


class Policy(nn.Module):
    """a and b of every cell for images (B, C, H, W), each float32 (B, G, G)."""

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.grid = grid
        self.linear = nn.Linear(grid * grid, 2 * grid * grid)
        self.base: Tensor
        self.register_buffer("base", torch.rand(2, grid, grid))

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return nine tenths of the running mean and a tenth of what the image says; then the mean moves."""
        with torch.autocast(inputs.device.type, enabled=False):
            pooled = functional.adaptive_avg_pool2d(inputs.float().mean(dim=1, keepdim=True), self.grid)
            own = self.linear(pooled.flatten(1)).view(-1, 2, self.grid, self.grid)
        mixed = 0.9 * self.base + 0.1 * own
        self.base.lerp_(own.detach().mean(dim=0), 0.01)
        return mixed[:, 0], mixed[:, 1]


def policy_loss(a: Tensor, b: Tensor, cells: Tensor, losses: Tensor) -> Tensor:
    """Return mean_b (losses_b - their mean) sum_cells log pdf of Beta(exp a, exp b), in which losses are constants.

    Args:
        a, b, cells: (B, G, G).
        losses: (B,).
    """
    density = Beta(a.exp(), b.exp()).log_prob(cells.clamp(_INSIDE, 1 - _INSIDE))  # type: ignore[no-untyped-call]
    value: Tensor = ((losses - losses.mean()).detach() * density.flatten(1).sum(dim=1)).mean()
    return value


class NoiseMask(Masks):
    """Multiply images by random masks whose law is learned by policy gradient."""

    policy_lr: float = param(
        0.1, "learning rate of the policy as a factor on the learner's", gt=0, ablate=[1.0]
    )

    def network(self, network: Classifier, part: nn.Module) -> None:
        """Give a backbone its policy."""
        if part is not network.head:
            part.add_module("mask_policy", Policy(self.cells_along(network)))

    def rates(self, network: Classifier) -> Mapping[nn.Parameter, Rate]:
        """Return the rate of the policy."""
        return {weights: Rate(lr=self.policy_lr) for weights in _policy_of(network).parameters()}

    def change(self, network: Classifier, batch: Batch) -> Batch:
        """Return the batch with masked images.

        Raises:
            Diverged: the policy gives no law any more.
        """
        self.drawn: tuple[Tensor, Tensor, Tensor] | None = None
        if batch.done >= self.share:
            return batch
        a, b = _policy_of(network)(batch.inputs)
        laws = torch.stack([a, b]).detach().exp()
        if not (laws.isfinite() & (laws > 0)).all():
            raise Diverged(
                f"the policy of component {self.name} gives no law of masks in step {batch.step + 1}"
            )
        law = [each.detach().double().exp().cpu().numpy() for each in (a, b)]
        cells = torch.from_numpy(self.stream(f"masks-{batch.step}").beta(*law)).to(a)
        self.drawn = (a, b, cells)
        return self.masked(batch, cells)

    def term(self, network: Classifier, batch: Batch, seen: Seen) -> Tensor | None:
        """Return the policy's loss."""
        if self.drawn is None:
            return None
        drawn, self.drawn = self.drawn, None
        return policy_loss(*drawn, cross_entropy(seen.logits[: len(batch.labels)].float(), batch.labels))


def _policy_of(network: Classifier) -> Policy:
    policy = network.backbone.get_submodule("mask_policy")
    assert isinstance(policy, Policy)
    return policy
