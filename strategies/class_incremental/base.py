"""What class-incremental learners have in common: one classifier, components, and an OOD score of an item."""

from __future__ import annotations

from typing import ClassVar

import torch

from harness.contracts import Inputs, IntArray, Prediction, Query, param
from strategies.components.chain import weights_of, with_components
from strategies.components.learner import TakesComponents
from strategies.ood_scores import MEANING, NONE, OODScore, detector_of
from strategies.toolkit.augmentations import augmenting
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.loss_surface import LossSurface
from strategies.toolkit.training.loop import Loss, sgd, train
from strategies.toolkit.training.tensors import Items


class ClassLearner(TakesComponents):
    """A learner with one classifier, which answers the likeliest class and, where `ood_score` names one, the OOD
    score of an item. `minimise` calls every hook of components but `begin`.
    """

    offers: ClassVar[frozenset[str]] = frozenset({"network", "rates", "change", "term", "step"})

    lr: float
    momentum: float
    ood_score: OODScore = param(NONE, MEANING, formerly="novelty")

    def setup(self) -> None:
        """Make the classifier and the detector, neither of which knows anything."""
        self.model = self.network()
        self.detector = detector_of(self.ood_score)

    def network(self) -> Classifier:
        """Return a classifier with the components that are named, not built yet."""
        return Classifier(self.context, components=self.chain())

    def minimise(self, items: Items, loss: Loss, *, augment: bool = True) -> None:
        """Train the classifier on a stage by gradient steps with momentum.

        Args:
            items: the stage as tensors.
            loss: scalar loss of a batch.
            augment: whether items go through the protocol's augmentations; False where the loss sees to it.
        """
        loss, before_step = with_components([self.model], loss)
        train(
            self.model,
            items,
            loss,
            sgd(weights_of([self.model], lr=self.lr), lr=self.lr, momentum=self.momentum),
            self.context,
            augment=augmenting(self.context) if augment else None,
            before_step=before_step,
        )

    def predict(self, query: Query) -> Prediction:
        """Return the most likely class seen so far."""
        return self.model.answer(query, self.detector)

    def surface(self, inputs: Inputs, labels: IntArray) -> LossSurface | None:
        """Return cross-entropy around the weights, with the rate of the gradient steps."""
        found = self.model.surface(inputs, labels)
        return None if found is None else found.stepped(rate=self.lr, momentum=self.momentum)

    def know(self, items: Items, memory: Items | None = None) -> None:
        """Fit the detector, if there is one, at the end of a stage.

        Args:
            items: what was learned.
            memory: examples of earlier stages that are still held; of a class that is among `items` they are
                left out.
        """
        if self.detector is None:
            return
        if memory is not None:
            earlier = ~torch.isin(memory.labels, items.labels)
            items = Items(memory.inputs[earlier], memory.labels[earlier]).joined_with(items)
        self.detector.fit(self.model.seen(items.inputs), items.labels, self.model.head)
