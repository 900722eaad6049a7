"""Curvature of the training loss around the weights: trace, Frobenius norm and largest eigenvalue of its Hessian H, and
how they stand against the learning rate.

With random signs v, tr H = E v'Hv (Hutchinson) and |H|_F^2 = E |Hv|^2; the largest eigenvalue is that of Lanczos'
tridiagonal matrix. A product Hv is a gradient of a gradient, and H is never formed.

Full-batch descent at rate r with momentum m stays at a minimum only where lambda_max <= 2 (1 + m) / r; stochastic
descent, one item a step and no momentum, in mean square only where tr H <= 2 / r. Both are for losses that reach 0 at
the minimum, such as squares: with cross-entropy H fades as margins grow, so a ratio below 1 late in training proves
nothing, and the peak tells more.

Sources: Wu and Su 2023 (arXiv 2305.17490), Wu, Wang and Su 2022 (arXiv 2207.02628) for the bounds; Hutchinson 1989.

Legend: P weights, flat.

>>> import torch
>>> weights = torch.tensor([1.0, 2.0], requires_grad=True)
>>> product = hessian_product(weights[0] ** 2 * weights[1], [weights])
>>> product(np.array([1.0, 0.0]))  # of [[2 w1, 2 w0], [2 w0, 0]]
array([4., 2.])
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.linalg import eigvalsh_tridiagonal

from harness.contracts import HIDDEN, Metric, Surface, param
from harness.probes.contract import Look, Of, Probe
from harness.probes.items import NAN, Floats, not_applicable

if TYPE_CHECKING:
    from torch import Tensor

Product = Callable[[Floats], Floats]
"""Hv (P,) of v (P,), float64."""


def hessian_product(loss: Tensor, weights: Sequence[Tensor]) -> Product:
    """Return the product of a vector with the Hessian of `loss`, a scalar with its graph, over all `weights`."""
    import torch

    graph = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True, materialize_grads=True)
    curved = [(gradient, index) for index, gradient in enumerate(graph) if gradient.requires_grad]
    sizes = np.cumsum([weight.numel() for weight in weights])[:-1]

    def product(vector: Floats) -> Floats:
        if not curved:
            return np.zeros_like(vector)
        parts = np.split(vector, sizes)
        along = [
            torch.as_tensor(parts[i], dtype=g.dtype, device=g.device).reshape(g.shape) for g, i in curved
        ]
        found = torch.autograd.grad(
            [gradient for gradient, _ in curved],
            weights,
            along,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return _flat(found)

    return product


class Traces(NamedTuple):
    """Estimates from random signs: tr H with its standard error, and |H|_F; NaN where there are too few vectors."""

    trace: float
    error: float
    frobenius: float


def traces(product: Product, vectors: Iterable[Floats]) -> Traces:
    """Return tr H and |H|_F of `product` over `vectors` (P,) of random signs."""
    forms, squares = [], []
    for vector in vectors:
        image = product(vector)
        forms.append(float(vector @ image))
        squares.append(float(image @ image))
    if not forms:
        return Traces(NAN, NAN, NAN)
    error = np.std(forms, ddof=1) / np.sqrt(len(forms)) if len(forms) > 1 else NAN
    return Traces(float(np.mean(forms)), float(error), float(np.sqrt(np.mean(squares))))


def largest_eigenvalue(product: Product, start: Floats, products: int = 20) -> float:
    """Return the largest eigenvalue of a symmetric matrix, not the largest in modulus, from below.

    Lanczos' recurrence of at most `products` products from `start` (P,), which keeps three vectors.
    """
    vector, before, size = start / np.linalg.norm(start), np.zeros_like(start), 0.0
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(min(products, len(start))):
        image = product(vector)
        size = max(size, float(np.linalg.norm(image)))
        diagonal.append(float(image @ vector))
        image = image - diagonal[-1] * vector - (beside[-1] if beside else 0.0) * before
        beside.append(float(np.linalg.norm(image)))
        if not beside[-1] > _ROUNDING * size:
            break
        vector, before = image / beside[-1], vector
    finite = np.isfinite(diagonal).all()
    return float(eigvalsh_tridiagonal(diagonal, beside[:-1])[-1]) if finite else NAN


def squared_gradient(surface: Surface, items: int) -> float:
    """Return the mean over the first `items` items of the squared gradient of an item's own loss; NaN for none."""
    import torch

    weights = surface.parameters()
    squares = [
        (
            _flat(
                torch.autograd.grad(
                    surface.loss(slice(i, i + 1)), weights, allow_unused=True, materialize_grads=True
                )
            )
            ** 2
        ).sum()
        for i in range(items)
    ]
    return float(np.mean(squares)) if squares else NAN


