"""Soft labels for items that have none, by the text that a strategy names: `sinkhorn[rounds=3]`, `relaxed[rho=0.1]`.

Legend: B items, K classes, S (B, K) scores, P (B, K) soft labels whose rows sum to 1, c = P'1 what each class gets, r
= B / K its even part, H the entropy of all entries. Leading dimensions are problems of their own.

    softmax     max <P, S> + epsilon H(P): every item for itself
    sinkhorn    the first rounds of scaling towards c = r (Cuturi 2013; Caron et al. 2020, SwAV; UNO's code)
    entropic    the same with c = r
    relaxed     max <P, S> + epsilon H(P) - rho KL(c | r): evenness pulls, and does not bind
    sparse      max <P, S> - gamma / 2 |P|^2 with c = r, at most k classes an item (Liu, Puigcerver and Blondel 2023)
    frequency   q_ik ~ p_ik^2 / sum_i p_ik of p = softmax(S / epsilon) (DEPICT, Dizaji et al. 2017)

`strategies/assignment/transport.py` solves the three in the middle.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial, wraps
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator
from torch import Tensor

from harness.errors import UserError, unknown
from harness.syntax import chosen, single
from strategies.assignment.transport import entropic_plan, sparse_plan
from strategies.toolkit.augmentations.base import check_range

Assignment = Callable[..., Tensor]
"""From scores (..., B, K), with keyword `epsilon`, how far they count, to soft labels of that shape."""

Frequency = Literal["squared_freq", "sqrt_freq"]


def _constant(rule: Assignment) -> Assignment:
    """Let a rule give constants, float32 unless scores are float64, and none where there is no item."""

    @wraps(rule)
    @torch.no_grad()
    def applied(scores: Tensor, **said: float) -> Tensor:
        scores = scores if scores.dtype == torch.float64 else scores.float()
        return rule(scores, **said).to(scores.dtype) if scores.numel() else scores

    return applied


def row_softmax(scores: Tensor, *, epsilon: float) -> Tensor:
    """Return softmax(S / epsilon), (..., B, K)."""
    return torch.softmax(scores / epsilon, dim=-1)


@_constant
def sinkhorn(scores: Tensor, *, epsilon: float = 0.05, rounds: int = 3) -> Tensor:
    """Return soft labels that use all classes about equally often.

    Computed with logarithms, so no score overflows. Rows sum to one; what classes get is even only as far as the rounds
    go.

    Args:
        scores: (..., B, K).
        epsilon: sharpness; larger is more even and less sure.
        rounds: each makes the classes even, then the items.
    """
    _check_count("sinkhorn", rounds=rounds)
    logs = scores / epsilon
    logs = logs - logs.logsumexp(dim=(-2, -1), keepdim=True)
    for _ in range(rounds):
        logs = logs - logs.logsumexp(dim=-2, keepdim=True)
        logs = logs - logs.logsumexp(dim=-1, keepdim=True)
    return torch.softmax(logs, dim=-1)


@_constant
def entropic(scores: Tensor, *, epsilon: float = 0.05, keep: float = 1.0) -> Tensor:
    """Return what `sinkhorn` tends to, with every class's part met.

    Args:
        scores: (..., B, K).
        epsilon: sharpness.
        keep: share of the entries of P that Newton's matrix has; below 1 / K its steps are many, and end after 50.
    """
    check_range("entropic", 0, 1, keep=keep)
    return entropic_plan(scores, epsilon=epsilon, keep=keep)


@_constant
def relaxed(scores: Tensor, *, epsilon: float = 0.05, rho: float = 0.1) -> Tensor:
    """Return soft labels whose classes are pulled towards even parts.

    Args:
        scores: (..., B, K).
        epsilon: sharpness.
        rho: strength of the pull, on the scale of the scores; inf is `entropic`, towards 0 it becomes `softmax`.
    """
    check_range("relaxed", 1e-6, math.inf, rho=rho)
    return entropic_plan(scores, epsilon=epsilon, rho=rho)


@_constant
def sparse(scores: Tensor, *, epsilon: float = 0.05, k: int = 2, gamma: float = 0.1) -> Tensor:
    """Return soft labels with at most `k` classes an item; the others are exactly 0.

    Args:
        scores: (..., B, K).
        epsilon: nothing; `gamma` has its place.
        k: at most so many, of which P has fewer by itself where gamma is small.
        gamma: weight of the squares of a row, on the scale of the scores; larger is more even and less sure.
    """
    _check_count("sparse", k=k)
    check_range("sparse", 1e-6, math.inf, gamma=gamma)
    return sparse_plan(scores, gamma=gamma, k=k)


@_constant
def frequency(scores: Tensor, *, epsilon: float = 0.05, target: str = "squared_freq") -> Tensor:
    """Return DEPICT's targets of softmax(S / epsilon), (..., B, K); `target` is the kind of `by_frequency`."""
    if target not in ("squared_freq", "sqrt_freq"):
        raise unknown("target of frequency", target, ("squared_freq", "sqrt_freq"), "squared_freq, sqrt_freq")
    return by_frequency(torch.softmax(scores / epsilon, dim=-1), target)  # type: ignore[arg-type]


def by_frequency(p: Tensor, kind: Frequency, *, prior: bool = True) -> Tensor:
    """Return targets by how often classes are answered, (..., B, K), of answers p (..., B, K).

    squared_freq: q_ik ~ p_ik^2 / sum_i p_ik (DEPICT's released code).  sqrt_freq: q_ik ~ p_ik / sqrt(sum_i p_ik) (the
    paper). Rows sum to 1. Without the prior the sums are left out.
    """
    sums = p.sum(dim=-2, keepdim=True).clamp_min(1e-12) if prior else torch.ones_like(p[..., :1, :])
    wanted = p / sums.sqrt() if kind == "sqrt_freq" else p.square() / sums
    return wanted / wanted.sum(dim=-1, keepdim=True)


RULES: dict[str, Assignment] = {
    "softmax": row_softmax,
    "sinkhorn": sinkhorn,
    "entropic": entropic,
    "relaxed": relaxed,
    "sparse": sparse,
    "frequency": frequency,
}


@cache
def assignment_of(text: str, *, rounds: int = 3) -> Assignment:
    """Return the rule that `text` selects; `rounds` are sinkhorn's where the text does not say them.

    Raises:
        UserError: no rule of that name, a parameter it does not have, or, when called, a value out of range.
    """
    rule: Assignment = chosen("assignment", text, RULES, given=("scores", "epsilon"))
    selection = single(text)
    unsaid = selection.name == "sinkhorn" and "rounds" not in selection.params
    return partial(rule, rounds=rounds) if unsaid else rule


def _known(text: str) -> str:
    assignment_of(text)(torch.zeros(1, 1), epsilon=1.0)
    return text


Named = Annotated[str, AfterValidator(_known)]
"""A parameter that names an assignment; a wrong one is refused before anything runs."""


def _check_count(name: str, **counts: int) -> None:
    for count, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"{name} needs a whole number of at least 1 for {count}, got {value!r}")
