"""The training loop over K stacked networks: each has rows, labels, streams, probes and rates of its own, and
one computation steps all.

Full batch is the rule here, and then nothing is drawn; mini-batches follow every network's own stream
`batches` and leave an incomplete last batch of a pass out, as the released runs do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.contracts import Context
from harness.errors import Diverged
from strategies.grokking.dropout import Dropout
from strategies.grokking.networks import Network, Objective, Weights
from strategies.grokking.optimisers import Optimiser
from strategies.grokking.transforms import Transform, inner, transformed


class LastStep(NamedTuple):
    """Of the last gradient step: cosine of the update with minus the weights before it, share of gradient
    entries that were exactly 0.
    """

    update_along_weights: float = math.nan
    zero_gradient_share: float = math.nan


class Ensemble:
    """K networks in training. `weights` is changed in place."""

    def __init__(
        self,
        network: Network,
        weights: Weights,
        optimiser: Optimiser,
        *,
        objective: Objective,
        transforms: Sequence[Transform] = (),
        dropout: Dropout | None = None,
    ) -> None:
        """Take the parts; `optimiser` is one over `network.trained(weights)`."""
        self.network, self.weights, self.optimiser = network, weights, optimiser
        self.objective, self.transforms, self.dropout = objective, transforms, dropout
        self.trained = network.trained(weights)
        self.before = {name: values.clone() for name, values in self.trained.items()}
        self._copied = list(self.before.values()), list(self.trained.values())
        self.gradients: Weights = {}

    def step(self, batch: Any) -> Tensor:
        """Take one gradient step on a batch of the network's; return the mean losses before it, (K,)."""
        torch._foreach_copy_(*self._copied)
        losses, self.gradients = self.network.slope(self.weights, batch, self.objective, self.dropout)
        self.optimiser.step(self.trained, transformed(self.transforms, self.trained, self.gradients))
        return losses

    def last_step(self, index: int) -> LastStep:
        """Look back at the last step of the network at `index`."""
        if not self.gradients:
            return LastStep()
        updates = [
            (self.trained[name][index : index + 1] - old[index : index + 1], old[index : index + 1])
            for name, old in self.before.items()
        ]
        along = -sum(float(inner(update, old)) for update, old in updates)
        lengths = [
            math.sqrt(sum(float(inner(part, part)) for part in parts)) for parts in zip(*updates, strict=True)
        ]
        own = [gradient[index] for gradient in self.gradients.values()]
        zeros = sum(int((gradient == 0).sum()) for gradient in own) / sum(
            gradient.numel() for gradient in own
        )
        return LastStep(along / math.prod(lengths) if math.prod(lengths) else math.nan, zeros)


@torch.no_grad()
def fit(ensemble: Ensemble, items: Tensor, labels: Tensor, contexts: Sequence[Context]) -> None:
    """Take the protocol's number of gradient steps, or where it does not count them, its number of passes.

    Args:
        ensemble: K networks.
        items: int64 (K, n, tokens).
        labels: int64 (K, n).
        contexts: one for each network. Budget and batch size are those of the first.

    Raises:
        Diverged: the loss of a network is not a number or infinite.
    """
    plan = contexts[0]
    size = min(plan.batch_size, labels.shape[1])
    per_pass = labels.shape[1] // size
    total = plan.gradient_steps or plan.epochs * per_pass
    batches = _batches(ensemble.network, items, labels, size, contexts)
    with flushing():
        for context in contexts:
            context.probe(0)
        for step in range(1, total + 1):
            losses = ensemble.step(next(batches))
            if not math.isfinite(losses.sum()):
                raise Diverged(f"loss is {losses[~losses.isfinite()][0].item()} in step {step} of {total}")
            for context, loss in zip(contexts, losses.tolist(), strict=True):
                context.progress(step, total, loss=loss)
                context.probe(step)
                if step % per_pass == 0:
                    context.epoch_ended(step // per_pass)


def _batches(
    network: Network, items: Tensor, labels: Tensor, size: int, contexts: Sequence[Context]
) -> Iterator[Any]:
    """Yield batches without end; of each network the rows are its own."""
    rows = labels.shape[1]
    if size == rows:
        whole = network.batch(items, labels)
        while True:
            yield whole
    streams = [context.stream("batches") for context in contexts]
    ordinal = torch.arange(len(labels), device=labels.device)[:, None]
    while True:
        orders = torch.from_numpy(np.stack([rng.permutation(rows) for rng in streams])).to(labels.device)
        for part in torch.split(orders, size, dim=1)[: rows // size]:
            yield network.batch(items[ordinal, part], labels[ordinal, part])


@contextmanager
def flushing() -> Iterator[None]:
    """Let numbers too small for the format be 0: a strong decay brings weights and moments there, where
    arithmetic is slow.
    """
    before = float(torch.full((1,), 1e-39) * 0.5) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


__all__ = ["Ensemble", "LastStep", "fit", "flushing"]
