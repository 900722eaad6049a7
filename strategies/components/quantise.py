"""Quantised weights, and a penalty on how weights are distributed (Xu et al. 2023, EQ-Net; released code at 86b9e41).

w_q = round(clamp(w / s, lo, hi)) s with lo = -2^(b-1), hi = 2^(b-1) - 1, one learned step s for every layer. The
gradient goes straight through where w / s lies inside and is zero outside; that of s is scaled by 1 / sqrt(hi
numel). s starts at the best of 80 ranges, from the largest |w| down by a hundredth each, by mean |w - w_q|^2.4. The
penalty, over all layers but the first, is (kurtosis - 1.8)^2, 1.8 that of the uniform distribution, and (skewness)^2.
Followed is the symmetric form for whole tensors, without the elastic training of several widths.

`noise` trains on w + step u instead (Shvetsov et al. 2022, QuantNAS, arXiv 2208.14839; released code at a74390e),
step = (max - min) / (2^b - 1), u uniform within a half or normal with deviation a half, as released, and answers with
weights rounded to that grid from min. The gradient is 1, where the code's shares of precisions change the rate.
`saliency` adds pull sum_i s_i (w_i - Q(w_i))^2 / sum s over all layers, Q(w) a constant, s a running mean of the
squared gradient or of the squared input of a column (the idea of arXiv 2504.13932, whose formula was not at hand).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, register_parametrization

from harness.contracts import param
from strategies.components.contract import Component
from strategies.components.grids import Grid, Noise, Noisy, Quantised, Saliency
from strategies.components.modules import Layer, layers_of, trained
from strategies.ood_scores import Seen
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.training.loop import Batch

OFF = 32
"""Bits at which weights stay as they are."""


def moments(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return kurtosis and skewness of all entries, standardised by the unbiased standard deviation."""
    standard = (weights - weights.mean()) / (weights.std() + 1e-12)
    return standard.pow(4).mean(), standard.pow(3).mean()


class Quantise(Component):
    """Let weights take few values, which limits what a network can hold."""

    bits: int = param(
        4, f"bits of a weight; {OFF} leaves weights as they are", ge=2, le=OFF, ablate=[2, 3, 8, OFF]
    )
    kurtosis: float = param(0.0, "weight of (kurtosis - 1.8)^2 (published 0.015)", ge=0, ablate=[0.015])
    skewness: float = param(0.0, "weight of (skewness)^2 (published 1)", ge=0, ablate=[1.0])
    noise: Noise = param(
        "none", "noise of the size of rounding in its place while training", ablate=["uniform", "gaussian"]
    )
    saliency: Saliency = param(
        "none",
        "by what weights are pulled to their grid: squared gradient or input",
        ablate=["gradient", "input"],
    )
    pull: float = param(1.0, "weight of that pull", ge=0, ablate=[0.1, 10.0])

    neutral: ClassVar[Mapping[str, Any]] = MappingProxyType({"bits": OFF})

    def network(self, network: Classifier, part: nn.Module) -> None:
        """Put the function behind the weights of every layer."""
        if self.bits == OFF:
            return
        if part is not network.head:
            self.draws = torch.Generator(self.context.device)
        for layer in layers_of(part):
            if self.noise == "none":
                made: Grid = Quantised(layer.weight, self.bits, self.saliency)
            else:
                made = Noisy(layer.weight, self.bits, self.saliency, self.noise, self.draws)
            register_parametrization(layer, "weight", made)
            if self.saliency == "input":
                layer.register_forward_pre_hook(_weigh_inputs)

    def change(self, network: Classifier, batch: Batch) -> Batch:
        """Return the batch as it is; the noise of its step begins."""
        if self.noise != "none" and self.bits < OFF:
            self.draws.manual_seed(int(self.stream(f"noise-{batch.step}").integers(2**62)))
        return batch

    def term(self, network: Classifier, batch: Batch, seen: Seen) -> Tensor | None:
        """Return the penalties, on weights before they are quantised; None where none has a weight."""
        terms = []
        if self.kurtosis or self.skewness:
            penalties = [torch.zeros((), device=seen.logits.device)]
            for layer in (layers := layers_of(network)[1:]):
                kurtosis, skewness = moments(trained(layer).float())
                penalties.append(
                    self.kurtosis * (kurtosis - 1.8).square() + self.skewness * skewness.square()
                )
            terms.append(torch.stack(penalties).sum() / max(1, len(layers)))
        if self.saliency != "none" and self.pull and self.bits < OFF:
            found = [grid.pulled(trained(layer)) for layer, grid in _grids(network)]
            total = torch.stack([size for _, size in found]).sum()
            pulls = torch.stack([pull for pull, _ in found]).sum()
            terms.append(self.pull * pulls / total.clamp_min(torch.finfo(total.dtype).tiny))
        return torch.stack(terms).sum() if terms else None

    def step(self, network: Classifier, batch: Batch, loss: Callable[[], Tensor]) -> None:
        """Let the saliency follow the squared gradient."""
        if self.saliency == "gradient" and self.bits < OFF:
            for layer, grid in _grids(network):
                gradient = trained(layer).grad
                if gradient is not None:
                    grid.weigh(gradient.square())

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: what it keeps is in the network."""
        return {}


def _grids(network: Classifier) -> Iterator[tuple[Layer, Grid]]:
    for layer in layers_of(network):
        if is_parametrized(layer, "weight"):
            parts = layer.parametrizations["weight"]  # type: ignore[index]
            yield from ((layer, one) for one in parts if isinstance(one, Grid))


@torch.no_grad()
def _weigh_inputs(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
    if not layer.training:
        return
    squares = given[0].detach().float().square()
    places = range(squares.ndim - 1) if isinstance(layer, nn.Linear) else (0, *range(2, squares.ndim))
    columns = squares.mean(dim=tuple(places))
    for one in layer.parametrizations["weight"]:  # type: ignore[index]
        if isinstance(one, Grid):
            assert one.saliency is not None
            one.weigh(columns.view(-1, one.saliency.numel()).mean(dim=0).view_as(one.saliency))
