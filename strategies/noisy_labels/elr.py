"""ELR and ELR+: keep the pull of what was learned early, before wrong labels were memorised (Liu et al. 2020,
"Early-Learning Regularization Prevents Memorization of Noisy Labels"; released code at 934af53).

Followed is the released code. Differences: targets and averages are kept per item of the stream, so stages
may follow one another; both networks of ELR+ are given the same labels (the code draws noise twice, for each
network anew) and step in turn within a batch instead of within an epoch; averages start as copies of their
networks (there: from weights of their own, which an early low decay removes). Lengths of ramps are shares of
the stage, not steps of a run of 40,000.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

import torch
from torch import Tensor

from harness.contracts import IntArray, Preset, Stage, param
from strategies.noisy_labels.base import LabelLearner, Networks
from strategies.noisy_labels.state_list import Together
from strategies.toolkit.augmentations import augmenting
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.label_memory import noise_score
from strategies.toolkit.losses.early_learning import (
    Regulariser,
    Start,
    Targets,
    agreement,
    clamped,
    early_learning_loss,
    mixed_labels,
    ramp,
)
from strategies.toolkit.losses.robust import Named, loss_of, soft_cross_entropy
from strategies.toolkit.training.loop import Batch
from strategies.toolkit.training.tensors import Items


class ELR(LabelLearner):
    """Cross-entropy, and a reward for agreeing with a running average of one's own predictions."""

    offers: ClassVar[frozenset[str]] = LabelLearner.offers

    weight: float = param(
        3.0,
        "lambda, of the regulariser (published: CIFAR-10 3, asymmetric 1, CIFAR-100 7)",
        ge=0,
        ablate=[0.0, 1.0, 7.0],
    )
    beta: float = param(
        0.7,
        "how slowly targets move (published 0.7, asymmetric and CIFAR-100 0.9)",
        ge=0,
        lt=1,
        ablate=[0.0, 0.9],
    )
    regulariser: Regulariser = param(
        "log", "log(1 - <t, p>), Kullback-Leibler divergence or squared distance", ablate=["kl", "squared"]
    )
    clamp: float = param(1e-4, "probabilities are kept this far from 0 and 1", gt=0, lt=0.1)
    target_init: Start = param("zero", "targets at the start", ablate=["uniform"])
    update_first: bool = param(True, "whether targets move before the loss is taken", ablate=[False])
    loss: Named = param("cross-entropy", "what is regularised: any loss of an item by name", ablate=["gce"])

    presets: ClassVar[Mapping[str, Preset]] = MappingProxyType(
        {
            "cifar10": Preset(
                values={"weight": 3.0, "beta": 0.7, "lr": 0.02, "weight_decay": 1e-3},
                source="released config_cifar10.json",
            ),
            "cifar10-asymmetric": Preset(
                values={"weight": 1.0, "beta": 0.9, "lr": 0.02, "weight_decay": 1e-3},
                source="released config_cifar10_asym.json",
            ),
            "cifar100": Preset(
                values={"weight": 7.0, "beta": 0.9, "lr": 0.02, "weight_decay": 1e-3},
                source="released config_cifar100.json",
            ),
        }
    )

    def setup(self) -> None:
        """Make the network and an empty table of targets."""
        super().setup()
        self.targets = Targets(self.beta, self.target_init)

    def fit(self, stage: Stage, items: Items, first: int) -> None:
        """Train with the regulariser."""
        model, item_loss = self.models[0], loss_of(self.loss)
        self.targets.make_room(len(self.handed), stage.named_classes, self.context.device)
        plain = self.loss == "cross-entropy" and self.regulariser == "log"

        def loss(batch: Batch) -> Tensor:
            logits = model(batch.inputs).float()
            rows = batch.rows + first if first else batch.rows
            p = logits.detach().softmax(dim=1)
            inside = clamped(p, self.clamp)
            near = inside / inside.sum(dim=1, keepdim=True)
            targets = self.targets.update(rows, near) if self.update_first else self.targets.table[rows]
            if plain:
                value = early_learning_loss(logits, batch.labels, p, inside, targets, self.weight)
            else:
                own = clamped(logits.softmax(dim=1), self.clamp)
                value = (
                    item_loss(logits, batch.labels).mean()
                    + self.weight * agreement(own, targets, self.regulariser).mean()
                )
            if not self.update_first:
                self.targets.update(rows, near)
            return value

        self.minimise(items, loss)

    def judge_labels(self, logits: Tensor, labels: Tensor, rows: IntArray) -> tuple[Tensor, Tensor]:
        """Judge labels by the targets: one is flagged where another class has the largest target (README of
        the code).
        """
        noise_scores = noise_score(self.targets.table[rows].cpu(), labels)
        return noise_scores, noise_scores <= 0.5


