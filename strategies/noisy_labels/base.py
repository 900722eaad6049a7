"""What learners from labels that may be wrong have in common: one or several classifiers, trained by gradient
steps, and a judgement.

A learner fills in `fit`. It answers the mean logits of its networks and says of every label it was given how
much it doubts it; by default it asks the networks' mean probability, a method that knows better overrides
`judge_labels`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harness.contracts import Inputs, IntArray, Prediction, Query, Stage, param
from harness.errors import Unsuitable
from strategies.components.chain import arranged_by, weights_of, with_components
from strategies.components.learner import TakesComponents
from strategies.noisy_labels.schedules import Named, schedule_of
from strategies.noisy_labels.state_list import Together
from strategies.toolkit.augmentations import augmenting
from strategies.toolkit.classifier import Classifier, likeliest
from strategies.toolkit.label_memory import LabelMemory, noise_score
from strategies.toolkit.loss_surface import LossSurface
from strategies.toolkit.training.loop import Loss, RateChanges, Schedule, sgd, train
from strategies.toolkit.training.tensors import Items, as_tensor, items_of


class Networks(Together[Classifier]):
    """The networks of a learner."""

    def module(self) -> nn.Module:
        """Return them as one module, to be put into training mode."""
        return nn.ModuleList(self)

    def parameters(self) -> list[nn.Parameter]:
        """Return the weights of all."""
        return [weights for network in self for weights in network.parameters()]


class LabelLearner(TakesComponents):
    """A learner from labels that may be wrong. `minimise` calls every hook of components but `begin`."""

    offers: ClassVar[frozenset[str]] = frozenset({"network", "rates", "change", "term", "step"})

    lr: float = param(0.05, "learning rate", gt=0)
    momentum: float = param(0.9, "momentum of the gradient steps", ge=0, lt=1)
    weight_decay: float = param(5e-4, "weight decay", ge=0)
    schedule: Named = param(
        "constant",
        "learning rate over a stage: constant, cosine or steps (a tenth in the last quarter), with "
        "parameters in brackets",
    )
    rate_changes: RateChanges = param(
        "step", "when it changes: at every step, or between epochs as in released code"
    )
    optimiser: Literal["sgd", "adamw"] = param(
        "sgd",
        "gradient steps with momentum, or AdamW (decoupled decay, betas 0.9 and 0.98), for "
        "which momentum says nothing",
    )

    def setup(self) -> None:
        """Make the networks, each with its own initialisation, and an empty memory."""
        self.models = self.new_networks()
        self.handed = LabelMemory()

    def new_networks(self) -> Networks:
        """Return the networks, not built yet."""
        return Networks([self.network(0)])

    def network(self, place: int) -> Classifier:
        """Return the network at `place`, not built yet."""
        init = f"init-{place}" if place else "init"
        return Classifier(self.context, init=init, components=self.chain(init))

    def learn(self, stage: Stage) -> None:
        """Grow the networks, remember the labels, train."""
        for model in self.models:
            model.grow(stage)
        first = self.handed.add(stage)
        items, self.spent = self.begin(stage, items_of(stage, self.context))
        self.fit(stage, items, first)

    def begin(self, stage: Stage, items: Items) -> tuple[Items, int]:
        """Return what to train on, and how many of the stage's passes components took before the learner trains; a
        learner that offers `begin` asks them.
        """
        return items, 0

    @abstractmethod
    def fit(self, stage: Stage, items: Items, first: int) -> None:
        """Train on a stage; `first` is the number under which the memory keeps its first item."""

    def predict(self, query: Query) -> Prediction:
        """Return the likeliest class by the mean logits, and what is made of the labels that came with items
        of the query.
        """
        inputs = as_tensor(query.inputs, self.context.device)
        outputs = self.logits(inputs)
        logits = outputs.mean(dim=0).cpu()
        places, rows = self.handed.find(query.ids)
        labels = self.handed.labels[rows]
        losses = (
            cross_entropy(logits[places], labels, reduction="none") if len(places) else logits.new_zeros(0)
        )
        suspicion, kept = self.judge_labels(outputs[:, places].cpu(), labels, rows)
        return self.handed.judged(
            likeliest(logits, self.models[0].task_of, query), query.ids, losses, suspicion, kept
        )

    def logits(self, inputs: Tensor) -> Tensor:
        """Return what every network makes of `inputs`, (networks, N, C), in evaluation mode."""
        return torch.stack([model.evaluated(inputs) for model in self.models])

    def judge_labels(self, logits: Tensor, labels: Tensor, rows: IntArray) -> tuple[Tensor, Tensor]:
        """Return suspicion (n,) and whether a label is kept (n,).

        Args:
            logits: (networks, n, C) of items that came with a label.
            labels: (n,) these labels.
            rows: int64 (n,) their numbers in the memory.
        """
        noise_scores = noise_score(logits.softmax(dim=2).mean(dim=0), labels)
        return noise_scores, noise_scores <= 0.5

    def surface(self, inputs: Inputs, labels: IntArray) -> LossSurface | None:
        """Return cross-entropy around the weights of the first network, with the rate where one holds all along."""
        found = self.models[0].surface(inputs, labels)
        if found is None or self.optimiser != "sgd" or self.schedule != "constant":
            return found
        return found.stepped(rate=self.lr, momentum=self.momentum)

    def new_optimiser(self, networks: Sequence[Classifier] | None = None) -> torch.optim.Optimizer:
        """Return one optimiser over all networks, or those given; steps of one do not depend on the others."""
        weights = weights_of(networks or self.models, lr=self.lr, weight_decay=self.weight_decay)
        if self.optimiser == "adamw":
            return torch.optim.AdamW(
                weights, lr=self.lr, betas=(0.9, 0.98), weight_decay=self.weight_decay, fused=True
            )
        return sgd(weights, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)

    def minimise(
        self,
        items: Items,
        loss: Loss,
        *,
        epochs: int | None = None,
        at_epoch: Callable[[int], None] | None = None,
    ) -> None:
        """Train all networks on a stage whose items go through the protocol's augmentations; `epochs`,
        `at_epoch` as in `train`.
        """
        loss, before_step = with_components(self.models, loss)
        train(
            self.models.module(),
            items,
            loss,
            self.new_optimiser(),
            self.context,
            augment=augmenting(self.context),
            epochs=self.context.epochs - self.spent if self.spent and epochs is None else epochs,
            schedule=self.rates(),
            rate_changes=self.rate_changes,
            before_step=before_step,
            at_epoch=at_epoch,
            arrange=arranged_by(self.models),
        )

    def rates(self) -> Schedule:
        """Return the schedule of the learning rate."""
        return schedule_of(self.schedule)


def noise_rate(stage: Stage, own: float) -> float:
    """Return the share of wrong labels to reckon with: what was said (`own` in [0, 1)), or where that is
    negative, what the protocol tells.

    Raises:
        Unsuitable: neither is there.
    """
    if own >= 0:
        return own
    if stage.noise_info is None:
        raise Unsuitable(
            "needs the share of wrong labels: set forget_rate, or let the protocol tell it (told=rate)"
        )
    return stage.noise_info.rate
