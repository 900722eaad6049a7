"""The training loop: one gradient step a batch, and nothing in between that costs time. What lies on disk is
read ahead.

The order of the batches comes from the stream `batches`, so all strategies see the same order under the same
seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import closing, nullcontext
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from harness.contracts import Context
from harness.errors import Diverged
from strategies.toolkit.training.prefetch import in_turn
from strategies.toolkit.training.tensors import Items

Schedule = Callable[[float], float]
"""From the share of training done, in [0, 1), to the factor on the learning rate."""


class Batch(NamedTuple):
    """inputs (B, ...), labels (B,), rows (B,): positions within the stage, by which a method keeps per-item
    memory.

    step: gradient steps that are behind, of `steps`.  epoch: passes that are behind, of `epochs`.
    targets: (B, C) distributions that take the labels' place, or None.  weights: (B,) of the items, or None.
    """

    inputs: Tensor
    labels: Tensor
    rows: Tensor
    step: int = 0
    steps: int = 1
    epoch: int = 0
    epochs: int = 1
    targets: Tensor | None = None
    weights: Tensor | None = None

    @property
    def done(self) -> float:
        """Return the share of the steps that are behind, in [0, 1)."""
        return self.step / self.steps


Loss = Callable[[Batch], Tensor]
BeforeStep = Callable[[Batch], Callable[[], None] | None]
Augment = Callable[[Tensor], Tensor]
RateChanges = Literal["step", "epoch"]
"""When the learning rate follows its schedule: at every step, or between passes alone, as most released code
has it.
"""


def constant(_: float) -> float:
    """Keep the learning rate."""
    return 1.0


def cosine(done: float) -> float:
    """Let the learning rate fall to zero along half a cosine (Loshchilov and Hutter 2017)."""
    return 0.5 * (1 + math.cos(math.pi * done))


def cosine_to(floor: float) -> Schedule:
    """Return half a cosine from one down to `floor` (a thousandth in GCD, SimGCD and Happy, which step once
    an epoch).
    """
    return lambda done: floor + (1 - floor) * cosine(done)


def stepped(*drops: tuple[float, float]) -> Schedule:
    """Return a rate that is multiplied at each share of training by a factor: `(0.75, 0.1)` leaves a tenth
    for the last quarter.
    """
    return lambda done: math.prod(factor for start, factor in drops if done >= start)


def warmed(first: float, last: float, done: float, warmup: float) -> float:
    """Return a value that goes in a straight line from `first` to `last` over the share `warmup` of a stage
    and stays there.
    """
    share = min(done / warmup, 1.0) if warmup else 1.0
    return first + share * (last - first)


def warmed_at(first: float, last: float, batch: Batch, warmup: float, changes: RateChanges) -> float:
    """Return the value at a batch: as `warmed` by step; or by epoch, as released code has it (SimGCD, Happy).

    There the epochs of the warm-up, `warmup` of all to the nearest whole number, have equally spaced values,
    both ends included (numpy's linspace), and those behind them `last`.
    """
    if changes == "step":
        return warmed(first, last, batch.done, warmup)
    epochs = round(warmup * batch.epochs)
    return (
        warmed(first, last, batch.epoch, epochs - 1)
        if epochs > 1
        else last
        if batch.epoch >= epochs
        else first
    )


def sgd(
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """Return stochastic gradient descent in torch's fused form, one kernel a step."""
    return torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=True)


