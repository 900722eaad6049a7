"""SimGCD continued over stages without labels, alone and with LwF: the baselines that Happy is built on.

SimGCD (Wen et al., ICCV 2023, arXiv 2211.11727) learns from its own sharper answers to another augmentation
of an item (self-distillation), contrasts two views, and regularises by the entropy of the mean answer.
Continued (Happy, Table 1: "SimGCD"), new classes get fresh rows of the classifier and nothing holds the old
ones; with the previous network's answers distilled, as in LwF, it is "SimGCD+".
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor

from harness.contracts import Preset, Stage, param
from strategies.assignment.rules import Named, assignment_of
from strategies.cgcd.base import FLOOR, CategoryDiscovery
from strategies.toolkit.augmentations import augmentation_of, generator_of
from strategies.toolkit.discovery import losses, msbreg
from strategies.toolkit.discovery.split_network import Previous, Trainable
from strategies.toolkit.discovery.two_views import CachedViews, Fresh, Pair
from strategies.toolkit.training.loop import Batch, cosine_to, train, warmed_at
from strategies.toolkit.training.tensors import Items

AuxiliaryLoss = Callable[[Pair, Tensor, Tensor], Tensor]
"""What a method adds to the loss of a step, a scalar: of the two views, their features (2B, d) and their
logits (2B, K).
"""

_CODE = {"first_trainable": "last", "projector_width": 2048, "projector_out": 256, "rate_changes": "epoch"}


class SimGCD(CategoryDiscovery):
    """Self-distillation with mean-entropy regularisation; nothing protects old classes."""

    lr: float = param(0.01, "learning rate of later stages", gt=0, since_stage=1)
    trainable: Trainable = param(
        "last",
        "parts of the backbone that train later: all, the last, or none (head)",
        ablate=["all", "head"],
        since_stage=1,
    )
    train_norm: bool = param(False, "whether a transformer's final norm trains", since_stage=1)
    cached_views: int = param(
        0,
        "cached augmentations of an item per stage; 0 for fresh ones at every step",
        ge=0,
        since_stage=1,
        formerly="view_bank",
    )
    cache_mib: int = param(
        0,
        "memory for them, what does not fit is computed when it is used; 0 for no limit",
        ge=0,
        unit="MiB",
        since_stage=1,
        formerly="bank_mib",
    )

    later_entropy: float = param(
        1.0, "weight of the mean-entropy regularisation in later stages", ge=0, since_stage=1
    )
    later_teacher: float = param(0.05, "temperature of the teacher", gt=0, since_stage=1)
    later_teacher_start: float = param(
        0.05, "temperature of the teacher at the start of a stage", gt=0, since_stage=1
    )
    later_warmup: float = param(
        0.0, "share of a stage over which the teacher's temperature changes", ge=0, le=1, since_stage=1
    )
    teacher_momentum: float = param(
        0.0,
        "the teacher is a running mean of the network; 0 for the network itself",
        ge=0,
        lt=1,
        ablate=[0.99],
        since_stage=1,
    )
    assignment: Named = param(
        "softmax",
        "how the teacher's logits become answers: softmax, or sinkhorn, entropic, relaxed, sparse or frequency over "
        "the batch, with parameters in brackets",
        ablate=["relaxed"],
        since_stage=1,
    )
    contrast: float = param(
        1.0, "weight of the contrastive loss of two views", ge=0, ablate=[0.0], since_stage=1
    )
    projection_loss: msbreg.Named = param(
        "",
        "what projections of the views are held to beside their contrast: msbreg, with weights in brackets; empty for "
        "nothing",
        since_stage=1,
    )
    keep_projector: bool = param(
        False,
        "carry the projector over instead of starting it afresh (as Happy's code does)",
        ablate=[True],
        since_stage=1,
    )

    later: ClassVar[tuple[str, ...]] = ("assignment", "projection_loss")

    presets: ClassVar = MappingProxyType(
        {
            "paper-cifar100": Preset(
                values={**_CODE},
                source="Happy's released code, README: CIFAR-100; the code's 256 projector outputs, the paper says "
                "65,536",
            ),
            "paper-cub": Preset(
                values={**_CODE, "first_entropy": 2.0},
                source="Happy's released code, README: CUB; 20 epochs a stage are the scenario's",
            ),
        }
    )

    def discover(self, stage: Stage, inputs: Tensor) -> None:
        """Find the new classes of a stage: count them, add their rows, train."""
        self.network.freeze(self.trainable)
        previous = self.previous_network()
        features = self.features_of(inputs)
        self.grow(features, self.count_new(stage, features))
        self._train(inputs, previous)

    def previous_network(self) -> Previous | None:
        """Return the network before a stage, where something is distilled from it; none here."""
        return None

    def grow(self, features: Tensor, found: int) -> None:
        """Add `found` fresh rows to the classifier; a method may start them from `features` (N, d) of the
        stage's items.
        """
        self.known += found
        self.network.set_rows(self.known)
        if not self.keep_projector:
            self.network.renew_projector()

    def regulariser(self, logits: Tensor) -> Tensor:
        """Return what keeps answers from collapsing, a scalar of logits (2B, K): the entropy that the mean
        answer lacks.
        """
        return losses.mean_entropy(logits, temperature=self.tau)

    def auxiliary_loss(self, previous: Previous | None) -> AuxiliaryLoss:
        """Return what a method adds to the loss of every step of a stage that begins; nothing here."""
        return lambda pair, features, logits: logits.new_zeros(())

    def _train(self, inputs: Tensor, previous: Previous | None) -> None:
        network, context = self.network, self.context
        if self.train_norm:
            network.parts[-1].get_submodule("norm").requires_grad_(True)
        augment, generator = augmentation_of(context.augmentations), generator_of(context, "views")
        source: CachedViews | Fresh = Fresh(network, augment, generator, previous)
        if self.cached_views:
            source = CachedViews(
                network, inputs, augment, generator, self.cached_views, previous, budget_mib=self.cache_mib
            )
        self.teacher = network.previous() if self.teacher_momentum else None
        auxiliary_loss = self.auxiliary_loss(previous)
        held = msbreg.projection_loss_of(self.projection_loss, network, network.projector, context)
        labels = torch.zeros(len(inputs), dtype=torch.long, device=inputs.device)
        items = Items(labels[:, None] if self.cached_views else inputs, labels)

        def loss(batch: Batch) -> Tensor:
            sharpness = warmed_at(
                self.later_teacher_start, self.later_teacher, batch, self.later_warmup, self.rate_changes
            )
            return self.later_total(source.pair(batch.inputs, batch.rows), sharpness, auxiliary_loss, held)

        train(
            network,
            items,
            loss,
            self.optimiser(self.lr),
            context,
            schedule=cosine_to(FLOOR),
            rate_changes=self.rate_changes,
        )
        self.teacher = None

    def later_total(
        self,
        pair: Pair,
        sharpness: float,
        auxiliary_loss: AuxiliaryLoss,
        projection_loss: msbreg.ProjectionLoss | None = None,
    ) -> Tensor:
        """Return the loss of a step of a later stage.

        Args:
            pair: two views of B items.
            sharpness: temperature of the teacher.
            auxiliary_loss: what the method adds.
            projection_loss: what `projection_loss` names, where it names something.
        """
        network = self.network
        features = network.features(pair.hidden)
        logits = network.classifier(features)
        total = losses.self_distillation(
            logits,
            self._taught(pair, logits),
            temperature=self.tau,
            teacher_temperature=sharpness,
            assign=assignment_of(self.assignment),
        )
        total = total + self.later_entropy * self.regulariser(logits)
        if self.contrast or projection_loss:
            projections = network.projector(features)
            if self.contrast:
                total = total + self.contrast * losses.info_nce(projections, temperature=self.tau_views)
            if projection_loss:
                total = total + projection_loss(pair.hidden, projections)
        return total + auxiliary_loss(pair, features, logits)

    @torch.no_grad()
    def _taught(self, pair: Pair, logits: Tensor) -> Tensor:
        """Return the teacher's logits: the network's own, or those of its running mean."""
        if self.teacher is None:
            return logits.detach()
        network = self.network
        current = [*network.parts[network.frozen :].parameters(), *network.classifier.parameters()]
        for kept, now in zip(self.teacher.parameters(), current, strict=True):
            kept.lerp_(now, 1 - self.teacher_momentum)
        taught: Tensor = self.teacher.head(self.teacher(pair.hidden))
        return taught


class SimGCDLwF(SimGCD):
    """SimGCD that also distils the previous network's answers over the old classes."""

    distillation_weight: float = param(1.0, "weight of the distilled answers", ge=0, since_stage=1)

    def previous_network(self) -> Previous:
        """Return the network before a stage."""
        return self.network.previous()

    def auxiliary_loss(self, previous: Previous | None) -> AuxiliaryLoss:
        """Return the distance between its answers over the old classes and those of the network before."""
        assert previous is not None

        def held(pair: Pair, features: Tensor, logits: Tensor) -> Tensor:
            assert pair.before is not None
            distance = losses.answer_distance(logits, previous.head(pair.before), temperature=self.tau)
            return self.distillation_weight * distance

        return held
