"""What the learners of continual category discovery share: stage 0 with labels, what is remembered of known
classes, how to answer.

Stage 0 is SimGCD's objective with every item labelled (Happy's released code; the paper's differs and is a
switch). Its parameters are
declared here and nowhere else, so all learners that build on this one share stage 0: the harness trains it
once.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, softmax

from harness.clustering import k_by_silhouette
from harness.contracts import HIDDEN, Prediction, Query, Stage, Strategy, param
from harness.errors import Diverged, Unsuitable
from strategies.cgcd.prototypes import class_means, spreads
from strategies.ood_scores import MEANING, NONE, OODScore, Seen, detector_of
from strategies.toolkit.augmentations import augmentation_of, generator_of
from strategies.toolkit.discovery import losses
from strategies.toolkit.discovery.network import DiscoveryNetwork
from strategies.toolkit.discovery.split_network import Trainable
from strategies.toolkit.discovery.two_views import Fresh
from strategies.toolkit.training.eval_mode import eval_mode, of_some_length
from strategies.toolkit.training.loop import Batch, RateChanges, cosine_to, sgd, train, warmed_at
from strategies.toolkit.training.tensors import Items, as_tensor, items_of

FLOOR = 1e-3
"""What the learning rate falls to, as a share of where it begins."""


class CategoryDiscovery(Strategy):
    """Base of the learners that start from labelled classes and find others by themselves."""

    first_lr: float = param(0.1, "learning rate of stage 0", gt=0)
    rate_changes: RateChanges = param(
        "step",
        "when the rate and the teacher's temperature change: at every step, or between epochs as in released code",
    )
    momentum: float = param(0.9, "momentum of the gradient steps", ge=0, lt=1)
    weight_decay: float = param(5e-5, "decay of matrices; vectors do not decay", ge=0)
    first_loss: Literal["code", "paper"] = param(
        "code", "stage 0 as in the released code, or as in the paper's equation 2", ablate=["paper"]
    )
    supervised: float = param(
        0.35, "weight of the losses with labels in stage 0, the others have the rest", ge=0, le=1
    )
    first_entropy: float = param(1.0, "weight of the mean entropy in stage 0", ge=0, ablate=[0.0])
    tau: float = param(0.1, "temperature of all answers", gt=0)
    first_teacher: float = param(0.07, "temperature of the teacher at the start of stage 0", gt=0)
    last_teacher: float = param(0.04, "temperature of the teacher once stage 0 is warm", gt=0)
    warmup: float = param(0.3, "share of stage 0 over which the teacher's temperature falls", ge=0, le=1)
    tau_views: float = param(1.0, "temperature of the contrastive loss of two views", gt=0)
    tau_labels: float = param(0.07, "temperature of the contrast between labels", gt=0)
    projector_width: int = param(256, "hidden units of the projector", ge=1, unit="units")
    projector_out: int = param(64, "outputs of the projector", ge=1, unit="units")
    first_trainable: Trainable = param("all", "parts of the backbone that train in stage 0: all or the last")
    search: int = param(30, "most new classes tried where their number is unknown", ge=1, since_stage=1)
    ood_score: OODScore = param(NONE, MEANING, formerly="novelty")

    shares_first_stage: ClassVar[bool] = True

    def setup(self) -> None:
        """Make an empty network; nothing is known."""
        self.network = DiscoveryNetwork(self.context, width=self.projector_width, out=self.projector_out)
        self.initial = 0
        self.known = 0
        self.known_before = 0
        self.means = torch.zeros(0)
        self.variances = torch.zeros(0)
        self.detector = detector_of(self.ood_score)

    def learn(self, stage: Stage) -> None:
        """Learn the labelled classes, or find the new ones among unlabelled items; raise `Unsuitable` as
        `suit` does.
        """
        self.suit(stage)
        self.known_before = self.known
        if stage.index == 0:
            self._learn_labelled(stage)
        else:
            self.discover(stage, as_tensor(stage.inputs, self.context.device))
        self.know(stage)

    def know(self, stage: Stage) -> None:
        """Fit the detector, if there is one, to unit features after a stage, by labels or, where these are
        hidden, by rows answered.

        So a class found is known from its stage on, and its mean is as good as the clustering. Where
        `predict` goes by distances instead of the classifier, ViM still takes its scale from the classifier.
        """
        if self.detector is None:
            return
        labels = stage.labels
        if (labels == HIDDEN).any():
            answered = self.predict(Query(ids=stage.ids, inputs=stage.inputs)).classes
            assert answered is not None
            labels = np.where(labels == HIDDEN, answered, labels)
        features = self.features_of(as_tensor(stage.inputs, self.context.device))
        with torch.no_grad():
            seen = Seen(normalize(features, dim=1), self.network.classifier(features) / self.tau)
        self.detector.fit(seen, torch.from_numpy(labels))

    def suit(self, stage: Stage) -> None:
        """Check that the stage is of the kind that is learnt from.

        Raises:
            Unsuitable: a first stage with hidden labels, or a later one with visible ones.
        """
        hidden = stage.labels == HIDDEN
        if stage.index == 0 and hidden.any():
            raise Unsuitable("learns known classes from labels, and stage 0 hides some")
        if stage.index and not hidden.all():
            raise Unsuitable(f"finds classes without labels, and stage {stage.index} hands some over")

    @abstractmethod
    def discover(self, stage: Stage, inputs: Tensor) -> None:
        """Learn a stage without labels; `inputs` are its items (N, ...). Sets `known`, and `means` where
        later stages need them.
        """

    def predict(self, query: Query) -> Prediction:
        """Return the likeliest row of the classifier, the number of rows, and the probability of the old
        ones.
        """
        return self.answered(query, lambda features: self.network.classifier(features) / self.tau)

    @torch.no_grad()
    def answered(self, query: Query, logits_of: Callable[[Tensor], Tensor]) -> Prediction:
        """Answer by the largest logit over all known rows; `logits_of` maps features (N, d) to logits (N, K).

        The OOD score of an item follows from unit features and these logits, once the detector has been fitted.
        """
        features = self.features_of(as_tensor(query.inputs, self.context.device))
        logits = logits_of(features).cpu()
        if not logits.isfinite().all():
            raise Diverged("the answers are not finite")
        old = softmax(logits, dim=1)[:, : self.known_before].sum(dim=1).numpy() if self.known_before else None
        clusters = np.full(len(logits), logits.shape[1], dtype=np.int64)
        answer = Prediction(classes=logits.argmax(dim=1).numpy(), clusters=clusters, old_probability=old)
        if self.detector is None or not self.detector.is_ready:
            return answer
        return replace(answer, anomaly_scores=self.detector.score(Seen(normalize(features, dim=1), logits)))

    def features_of(self, inputs: Tensor, *, chunk: int = 512) -> Tensor:
        """Return the network's features (N, d) of inputs as they are, without augmentation; raise `Diverged` as
        `of_some_length` does.
        """
        with eval_mode(self.network):
            return of_some_length(torch.cat([self.network(part) for part in torch.split(inputs, chunk)]))

    def count_new(self, stage: Stage, features: Tensor) -> int:
        """Return how many classes are new: what is told, or where the silhouette of clustering is largest
        (Happy, section 5.4).

        Tried are 1 to `search` new classes on top of the known ones; so the estimate never falls below what
        is known.
        """
        if stage.new_classes is not None:
            return stage.new_classes
        most = min(self.known + self.search, len(features) - 1)
        candidates = range(self.known + 1, most + 1)
        if not candidates:
            return 0
        return (
            k_by_silhouette(features.cpu().numpy(), candidates, self.context.stream("count"))[0] - self.known
        )

    def optimiser(self, lr: float) -> torch.optim.Optimizer:
        """Return SGD over what trains."""
        return sgd(self.network.weights(decay=self.weight_decay), lr=lr, momentum=self.momentum)

    def remember(self, features: Tensor, labels: Tensor) -> None:
        """Keep mean and variance of every known class over labelled features (N, d)."""
        self.means, _ = class_means(features, labels, self.known)
        self.variances = spreads(features, labels, self.means)

    def remember_new(self, features: Tensor, rows: Tensor) -> None:
        """Add mean and variance of the classes found in this stage.

        Args:
            features: (N, d) of the stage's items.
            rows: int (N,) the row that the learner answers for each. A class that got none has the row of the
                classifier as its mean and the average variance.
        """
        means, counts = class_means(features, rows, self.known)
        variances = spreads(features, rows, means)
        for label in range(self.known_before, self.known):
            if counts[label] == 0:
                means[label] = normalize(self.network.classifier.v[label].detach(), dim=0)
                variances[label] = self.variances.mean(dim=0)
        self.means = torch.cat([self.means, means[self.known_before :]])
        self.variances = torch.cat([self.variances, variances[self.known_before :]])

    def _learn_labelled(self, stage: Stage) -> None:
        items = items_of(stage, self.context)
        self.known = self.initial = stage.named_classes
        self.network.build(tuple(items.inputs.shape[1:]), self.known)
        self.train_labelled(items)
        self.remember(self.features_of(items.inputs), items.labels)

    def train_labelled(self, items: Items, *, epochs: int | None = None) -> None:
        """Train the network with stage 0's objective, for `epochs` passes or as many as the protocol says."""
        network = self.network.freeze(self.first_trainable)
        source = Fresh(
            network, augmentation_of(self.context.augmentations), generator_of(self.context, "views")
        )

        def loss(batch: Batch) -> Tensor:
            features = network.features(source.pair(batch.inputs, batch.rows).hidden)
            logits, projections = network.classifier(features), network.projector(features)
            labels = torch.cat([batch.labels, batch.labels])
            sharpness = warmed_at(
                self.first_teacher, self.last_teacher, batch, self.warmup, self.rate_changes
            )
            return self.first_total(logits, projections, labels, sharpness)

        train(
            network,
            items,
            loss,
            self.optimiser(self.first_lr),
            self.context,
            epochs=epochs,
            schedule=cosine_to(FLOOR),
            rate_changes=self.rate_changes,
        )

    def first_total(self, logits: Tensor, projections: Tensor, labels: Tensor, sharpness: float) -> Tensor:
        """Return the loss of stage 0.

        Args:
            logits: (2B, K).
            projections: (2B, p).
            labels: int (2B,).
            sharpness: temperature of the teacher.
        """
        w = self.supervised
        classify = cross_entropy(logits / self.tau, labels)
        views = losses.info_nce(projections, temperature=self.tau_views)
        labelled = losses.supervised_contrastive(projections, labels, temperature=self.tau_labels)
        if self.first_loss == "paper":
            return classify + w * labelled + (1 - w) * views
        distilled = losses.self_distillation(
            logits, logits.detach(), temperature=self.tau, teacher_temperature=sharpness
        )
        even = losses.mean_entropy(logits, temperature=self.tau)
        return (
            (1 - w) * (distilled + self.first_entropy * even) + w * classify + (1 - w) * views + w * labelled
        )
