"""StableAdamW with AMSGrad, and the schedule that INP-Former trains it by (released code 17d2653, from
Dinomaly).

AdamW whose step is made smaller for a tensor that its second moment lags behind (Wortsman et al. 2023, arXiv
2304.13013): with gradient g, first moment m and denominator d = sqrt(largest second moment so far / (1 -
beta2^t)) + eps,

    w <- (1 - lr * decay) w - lr / max(1, RMS(g / d)) * m / ((1 - beta1^t) d)

The root mean square is taken over each tensor by itself. Follows the code: Wortsman et al. use the plain
second moment in the ratio.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from strategies.toolkit.training.loop import Schedule


class StableAdamW(torch.optim.Optimizer):
    """One step costs ten passes over lists of tensors; without clipping it is
    `torch.optim.AdamW(amsgrad=True)`.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-10,
        weight_decay: float = 1e-4,
        clip: bool = True,
    ) -> None:
        """Take the settings; `clip` says whether steps are made smaller. Weight decay is decoupled and
        applies to every tensor.
        """
        super().__init__(
            parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "clip": clip}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Step every weight that has a gradient.

        Raises:
            NotImplementedError: a closure; the loss is never computed again here.
        """
        if closure is not None:
            raise NotImplementedError("StableAdamW takes no closure")
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self._step(group, weights)

    def _step(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        states = [self.state[weight] or self._started(weight) for weight in weights]
        for state in states:
            state["step"] += 1
        (beta1, beta2), rate = group["betas"], group["lr"]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        first, second, largest = (
            [state[name] for state in states] for name in ("first", "second", "largest")
        )
        torch._foreach_mul_(weights, 1 - rate * group["weight_decay"])
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        torch._foreach_maximum_(largest, second)
        denominators = torch._foreach_sqrt(largest)
        torch._foreach_div_(denominators, [math.sqrt(1 - beta2 ** state["step"]) for state in states])
        torch._foreach_add_(denominators, group["eps"])
        steps = [rate / (1 - beta1 ** state["step"]) for state in states]
        if group["clip"]:
            norms = torch.stack(torch._foreach_norm(torch._foreach_div(gradients, denominators))).tolist()
            steps = [
                step / max(1.0, norm / math.sqrt(weight.numel()))
                for step, norm, weight in zip(steps, norms, weights, strict=True)
            ]
        torch._foreach_addcdiv_(weights, first, denominators, [-step for step in steps])

    def _started(self, weight: Tensor) -> dict[str, Any]:
        state: dict[str, Any] = {
            "step": 0,
            **{name: torch.zeros_like(weight) for name in ("first", "second", "largest")},
        }
        self.state[weight] = state
        return state


def warmed_cosine(*, steps: int, warmup: int, floor: float) -> Schedule:
    """Return a rate that rises from 0 in a straight line over `warmup` steps, then falls to `floor` along
    half a cosine.

    As in the code, the first step has rate 0 and the last of the warm-up the full one. A warm-up of more than
    half of the steps is cut to half, or a short run would end before it has begun (the code stops with an
    error there).

    Args:
        steps: of the whole run.
        warmup: of these, those that warm up.
        floor: factor on the rate that the cosine ends at, not reached within the run.
    """
    warming = min(warmup, steps // 2)

    def factor(done: float) -> float:
        step = round(done * steps)
        if step < warming:
            return step / max(warming - 1, 1)
        share = (step - warming) / (steps - warming)
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share))

    return factor


def steps_of(items: int, *, epochs: int, gradient_steps: int, batch_size: int) -> int:
    """Return how many steps `training.train` takes over so many items: the protocol's steps, or its epochs
    times the batches of one.
    """
    whole, rest = divmod(items, batch_size)
    return gradient_steps or epochs * (whole + (rest > 1) or 1)
