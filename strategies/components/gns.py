"""Gradient-normalised smoothness: regularised Newton steps whose regulariser follows the gradient's norm (Semenov,
Jaggi and Doikov 2026, arXiv 2506.13710; released code at 9f4ca00).

With f the batch's loss, g its gradient, H a positive semidefinite curvature: lambda = |g| / (gamma + 1e-8), d = -(H +
lambda I)^-1 g. Taken if f(x) - f(x + d) >= |g(x + d)|^2 / (8 lambda), and gamma is doubled; else gamma is halved and
d tried again. H is (1/B) sum_i J_i^T M_i J_i with J_i the slope of an item's logits and p_i its probabilities:

    ggn                 M = diag(p) - p p^T, the Fisher information of the softmax
    weighted            M = diag(p), which the theory has for it
    empirical-fisher    M = r r^T, r the slope of an item's loss
    none                0: normalised gradient descent with a radius that adapts

Where only the head trains, the system is solved exactly; elsewhere by conjugate gradients, with products from the
graph of one forward pass. All looks at a batch share their dropout draws. The test holds for the whole function:
batches should be large. Difference from the released code: where every try is refused the weights stay, there the last
refused step is taken. The learner's rate, momentum and schedule say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from harness.contracts import param
from strategies.components.contract import Component, Need
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.training.loop import Batch

Curvature = Literal["ggn", "weighted", "empirical-fisher", "none"]
Product = Callable[[Tensor], Tensor]
Solve = Callable[[float], Tensor | None]
"""From lambda to a step; None where the system cannot be solved."""
_EXACT = 4096
"""Unknowns up to which a system is solved exactly."""


@dataclass(frozen=True)
class Look:
    """The loss at a point, with its gradient (P,), the features (B, D) and logits (B, C) of the first forward pass,
    and the slope of the loss in the logits.
    """

    value: Tensor
    gradient: Tensor
    features: Tensor
    logits: Tensor
    slope: Tensor


def curved(kind: Curvature, logits: Tensor, slope: Tensor, along: Tensor) -> Tensor:
    """Return M_i u_i / B for every item.

    Args:
        kind: which curvature.
        logits: (B, C).
        slope: (B, C) of the mean loss in the logits.
        along: (B, C) the u.
    """
    items = len(logits)
    if kind == "empirical-fisher":
        own = items * slope
        return own * (own * along).sum(dim=1, keepdim=True) / items
    p = logits.detach().softmax(dim=1)
    weighted = p * along
    return (weighted - p * weighted.sum(dim=1, keepdim=True) if kind == "ggn" else weighted) / items


def head_curvature(kind: Curvature, features: Tensor, logits: Tensor, slope: Tensor) -> Tensor:
    """Return H for a linear layer, (C I, C I), weights of a class together.

    Args:
        kind: which curvature.
        features: (B, I) inputs of the layer, with a column of ones where it has a bias.
        logits, slope: (B, C) as for `curved`.
    """
    classes, items = logits.shape[1], len(logits)
    units = torch.eye(classes, dtype=logits.dtype, device=logits.device)
    m = torch.stack([curved(kind, logits, slope, unit.expand(items, -1)) for unit in units], dim=2)
    h = torch.einsum("bcdi,bj->cidj", m[..., None] * features[:, None, None, :], features)
    size = classes * features.shape[1]
    return h.reshape(size, size)


def conjugate_gradients(product: Product, wanted: Tensor, steps: int, tolerance: float) -> Tensor:
    """Return x with product(x) near `wanted` (P,), from zero, until the residual is `tolerance` of it."""
    x, residual = torch.zeros_like(wanted), wanted
    along, size = residual, residual.dot(residual)
    enough = tolerance**2 * size
    for _ in range(steps):
        if size <= enough:
            break
        image = product(along)
        share = size / along.dot(image)
        x, residual = x + share * along, residual - share * image
        size, before = residual.dot(residual), size
        along = residual + (size / before) * along
    return x


def look_at(
    network: Classifier,
    weights: Sequence[nn.Parameter],
    loss: Callable[[], Tensor],
    decay: float,
    rng: Tensor,
) -> Look:
    """Return what the loss is here, with the random draws that follow `rng`."""
    assert network.head is not None
    seen: list[tuple[Tensor, Tensor]] = []
    watch = network.head.register_forward_hook(lambda _, given, logits: seen.append((given[0], logits)))
    try:
        with torch.random.fork_rng(devices=None if weights[0].is_cuda else []):
            torch.set_rng_state(rng)
            value = loss()
    finally:
        watch.remove()
    features, logits = seen[0]
    *gradient, slope = torch.autograd.grad(
        value, [*weights, logits], retain_graph=True, allow_unused=True, materialize_grads=True
    )
    here = _flat(weights)
    return Look(
        value=value.detach() + decay / 2 * here.square().sum(),
        gradient=_flat(gradient) + decay * here,
        features=features,
        logits=logits,
        slope=slope.detach(),
    )


def curvature_product(kind: Curvature, weights: Sequence[nn.Parameter], look: Look) -> Product:
    """Return v -> H v, (P,) to (P,): the slope of J^T u in u gives J v."""
    u = torch.zeros_like(look.logits, requires_grad=True)

    def back(given: Tensor, *, differentiable: bool = False) -> Tensor:
        found = torch.autograd.grad(
            look.logits,
            weights,
            given,
            retain_graph=True,
            create_graph=differentiable,
            allow_unused=True,
            materialize_grads=True,
        )
        return _flat(found)

    pulled = back(u, differentiable=True)

    def product(v: Tensor) -> Tensor:
        (pushed,) = torch.autograd.grad(pulled, u, v, retain_graph=True)
        return back(curved(kind, look.logits, look.slope, pushed)).detach()

    return product


class GradientNormalised(Component):
    """Take regularised Newton steps whose regulariser follows the gradient's norm."""

    hessian: Curvature = param("ggn", "curvature", ablate=["weighted", "empirical-fisher", "none"])
    gamma: float = param(1.0, "radius at the start", gt=0)
    cg: int = param(10, "steps of conjugate gradients", ge=1, ablate=[3, 30])
    tolerance: float = param(0.1, "of their residual, relative", gt=0, lt=1)
    tries: int = param(10, "steps tried on a batch (released 40)", ge=1, ablate=[40])
    l2: float = param(-1.0, "weight decay within the loss; negative for the learner's", ablate=[0.0])

    needs: ClassVar[frozenset[Need]] = frozenset({"own-step"})

    def step(self, network: Classifier, batch: Batch, loss: Callable[[], Tensor]) -> None:
        """Move the weights, or leave them where no step passes."""
        weights = [each for each in network.parameters() if each.requires_grad]
        decay = self.optimiser.weight_decay if self.l2 < 0 else self.l2
        rng = torch.get_rng_state()
        look = look_at(network, weights, loss, decay, rng)
        norm, radius = float(look.gradient.norm()), float(getattr(self, "radius", self.gamma))
        solve, before = self._solver(network, weights, look, decay), _flat(weights)
        for _ in range(self.tries if norm > 0 else 0):
            bound = norm / (radius + 1e-8)
            move = solve(bound)
            if move is not None:
                _put(weights, before + move)
                there = look_at(network, weights, loss, decay, rng)
                # said so that what is no number is refused
                if look.value - there.value >= there.gradient.square().sum() / (8 * bound):
                    radius = max(2 * radius, 1e-9)
                    break
                _put(weights, before)
            radius /= 2
        self.radius = radius
        for each in weights:
            each.grad = None

    def _solver(
        self, network: Classifier, weights: Sequence[nn.Parameter], look: Look, decay: float
    ) -> Solve:
        """Return what solves for a step."""
        if self.hessian == "none":
            return lambda bound: -look.gradient / (decay + bound)
        assert network.head is not None
        own = [*network.head.parameters(recurse=False)]
        # weights of a parametrised head are none of its own
        if [*map(id, own)] == [*map(id, weights)] and len(look.gradient) <= _EXACT:
            return self._exact(look, decay, bias=len(own) == 2)
        product = curvature_product(self.hessian, weights, look)

        def solve(bound: float) -> Tensor:
            def regularised(v: Tensor) -> Tensor:
                return product(v) + (decay + bound) * v

            return -conjugate_gradients(regularised, look.gradient, self.cg, self.tolerance)

        return solve

    def _exact(self, look: Look, decay: float, *, bias: bool) -> Solve:
        features, (items, classes) = look.features.detach(), look.logits.shape
        width = features.shape[1]
        with_ones = torch.cat([features, features.new_ones(items, 1)], dim=1) if bias else features
        h = head_curvature(self.hessian, with_ones, look.logits.detach(), look.slope)
        # from the order of the matrix to that of the gradient: weights of all classes, then biases
        order = torch.arange(len(h), device=h.device).view(classes, -1)
        order = torch.cat([order[:, :width].flatten(), order[:, width:].flatten()])
        h, unit = h[order][:, order], torch.eye(len(h), dtype=h.dtype, device=h.device)

        def solve(bound: float) -> Tensor | None:
            factor, failed = torch.linalg.cholesky_ex(h + (decay + bound) * unit)
            return None if failed else -torch.cholesky_solve(look.gradient[:, None], factor)[:, 0]

        return solve


def _flat(values: Sequence[Tensor]) -> Tensor:
    flat = torch.cat([each.flatten() for each in values])
    return flat.detach() if all(isinstance(each, nn.Parameter) for each in values) else flat


def _put(weights: Sequence[nn.Parameter], flat: Tensor) -> None:
    """Write weights past automatic differentiation, which goes on with the graph where they were."""
    place = 0
    for each in weights:
        each.data.copy_(flat[place : place + each.numel()].view_as(each))
        place += each.numel()
