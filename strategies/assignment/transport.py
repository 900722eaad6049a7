"""Plans of optimal transport from items to classes, by their duals.

Legend: B items, K classes, S (B, K) scores, P (B, K) the plan, whose rows sum to 1, c = P'1 what each class gets, r = B
/ K its even part, H the entropy of all entries. Leading dimensions are problems of their own, N in all.

Given a potential u of every class the rows have a closed form, and these K numbers are all there is to find: by
Newton's steps in float64, five to ten of them. Where rows may have k entries alone the dual has corners, at which a
class's part jumps; from the plan without that limit L-BFGS goes on for 60 evaluations.

With `keep` below 1 this is Sinkhorn-Newton-Sparse (Tang et al. 2024, arXiv 2401.12253): of P only this share of
entries, the largest, stands in Newton's matrix. There potentials of items are found too; here they are eliminated,
which gives the same step. The dual with at most k entries is that of Liu, Puigcerver and Blondel (2023, arXiv
2209.15466), items in the place of their columns; their gamma is divided by B.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_STEPS, _HALVINGS, _ROUNDS, _EVALUATIONS = 50, 30, 3, 60
"""Most Newton steps, most halvings of one, rounds of scaling before them, evaluations at corners."""

_FAR, _MET = 20, 1e-11
"""Scores that are far apart, in epsilons; what may be left over of all parts, as a share of the items."""


class _Point(NamedTuple):
    """The dual at potentials (N, K): P (N, B, K), value (N,), gradient (N, K), what gives the Hessian (N, K, K)."""

    plan: Tensor
    value: Tensor
    gradient: Tensor
    hessian: Callable[[], Tensor]


def entropic_plan(scores: Tensor, *, epsilon: float, rho: float = math.inf, keep: float = 1.0) -> Tensor:
    """Return P, float64 (..., B, K), that maximises <P, S> + epsilon H(P) - rho KL(c | r), with c = r where rho is inf.

    Where scores are far apart for epsilon, a larger one is solved first.

    Args:
        scores: (..., B, K), B and K at least 1.
        epsilon: above 0.
        rho: above 0.
        keep: share of the entries of P that Newton's matrix has, in [0, 1].
    """
    flat, scales = _flat(scores), [epsilon]
    flat = flat - flat.mean(dim=-1, keepdim=True)
    far = float((flat - flat.mean(dim=-2, keepdim=True)).abs().max())
    while math.isfinite(far) and far > _FAR * scales[-1]:
        scales.append(2 * scales[-1])
    part, potentials = flat.shape[-2] / flat.shape[-1], torch.zeros_like(flat[:, 0])
    for scale in reversed(scales):
        scaled, u = flat / scale, potentials / scale
        for _ in range(_ROUNDS):
            logs = (scaled + u[:, None]).logsumexp(dim=-1, keepdim=True)
            u = (math.log(part) - (scaled - logs).logsumexp(dim=-2)) / (1 + scale / rho)
        point = partial(_entropic_point, scaled, pull=scale / rho, keep=keep)
        potentials = scale * _newton(point, u)
    return point(potentials / epsilon).plan.view(scores.shape)


def sparse_plan(scores: Tensor, *, gamma: float, k: int) -> Tensor:
    """Return P, float64 (..., B, K), that maximises <P, S> - gamma / 2 |P|^2 with at most k entries a row and, as
    nearly as such rows allow, c = r.

    Args:
        scores: (..., B, K), B and K at least 1.
        gamma: above 0.
        k: at least 1.
    """
    scaled = _flat(scores) / gamma
    classes = scaled.shape[-1]
    u = _newton(partial(_sparse_point, scaled, k=classes), torch.zeros_like(scaled[:, 0]))
    plan = _sparse_point(scaled, u, k=classes).plan
    if ((plan > 0).sum(dim=-1) > k).any():
        u = torch.stack([_at_corners(one, start, k) for one, start in zip(scaled, u, strict=True)])
        plan = _sparse_point(scaled, u, k=k).plan
    return plan.view(scores.shape)


def _flat(scores: Tensor) -> Tensor:
    return scores.double().flatten(end_dim=-3) if scores.ndim > 2 else scores.double()[None]


def _entropic_point(scaled: Tensor, u: Tensor, *, pull: float, keep: float) -> _Point:
    """Return the dual  sum_i logsumexp(S_i / epsilon + u) + r sum_k (exp(-pull u_k) - 1) / pull;  the last term is -r
    sum_k u_k where pull, epsilon / rho, is 0.
    """
    items, classes = scaled.shape[-2:]
    part = items / classes
    logits = scaled + u[:, None]
    logs = logits.logsumexp(dim=-1, keepdim=True)
    plan = (logits - logs).exp()
    met, wanted = plan.sum(dim=-2), part * (-pull * u).exp()
    pulled = part * (torch.expm1(-pull * u) / pull if pull else -u).sum(dim=-1)

    def hessian() -> Tensor:
        large, kept = plan, max(1, round(keep * items * classes))
        if kept < items * classes:
            least = plan.flatten(start_dim=-2).topk(kept).values[:, -1]
            large = plan.where(plan >= least[:, None, None], 0)
        return torch.diag_embed(met + pull * wanted) - large.mT @ large

    return _Point(plan, logs.sum(dim=(-2, -1)) + pulled, met - wanted, hessian)


def _newton(point: Callable[[Tensor], _Point], u: Tensor) -> Tensor:
    """Return potentials (N, K) at which the gradient is 0, from `u` on; a step is halved until the dual falls."""
    at = point(u)
    for _ in range(_STEPS):
        if (at.gradient.abs().sum(dim=-1) <= _MET * at.plan.shape[-2]).all():
            break
        hessian = at.hessian()
        # A shift of all potentials may change nothing: the ridge keeps the matrix from being singular.
        ridge = 1e-10 * hessian.diagonal(dim1=-2, dim2=-1).mean(dim=-1, keepdim=True).expand_as(u)
        step = -torch.linalg.solve_ex(hessian + torch.diag_embed(ridge), at.gradient).result
        slope, length = (step * at.gradient).sum(dim=-1), torch.ones_like(at.value)
        for _ in range(_HALVINGS):
            there = point(u + length[:, None] * step)
            falls = there.value <= at.value + 1e-4 * length * slope + 1e-14 * at.value.abs()
            if falls.all():
                break
            length = torch.where(falls, length, length / 2)
        u = torch.where(falls[:, None], u + length[:, None] * step, u)
        if not falls.any():
            break
        at = there if falls.all() else point(u)
    return u


def _sparse_point(scaled: Tensor, u: Tensor, *, k: int) -> _Point:
    """Return the dual of `sparse`: every row the projection of its k largest S_i / gamma + u onto the simplex."""
    logits = scaled + u[:, None]
    part = scaled.shape[-2] / scaled.shape[-1]
    values, places = logits.topk(k, dim=-1)
    totals = values.cumsum(dim=-1) - 1
    numbers = torch.arange(1, k + 1, dtype=values.dtype, device=values.device)
    last = (values * numbers > totals).sum(dim=-1, keepdim=True).clamp_min(1) - 1  # none of NaN
    rows = (values - totals.gather(-1, last) / (last + 1)).clamp_min(0)
    plan = torch.zeros_like(logits).scatter(-1, places, rows)
    won = (logits * plan).sum(dim=-1) - plan.square().sum(dim=-1) / 2

    def hessian() -> Tensor:
        there = (plan > 0).to(plan.dtype)
        shared = there / there.sum(dim=-1, keepdim=True).sqrt()
        return torch.diag_embed(there.sum(dim=-2) + 1e-3) - shared.mT @ shared

    return _Point(plan, won.sum(dim=-1) - part * u.sum(dim=-1), plan.sum(dim=-2) - part, hessian)


def _at_corners(scaled: Tensor, u: Tensor, k: int) -> Tensor:
    """Return potentials (K,) of one problem (B, K) at which the dual of `sparse` with at most k is lowest, nearly."""
    from scipy.optimize import minimize

    def dual(potentials: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        at = _sparse_point(scaled[None], torch.from_numpy(potentials).to(u)[None], k=k)
        return float(at.value), at.gradient[0].cpu().numpy()

    found = minimize(dual, u.cpu().numpy(), jac=True, method="L-BFGS-B", options={"maxfun": _EVALUATIONS})
    return torch.from_numpy(found.x).to(u)
