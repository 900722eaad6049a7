"""Hyperparameters that are tuned on the validation split while the network trains (MacKay, Vicol, Lorraine, Duvenaud
and Grosse 2019, Self-Tuning Networks, arXiv 1903.03088; released code at 3c42049).

Every layer answers to hyperparameters (`best_response`). After a warm-up, two training steps, at perturbed
hyperparameters with which every row is treated, take turns with a step of Adam of the hyperparameters alone: the
cross-entropy of validation items, without dropout and noise, minus a little of the perturbation's entropy; its gradient
flows through the gates only. Followed is the released code, with a scale in every layer, and without what it never
calls: a stepped learning rate. Its entropy term in the training step, which does nothing, is left out. Tuned are the
dropout of the inputs of every layer but the first, the noise of inputs and label smoothing. Validation labels are as
right as the protocol has them. Validation steps are not counted as passes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

import torch
from pydantic import AfterValidator
from torch import Tensor, nn
from torch.nn import functional

from harness.contracts import param
from harness.errors import Unsuitable, UserError, unknown
from strategies.components.best_response import Range, Tuned, answering, entropy, perturbed
from strategies.components.contract import Component, Need, Task
from strategies.components.held import Held
from strategies.components.modules import layers_of
from strategies.toolkit.augmentations import generator_of
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.training.eval_mode import eval_mode
from strategies.toolkit.training.loop import Batch

_RANGES = {
    "dropout": Range(0.0, 0.9, 0.05),
    "noise": Range(0.0, math.inf, 0.05),
    "smoothing": Range(0.0, 0.9, 0.05),
}
_NONE = "none"


def _known(text: str) -> str:
    names, valid = text.split("+"), [*_RANGES, _NONE]
    for name in names:
        if name not in valid:
            raise unknown("hyperparameter to tune", name, valid, ", ".join(valid))
    if len({*names}) < len(names) or (_NONE in names and len(names) > 1):
        raise UserError(f"tunes should name each hyperparameter once, or {_NONE}, got {text!r}")
    return text


class SelfTuning(Component):
    """Tune dropout, input noise and label smoothing on the validation split while training."""

    tunes: Annotated[str, AfterValidator(_known)] = param(
        "dropout", f"what is tuned: {', '.join(_RANGES)}, several joined by +; {_NONE} for the plain network"
    )
    hyper_lr: float = param(
        0.03,
        "rate of the hyperparameters (published 0.003, for longer training); 0 leaves them",
        ge=0,
        ablate=[0.0],
    )
    tune_spread: bool = param(True, "whether the size of the perturbation is tuned too", ablate=[False])
    entropy_weight: float = param(
        1e-5, "weight of the perturbation's entropy (published too: 1e-3)", ge=0, ablate=[1e-3]
    )
    warmup: int = param(5, "passes before hyperparameters are tuned", ge=0, unit="epochs")
    every: int = param(2, "training steps between two of the hyperparameters", ge=1, ablate=[1, 4])

    needs: ClassVar[frozenset[Need]] = frozenset({"validation", "targets"})
    neutral: ClassVar[Mapping[str, Any]] = MappingProxyType({"tunes": _NONE})

    def network(self, network: Classifier, part: nn.Module) -> None:
        """Let every layer answer to the hyperparameters, which a backbone keeps.

        Raises:
            Unsuitable: dropout alone is tuned, and there is no hidden layer.
        """
        if self.tunes == _NONE:
            return
        layers = [network.head] if part is network.head and network.head is not None else layers_of(part)
        named = self.tunes.split("+")
        if part is not network.head:
            names = [name for name in named for _ in range(len(layers) if name == "dropout" else 1)]
            if not names:
                raise Unsuitable(f"has no hidden layer, whose dropout component {self.name} tunes")
            self.names = names
            part.add_module("tuned", Tuned([_RANGES[name] for name in names]))
        tuned = _tuned_of(network)
        drops = [place for place, name in enumerate(self.names) if name == "dropout"]
        places: list[int | None] = [None] * len(layers)
        if drops and part is network.head:
            places = [drops[-1]]
        elif drops:
            places[1:] = drops[:-1]
        for layer, place in zip(layers, places, strict=True):
            answering(layer, tuned, place)

    def begin(self, task: Task) -> int:
        """Take the validation items; no pass over the stage's."""
        self.held, self.last = Held.of(task.stage, self.context), -1
        self.draws = generator_of(self.context, f"{self.stream_name}-draws")
        self.drawn_from = self.draws.get_state()
        return 0

    def change(self, network: Classifier, batch: Batch) -> Batch:
        """Return the batch with the noise and the smoothed targets of its rows; every few steps the hyperparameters
        take theirs first.
        """
        if self.tunes == _NONE:
            return batch
        tuned = _tuned_of(network)
        if batch.step == self.last:  # asked again for a step, it draws the same
            self.draws.set_state(self.drawn_from)
        else:
            self.last = batch.step
            due = batch.epoch >= self.warmup and batch.step % self.every == 0 and batch.step > 0
            if self.hyper_lr and due:
                self._validate(network, tuned, len(batch.labels))
            self.drawn_from = self.draws.get_state()
        tuned.draws = self.draws
        noise = torch.randn(len(batch.labels), len(tuned.h), generator=self.draws, device=tuned.h.device)
        tuned.rows = perturbed(tuned.h, tuned.spread, noise)
        for place, name in enumerate(self.names):
            if name == "noise":
                size = tuned.values(place).view(-1, *[1] * (batch.inputs.ndim - 1))
                drawn = torch.randn(batch.inputs.shape, generator=self.draws, device=size.device)
                batch = batch._replace(inputs=batch.inputs + size * drawn)
            elif name == "smoothing":
                batch = batch._replace(targets=_smoothed(network, batch, tuned.values(place)))
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: what is tuned is kept with the network."""
        return {}

    def _validate(self, network: Classifier, tuned: Tuned, size: int) -> None:
        """Let the hyperparameters take a step on `size` validation items."""
        inputs, labels = self.held.some(self.draws, size)
        h, spread = (values.clone().requires_grad_() for values in (tuned.h, tuned.spread))
        noise = torch.randn(len(labels), len(h), generator=self.draws, device=h.device)
        with eval_mode(network), torch.enable_grad():
            tuned.train()
            tuned.rows, tuned.draws = perturbed(h, spread, noise) if self.tune_spread else h[None], None
            loss = functional.cross_entropy(network(inputs).float(), labels) - self.entropy_weight * entropy(
                spread
            )
            found = torch.autograd.grad(loss, [h, spread])
        moved = found[1] if self.tune_spread else torch.zeros_like(spread)
        tuned.move(torch.stack([found[0], moved]), self.hyper_lr)


def _smoothed(network: Classifier, batch: Batch, share: Tensor) -> Tensor:
    """Return (1 - share) targets + share / C, (B, C)."""
    assert network.head is not None
    classes = network.head.out_features
    targets = functional.one_hot(batch.labels, classes).float() if batch.targets is None else batch.targets
    return (1 - share[:, None]) * targets + share[:, None] / classes


def _tuned_of(network: Classifier) -> Tuned:
    tuned = network.backbone.get_submodule("tuned")
    assert isinstance(tuned, Tuned)
    return tuned