class ELRPlus(LabelLearner):
    """Two networks, their weight averages and mixup: targets of each network come from the average of the
    other.
    """

    offers: ClassVar[frozenset[str]] = frozenset({"network", "rates", "step"})

    weight: float = param(
        3.0,
        "lambda, of the regulariser (published: CIFAR-10 3, asymmetric 1, CIFAR-100 7)",
        ge=0,
        ablate=[0.0],
    )
    beta: float = param(
        0.7, "how slowly targets move (published 0.7, asymmetric and CIFAR-100 0.9)", ge=0, lt=1
    )
    clamp: float = param(1e-4, "probabilities are kept this far from 0 and 1", gt=0, lt=0.1)
    target_init: Start = param("zero", "targets at the start", ablate=["uniform"])
    regulariser: Regulariser = param(
        "log", "log(1 - <t, p>), Kullback-Leibler divergence or squared distance", ablate=["kl", "squared"]
    )
    networks: int = param(2, "two, or one that is its own peer", ge=1, le=2, ablate=[1])
    target_source: Literal["average-of-peer", "peer", "average-of-self", "self"] = param(
        "average-of-peer", "whose predictions become targets", ablate=["peer", "average-of-self", "self"]
    )
    average_decay: float = param(
        0.99, "of the weight average (published 0.997 over far more steps)", ge=0, lt=1, ablate=[0.9, 0.997]
    )
    average_ramp: float = param(
        0.0, "share of the stage over which the decay rises; 0 for min(1 - 1/(step + 1), decay)", ge=0, le=1
    )
    mixup: float = param(1.0, "of Beta(mixup, mixup); 0 mixes nothing", ge=0, ablate=[0.0])
    weight_ramp: float = param(
        0.0,
        "share of the stage over which the weight rises (published 40,000 steps for CIFAR-100)",
        ge=0,
        le=1,
        ablate=[0.2],
    )
    reweighting: Literal["off", "on", "auto"] = param(
        "auto",
        "multiply labels by targets; auto does so with 100 classes, as the code does",
        ablate=["on", "off"],
    )
    evaluate: Literal["networks", "averages", "first"] = param(
        "networks",
        "who answers: both networks, both averages, or the first alone",
        ablate=["averages", "first"],
    )

    def setup(self) -> None:
        """Make the networks, their averages and a table of targets each."""
        super().setup()
        self.averages = self.new_networks()
        self.targets = Together(Targets(self.beta, self.target_init) for _ in self.models)

    def new_networks(self) -> Networks:
        """Return one or two networks with weights of their own."""
        return Networks(self.network(place) for place in range(self.networks))

    def fit(self, stage: Stage, items: Items, first: int) -> None:
        """Train both networks, on batches of their own order."""
        for targets in self.targets:
            targets.make_room(len(self.handed), stage.named_classes, self.context.device)
        for average, model in zip(self.averages, self.models, strict=True):
            average.load_state_dict(model.state_dict())
        rng, orders, augment = (
            self.context.stream("mixup"),
            self.context.stream("peer-batches"),
            augmenting(self.context, "peer-views"),
        )
        reweighted = self.reweighting == "on" or (self.reweighting == "auto" and stage.named_classes == 100)
        device = items.labels.device
        elsewhere = [torch.arange(len(items), device=device)] * len(self.models)
        behind, steps = 0, 1

        def shuffle(_: int) -> None:
            elsewhere[1:] = [
                torch.from_numpy(orders.permutation(len(items))).to(device) for _ in self.models[1:]
            ]

        def loss_of_one(place: int, batch: Batch) -> Tensor:
            rows = elsewhere[place][batch.rows]
            inputs, labels = augment(items.inputs[rows]) if place else batch.inputs, items.labels[rows]
            with torch.no_grad():
                targets = self.targets[place].update(
                    rows + first, self._teacher(place)(inputs).float().softmax(dim=1)
                )
            weight = float(rng.beta(self.mixup, self.mixup)) if self.mixup else 1.0
            weight = max(weight, 1 - weight)
            other = torch.from_numpy(rng.permutation(len(rows))).to(device)
            wanted = mixed_labels(labels, other, weight, stage.named_classes)
            targets = weight * targets + (1 - weight) * targets[other]
            if reweighted:
                wanted = wanted * targets
                wanted = wanted / wanted.sum(dim=1, keepdim=True).clamp_min(1e-12)
            logits = self.models[place](weight * inputs + (1 - weight) * inputs[other]).float()
            near = clamped(logits.softmax(dim=1), self.clamp)
            pull = (
                self.weight
                * ramp((batch.step + 1) / batch.steps, self.weight_ramp)
                * agreement(near, targets, self.regulariser).mean()
            )
            return soft_cross_entropy(logits, wanted).mean() + pull

        def loss(batch: Batch) -> Tensor:
            nonlocal behind, steps
            if batch.step:  # the averages follow the step before
                self._average(batch.step, batch.steps)
            behind, steps = batch.step + 1, batch.steps
            return torch.stack([loss_of_one(place, batch) for place in range(len(self.models))]).sum()

        self.minimise(items, loss, at_epoch=shuffle)
        self._average(behind, steps)

    def logits(self, inputs: Tensor) -> Tensor:
        """Return the outputs of those who answer."""
        if self.evaluate == "averages":
            return torch.stack([average.evaluated(inputs) for average in self.averages])
        return super().logits(inputs)[: 1 if self.evaluate == "first" else None]

    def judge_labels(self, logits: Tensor, labels: Tensor, rows: IntArray) -> tuple[Tensor, Tensor]:
        """Judge labels by the mean of the tables."""
        noise_scores = noise_score(
            torch.stack([targets.table[rows] for targets in self.targets]).mean(dim=0).cpu(), labels
        )
        return noise_scores, noise_scores <= 0.5

    def _teacher(self, place: int) -> Classifier:
        """Return whose predictions become the targets of a network; the average runs in training mode, as in
        the code.
        """
        peer = len(self.models) - 1 - place if "peer" in self.target_source else place
        return self.averages[peer] if self.target_source.startswith("average") else self.models[peer]

    @torch.no_grad()
    def _average(self, step: int, steps: int) -> None:
        """Move the averages of the weights, not of buffers, towards the networks, after `step` of `steps`."""
        rising = ramp((step + 1) / steps, self.average_ramp) * self.average_decay
        decay = rising if self.average_ramp else min(1 - 1 / (step + 1), self.average_decay)
        for average, model in zip(self.averages, self.models, strict=True):
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