def train(
    model: nn.Module,
    items: Items,
    loss: Loss,
    optimiser: torch.optim.Optimizer,
    context: Context,
    *,
    augment: Augment | None = None,
    epochs: int | None = None,
    schedule: Schedule = constant,
    rate_changes: RateChanges = "step",
    clip_norm: float | None = None,
    before_step: BeforeStep | None = None,
    first_epoch: int = 0,
    at_epoch: Callable[[int], None] | None = None,
    arrange: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Take the protocol's number of passes over `items`, one step a batch; or, where it counts them, its
    number of gradient steps.

    Args:
        model: what `clip_norm` looks at; put into training mode.
        items: the stage as tensors.
        loss: scalar loss of a batch.
        optimiser: steps the parameters.
        context: device, precision, streams, epochs and batch size.
        augment: the augmentation of the inputs of a batch (`augmentations.augmenting`), or None for as they are.
        epochs: passes, where the method wants another number than the protocol.
        schedule: factor on the learning rate over time.
        rate_changes: when it is looked up.
        clip_norm: largest norm of the whole gradient, or None.
        before_step: called with the batch, augmented, between the backward pass and the step, or None. It may
            change gradients, which are in their true scale, or weights and give gradients anew; what it returns is
            called behind the step.
        first_epoch: passes over the stage that are behind already.
        at_epoch: called with the number of finished passes before each one, or None.
        arrange: from the rows of a pass (N,), in the order drawn, to that in which they are shown, or None.

    Raises:
        Diverged: the mean loss of an epoch is not a number or infinite.
    """
    sizes = batch_sizes(len(items), context.batch_size)
    passes = context.epochs if epochs is None else epochs
    total = context.gradient_steps if epochs is None and context.gradient_steps else passes * len(sizes)
    passes = math.ceil(total / len(sizes))
    rng = context.stream("batches")
    scaler = torch.amp.GradScaler(context.device, enabled=context.precision == "float16")
    # fused SGD keeps a momentum of whatever lay there where its first steps overflow; the scaler itself skips
    # them
    if scaler.is_enabled():
        optimiser._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    dtype = getattr(torch, context.precision)
    cast = nullcontext() if dtype == torch.float32 else torch.autocast(context.device, dtype)
    base_rates = [group["lr"] for group in optimiser.param_groups]
    model.train()
    step = 0
    if not first_epoch:
        context.probe(0)
    for epoch in range(passes):
        if at_epoch:
            at_epoch(first_epoch + epoch)
        order = torch.from_numpy(rng.permutation(len(items))).to(items.labels.device)
        if arrange is not None:
            order = arrange(order)
        losses: list[Tensor] = []
        batches = torch.split(order, sizes)[: total - step]
        with closing(in_turn(items.inputs, batches)) as read:
            for rows, inputs in zip(batches, read, strict=True):
                if schedule is not constant:
                    since = step if rate_changes == "step" else epoch * len(sizes)
                    for group, rate in zip(optimiser.param_groups, base_rates, strict=True):
                        group["lr"] = rate * schedule(since / total)
                optimiser.zero_grad()
                augmented = augment(inputs) if augment else inputs
                with cast:
                    batch = Batch(augmented, items.labels[rows], rows, step, total, epoch, passes)
                    value = loss(batch)
                scaler.scale(value).backward()  # type: ignore[no-untyped-call]
                if before_step is not None or clip_norm is not None:
                    scaler.unscale_(optimiser)
                after_step = None if before_step is None else before_step(batch)
                if clip_norm is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
                scaler.step(optimiser)
                scaler.update()
                if after_step is not None:
                    after_step()
                losses.append(value.detach())
                step += 1
                context.progress(step, total)
                context.probe(step)
        mean_loss = float(torch.stack(losses).mean())
        if not math.isfinite(mean_loss):
            raise Diverged(f"loss is {mean_loss} in epoch {epoch + 1} of {passes}")
        context.progress(step, total, loss=mean_loss)
        context.epoch_ended(first_epoch + epoch + 1)


def batch_sizes(items: int, batch_size: int) -> list[int]:
    """Return the size of every batch; a last batch of one joins its neighbour, since batch norm cannot use
    it.
    """
    whole, rest = divmod(items, batch_size)
    sizes = [batch_size] * whole
    if rest == 1 and sizes:
        sizes[-1] += 1
    elif rest:
        sizes.append(rest)
    return sizes
