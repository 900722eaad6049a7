"""Learning with one network and a loss that is less ready to believe a wrong label: the baselines of every
noisy-label board.

Cross-entropy is the lower bound: it finds the pattern first, then learns every wrong label by heart. The
losses are plain functions in `toolkit.robust_losses`, with their sources; here each becomes a strategy with
typed parameters.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from harness.contracts import IntArray, Stage, param
from strategies.components.chain import chain_of
from strategies.components.contract import Task
from strategies.components.losses import mean_of
from strategies.components.unheard import unheard
from strategies.noisy_labels.base import LabelLearner
from strategies.toolkit.augmentations import augmenting
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.losses import robust as losses
from strategies.toolkit.training.loop import Batch, Loss, train
from strategies.toolkit.training.tensors import Items


class LossLearner(LabelLearner):
    """Minimise the mean of a loss per item."""

    offers: ClassVar[frozenset[str]] = LabelLearner.offers | {"begin", "order", "targets", "own-step"}

    @abstractmethod
    def item_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return one loss per item (B,)."""

    def fit(self, stage: Stage, items: Items, first: int) -> None:
        """Train on the stage."""
        self.minimise(items, self.loss_with(self.models[0]))

    def loss_with(self, network: Classifier) -> Loss:
        """Return the mean loss of a batch with a network."""
        return lambda batch: mean_of(self.item_losses, network(batch.inputs), batch)

    def judge_labels(self, logits: Tensor, labels: Tensor, rows: IntArray) -> tuple[Tensor, Tensor]:
        """Return what a component makes of the labels that judges them, else what the network does."""
        chain = chain_of(self.models[0])
        judged = None if chain is None else chain.judge(torch.from_numpy(rows))
        return super().judge_labels(logits, labels, rows) if judged is None else judged

    def begin(self, stage: Stage, items: Items) -> tuple[Items, int]:
        """Let components do what comes before training."""
        network = self.models[0]
        chain = chain_of(network)
        if chain is None or not chain.with_hook("begin"):
            return items, 0

        def teacher(name: str, passes: int) -> Classifier:
            made = Classifier(self.context, init=name).grow(stage)
            train(
                made,
                items,
                self.loss_with(made),
                self.new_optimiser([made]),
                unheard(self.context),
                augment=augmenting(self.context),
                epochs=passes,
                schedule=self.rates(),
                rate_changes=self.rate_changes,
            )
            return made.requires_grad_(False)

        passes = 0 if self.context.gradient_steps else self.context.epochs
        task = Task(stage=stage, items=items, network=network, passes=passes, teacher=teacher)
        spent = chain.begin(task)
        return task.items, spent


class CrossEntropy(LossLearner):
    """Train on the labels as they are, or with any other loss by name; the lower bound under noisy labels."""

    loss: losses.Named = param(
        "cross-entropy",
        "cross-entropy, label-smoothing, bootstrapping, gce, sce, z-loss or comp-sum, with parameters in brackets",
    )

    def item_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss that was chosen."""
        return losses.loss_of(self.loss)(logits, labels)

    def loss_with(self, network: Classifier) -> Loss:
        """Return the mean loss of a batch with a network, whose name is read once."""
        own = losses.cross_entropy if self.loss == "cross-entropy" else losses.loss_of(self.loss)
        return lambda batch: mean_of(own, network(batch.inputs), batch)


class LabelSmoothing(LossLearner):
    """Cross-entropy to labels that leave every class a chance."""

    smoothing: float = param(
        0.1, "share of the target that all classes have in common", ge=0, lt=1, ablate=[0.0]
    )

    def item_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return cross-entropy to smoothed labels."""
        return losses.label_smoothing(logits, labels, smoothing=self.smoothing)


class Bootstrapping(LossLearner):
    """Cross-entropy to a mixture of the label and the network's own prediction."""

    trust: float = param(
        0.8,
        "share of the label in the target (published: soft 0.95, hard 0.8)",
        ge=0,
        le=1,
        ablate=[1.0, 0.95],
    )
    hard: bool = param(
        False,
        "whether the own prediction is the likeliest class instead of the whole distribution",
        ablate=[True],
    )
    detach: bool = param(True, "whether the own prediction is a constant to the gradient", ablate=[False])

    def item_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return cross-entropy to the mixture."""
        return losses.bootstrapping(logits, labels, trust=self.trust, hard=self.hard, detach=self.detach)


class GCE(LossLearner):
    """Between cross-entropy and absolute error; truncated, it drops items whose label has become unlikely."""

    offers: ClassVar[frozenset[str]] = LossLearner.offers

    q: float = param(0.7, "0 is cross-entropy, 1 absolute error", gt=0, le=1, ablate=[1.0])
    truncation: float = param(
        0.0, "drop items with p_y at most this (published 0.5); 0 keeps all", ge=0, lt=1, ablate=[0.5]
    )
    truncate_from: float = param(0.33, "share of the training before items are dropped", ge=0, lt=1)
    truncate_every: int = param(10, "epochs between two choices of what is dropped", ge=1, unit="epochs")

    def item_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return (1 - p_y^q) / q."""
        return losses.generalised_cross_entropy(logits, labels, q=self.q)

    def fit(self, stage: Stage, items: Items, first: int) -> None:
        """Train; when truncated, the network of the moment says now and then which items count (the code
        takes the best one so far).
        """
        if not self.truncation:
            super().fit(stage, items, first)
            return
        model = self.models[0]
        counts = torch.ones(len(items), device=items.labels.device)
        start = int(self.truncate_from * self.context.epochs)

        def choose(epoch: int) -> None:
            if epoch >= start and (epoch - start) % self.truncate_every == 0:
                p = model.evaluated(items.inputs).softmax(dim=1).gather(1, items.labels[:, None])[:, 0]
                counts.copy_(p > self.truncation)

        def loss(batch: Batch) -> Tensor:
            weights = counts[batch.rows] if batch.weights is None else counts[batch.rows] * batch.weights
            return mean_of(self.item_losses, model(batch.inputs), batch._replace(weights=weights))

        self.minimise(items, loss, at_epoch=choose)


class SCE(LossLearner):
    """Cross-entropy plus its reverse, which is absolute error."""

    alpha: float = param(
        0.1, "weight of cross-entropy (published: CIFAR-10 0.1, CIFAR-100 6)", ge=0, ablate=[0.0, 1.0]
    )
    beta: float = param(
        1.0, "weight of reverse cross-entropy (published: CIFAR-10 1, CIFAR-100 0.1)", ge=0, ablate=[0.0]
    )

    def item_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the weighted sum."""
        return losses.symmetric_cross_entropy(logits, labels, alpha=self.alpha, beta=self.beta)


class ZLoss(LossLearner):
    """A logistic loss of the label's score, standardised over the classes."""

    a: float = param(1.0, "steepness", gt=0, ablate=[0.5, 2.0])
    b: float = param(
        2.0, "score in standard deviations at which the loss bends; at most sqrt(classes - 1) can be reached"
    )

    def item_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return log(1 + exp(a (b - z_y))) / a."""
        return losses.z_loss(logits, labels, a=self.a, b=self.b)


class CompSum(LossLearner):
    """The comp-sum family: sum-exponential, cross-entropy, generalised cross-entropy and absolute error in
    one parameter.
    """

    tau: float = param(
        1.5, "0 sum-exponential, 1 cross-entropy, 2 absolute error", ge=0, le=2, ablate=[0.0, 1.0, 2.0]
    )

    def item_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return (p_y^(tau - 1) - 1) / (1 - tau)."""
        return losses.comp_sum(logits, labels, tau=self.tau)
