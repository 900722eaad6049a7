"""SimGCD with labelled and unlabelled items at once, its own setting (Wen et al., ICCV 2023): a cosine
classifier over known and novel classes that learns from its own sharper answers to another view, while the
mean answer is kept even.

It starts from the stage 0 that all NCD rivals share: known rows at its prototypes, novel ones fresh. Paper
and code train all rows from fresh ones on a DINO backbone.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, normalize

from harness.contracts import HIDDEN, Stage, param
from strategies.assignment.rules import Named, assignment_of
from strategies.ncd.base import NovelClasses, Rows
from strategies.toolkit.augmentations import augmentation_of, generator_of
from strategies.toolkit.discovery import losses, msbreg
from strategies.toolkit.discovery.network import CosineClassifier, Projector, usual_length
from strategies.toolkit.networks import drawn_from
from strategies.toolkit.training.loop import Batch, train, warmed_at
from strategies.toolkit.training.tensors import Items


class NCDSimGCD(NovelClasses):
    """Self-distillation with an even mean answer over known and novel classes."""

    supervised: float = param(
        0.35, "weight of the losses with labels, the others have the rest", ge=0, le=1, since_stage=1
    )
    entropy: float = param(
        1.0,
        "weight of mean-entropy regularisation (published 1, 2 or 4)",
        ge=0,
        ablate=[0.0, 2.0, 4.0],
        since_stage=1,
    )
    contrast: bool = param(
        True, "whether views and labels are contrasted on projections", ablate=[False], since_stage=1
    )
    first_teacher: float = param(0.07, "temperature of the teacher at the start", gt=0, since_stage=1)
    last_teacher: float = param(0.04, "temperature of the teacher once warm", gt=0, since_stage=1)
    teacher_warmup: float = param(
        0.15, "share of the stage over which it falls (published 30 of 200 epochs)", ge=0, le=1, since_stage=1
    )
    assignment: Named = param(
        "softmax",
        "how the teacher's logits become answers: softmax, or sinkhorn, entropic, relaxed, sparse or frequency over "
        "the batch, with parameters in brackets",
        ablate=["relaxed"],
        since_stage=1,
    )
    tau_views: float = param(1.0, "temperature of the contrastive loss of two views", gt=0, since_stage=1)
    tau_labels: float = param(0.07, "temperature of the contrast between labels", gt=0, since_stage=1)
    projection_loss: msbreg.Named = param(
        "",
        "what projections of the views are held to beside their contrast: msbreg, with weights in brackets; empty for "
        "nothing",
        since_stage=1,
    )
    projector_width: int = param(
        256, "hidden units of the projector (published 2048)", ge=1, unit="units", since_stage=1
    )
    projector_out: int = param(
        64, "outputs of the projector (published 256)", ge=1, unit="units", since_stage=1
    )

    later: ClassVar[tuple[str, ...]] = ("assignment", "projection_loss")

    def discover(self, stage: Stage, items: Items, novel: int) -> None:
        """Train classifier and projector on two views."""
        network = self.network.freeze(self.trainable)
        self.initial = network.classes
        augment, generator = augmentation_of(self.context.augmentations), generator_of(self.context, "views")
        classifier, projector = self._heads(novel)
        held = msbreg.projection_loss_of(self.projection_loss, network, projector, self.context)
        self.directions = classifier.v.detach()  # the same memory: they train along

        def loss(batch: Batch) -> Tensor:
            hidden = network.hidden(augment(torch.cat([batch.inputs, batch.inputs]), generator))
            features = network.features(hidden)
            logits, projections = classifier(features), projector(features)
            given = torch.cat([batch.labels, batch.labels]) != HIDDEN
            labels = torch.cat([batch.labels, batch.labels])[given]
            sharpness = warmed_at(
                self.first_teacher, self.last_teacher, batch, self.teacher_warmup, self.rate_changes
            )
            value = losses.self_distillation(
                logits,
                logits.detach(),
                temperature=self.tau,
                teacher_temperature=sharpness,
                assign=assignment_of(self.assignment),
            )
            value = value + self.entropy * losses.mean_entropy(logits, temperature=self.tau)
            if self.contrast:
                value = value + losses.info_nce(projections, temperature=self.tau_views)
            if held:
                value = value + held(hidden, projections)
            value = (1 - self.supervised) * value
            if given.any():
                labelled = cross_entropy(logits[given] / self.tau, labels)
                if self.contrast:
                    labelled = labelled + losses.supervised_contrastive(
                        projections[given], labels, temperature=self.tau_labels
                    )
                value = value + self.supervised * labelled
            return value

        optimiser = self.new_optimiser(stage.index)
        optimiser.add_param_group({"params": [*classifier.parameters(), *projector.parameters()]})
        train(
            network,
            self.mixed(items),
            loss,
            optimiser,
            self.context,
            schedule=self.schedule(stage.index),
            rate_changes=self.rate_changes,
        )

    def rows(self, inputs: Tensor, features: Tensor) -> Rows:
        """Return the cosines with known and novel rows."""
        logits = linear(normalize(features, dim=1), normalize(self.directions, dim=1))
        return Rows(logits[:, : self.initial], logits[None, :, self.initial :])

    def _heads(self, novel: int) -> tuple[CosineClassifier, Projector]:
        features = self.network.dimensions
        with drawn_from(self.context, "heads"):
            classifier = CosineClassifier(features, self.initial + novel).to(self.context.device)
            projector = Projector(features, self.projector_width, self.projector_out).to(self.context.device)
        length = usual_length(features, self.initial, generator_of(self.context, "row-length"))
        with torch.no_grad():
            classifier.v[: self.initial] = length * normalize(self.network.known.weight, dim=1)  # type: ignore[union-attr]
        return classifier, projector