def _flat(parts: Sequence[Tensor]) -> Floats:
    return np.concatenate([part.detach().cpu().numpy().astype(np.float64).ravel() for part in parts])


_ROUNDING = 1e-12


class _OutOfTime(Exception):
    pass


def _until(deadline: float, product: Product) -> Product:
    """Return `product`, which raises `_OutOfTime` past `deadline`."""

    def call(vector: Floats) -> Floats:
        if time.monotonic() > deadline:
            raise _OutOfTime
        return product(vector)

    return call


class Curvature(Probe):
    """Curvature of the training loss, and how it stands against the learning rate.

    It takes the loss that the learner says it minimises, in evaluation mode and without weight decay, which would add
    its constant to every eigenvalue, over the items measured, which have the labels given. Of two networks it is the
    first. Ratios are NaN where the steps are not those of gradient descent with momentum, as Adam's are not. The
    figures are made where the network is, and cannot be recomputed from what is stored. Cost: vectors + products
    gradients of a gradient, some 3 gradients each, and one small gradient for each of `gradients` items; what is not
    done after `seconds` is NaN.
    """

    needs = ("surface",)
    place = "learner"
    figures = (
        Metric(name="trace", better="lower", meaning="trace of the Hessian of the training loss"),
        Metric(
            name="trace_error", better="lower", meaning="standard error of the trace over the random vectors"
        ),
        Metric(name="frobenius", better="lower", meaning="Frobenius norm of the Hessian"),
        Metric(name="lambda_max", better="lower", meaning="largest eigenvalue of the Hessian"),
        Metric(
            name="sharpness_ratio", better="lower", meaning="largest eigenvalue over 2 (1 + momentum) / rate"
        ),
        Metric(name="trace_ratio", better="lower", meaning="trace over 2 / rate"),
        Metric(name="squared_gradient", better="lower", meaning="mean squared gradient of one item's loss"),
    )
    of: Of = param("train", "items measured: train, asked, known, novel or watched")
    vectors: int = param(8, "random vectors for trace and Frobenius norm", ge=1)
    products: int = param(20, "products for the largest eigenvalue", ge=1)
    gradients: int = param(16, "items whose own gradient is taken", ge=0, unit="items")
    seconds: float = param(10.0, "what a look may take", gt=0, unit="s")

    def measure(self, look: Look, rng: np.random.Generator) -> Mapping[str, float]:
        """Return the figures of a look."""
        found = not_applicable(self.figures)
        surface, shown = look.surface, int((look.labels != HIDDEN).sum())
        if surface is None or not shown:
            return found
        deadline = time.monotonic() + self.seconds
        weights = surface.parameters()
        product = _until(deadline, hessian_product(surface.loss(slice(0, shown)), weights))
        rate = NAN if np.isnan(surface.momentum) else surface.rate
        size = sum(weight.numel() for weight in weights)
        vectors = (rng.choice([-1.0, 1.0], size) for _ in range(self.vectors + 1))
        start = next(vectors)
        try:
            found["trace"], found["trace_error"], found["frobenius"] = traces(product, vectors)
            found["trace_ratio"] = found["trace"] * rate / 2
            found["lambda_max"] = largest_eigenvalue(product, start, self.products)
            found["sharpness_ratio"] = found["lambda_max"] * rate / (2 * (1 + surface.momentum))
            found["squared_gradient"] = squared_gradient(surface, min(self.gradients, shown))
        except _OutOfTime:
            pass
        return found
