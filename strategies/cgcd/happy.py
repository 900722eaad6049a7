"""Happy: debiased learning for continual generalized category discovery (Ma et al., NeurIPS 2024, arXiv
2410.06535v2).

A stage without labels mixes few items of every known class with many of new ones. To SimGCD continued, Happy
adds (a) rows for new classes that start at those clusters which look least like a known class, (b) a
regularisation that keeps the total probability of old and of new classes even, (c) rehearsal of old classes by
Gaussian samples around their prototypes, confusable classes more often, and (d) distillation of features, which
stay near those of the previous network.

Equations and sections are the paper's; where paper and released code (commit 55fc93f) differ, the code is
followed and the difference is told at its place. Differences from both: the last epoch counts, since no test
item may choose one (the code takes the epoch with the best test accuracy); the learning rate falls at every
step instead of every epoch; the last, smaller batch of an epoch is used.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy, normalize, softmax

from harness.clustering import kmeans, pinned_kmeans
from harness.contracts import Preset, Stage, param
from strategies.cgcd.prototypes import Hardness, class_means, drift_corrected, hardness, least_like, rehearsed
from strategies.cgcd.simgcd import AuxiliaryLoss, SimGCD
from strategies.toolkit.augmentations import generator_of
from strategies.toolkit.discovery import losses
from strategies.toolkit.discovery.network import usual_length
from strategies.toolkit.discovery.split_network import Previous
from strategies.toolkit.discovery.two_views import Pair

Initialise = Literal["random", "least-similar", "prototypes"]
Entropy = Literal["off", "mean", "groups"]
Rehearsal = Literal["off", "uniform", "hardness"]
Distillation = Literal["off", "squared", "cosine", "answers"]

_OFF = {"entropy": "off", "initialise": "random", "rehearsal": "off", "distillation": "off"}


class Happy(SimGCD):
    """Clustering-guided rows, even old and new groups, rehearsal of confusable prototypes, features that
    stay.
    """

    initialise: Initialise = param(
        "least-similar",
        "new prototypes: fresh, the clusters least like a known class, or k-means that starts from the prototypes",
        ablate=["random", "prototypes"],
        since_stage=1,
    )
    restarts: int = param(10, "starts of k-means", ge=1, since_stage=1)
    row_length: float = param(1.0, "norm of new prototypes, relative to a fresh one", gt=0, since_stage=1)

    entropy: Entropy = param(
        "groups",
        "mean-entropy regularisation: none, over all classes (SimGCD), or by group",
        ablate=["off", "mean"],
        since_stage=1,
    )
    between: float = param(
        1.0,
        "weight of mean-entropy regularisation between old and new (or over all classes)",
        ge=0,
        ablate=[0.0],
        since_stage=1,
    )
    within_old: float = param(
        1.0, "weight of mean-entropy regularisation among old classes", ge=0, ablate=[0.0], since_stage=1
    )
    within_new: float = param(
        1.0, "weight of mean-entropy regularisation among new classes", ge=0, ablate=[0.0], since_stage=1
    )
    new_share: float = param(
        0.5, "total probability that new classes should get", gt=0, lt=1, ablate=[0.25, 0.75], since_stage=1
    )
    share_target: Literal["fixed", "running"] = param(
        "fixed", "that share, or the running mean of the network's own", ablate=["running"], since_stage=1
    )

    rehearsal: Rehearsal = param(
        "hardness", "how old classes are drawn for rehearsal", ablate=["off", "uniform"], since_stage=1
    )
    rehearsal_weight: float = param(1.0, "weight of the rehearsal", ge=0, since_stage=1)
    tau_hardness: float = param(
        0.1, "temperature of the choice of classes", gt=0, ablate=[0.01, 1.0, 10.0], since_stage=1
    )
    hardness: Hardness = param(
        "mean", "how close a prototype is to the others", ablate=["max", "standardised"], since_stage=1
    )
    radius: Literal["shared", "class", "coordinate"] = param(
        "shared",
        "spread around prototypes: one for all, per class, per coordinate",
        ablate=["class", "coordinate"],
        since_stage=1,
    )
    radius_scale: float = param(1.0, "factor on the spread", ge=0, ablate=[0.0, 2.0], since_stage=1)
    draws: int = param(
        0, "rehearsed features per step; 0 for as many as the batch has items", ge=0, since_stage=1
    )
    refresh: Literal["none", "drift", "re-estimated"] = param(
        "none",
        "old prototypes after a stage: kept, moved along, or measured again",
        ablate=["drift", "re-estimated"],
        since_stage=1,
    )

    distillation: Distillation = param(
        "squared",
        "what stays near the previous network: unit features, 2(1 - cos) or 1 - cos, or the answers (LwF)",
        ablate=["off", "cosine", "answers"],
        since_stage=1,
    )
    distillation_weight: float = param(1.0, "weight of the distillation", ge=0, since_stage=1)

    presets: ClassVar = MappingProxyType(
        {
            "table5-a": Preset(values=_OFF, source="Table 5, row a: nothing"),
            "table5-b": Preset(values={**_OFF, "entropy": "groups"}, source="Table 5, row b: entropy"),
            "table5-c": Preset(
                values={**_OFF, "initialise": "least-similar"}, source="Table 5, row c: initialisation"
            ),
            "table5-d": Preset(
                values={**_OFF, "entropy": "groups", "initialise": "least-similar"},
                source="Table 5, row d: both",
            ),
            "table5-e": Preset(
                values={**_OFF, "rehearsal": "hardness", "distillation": "squared"},
                source="Table 5, row e: rehearsal and distillation",
            ),
            "table5-f": Preset(values={"distillation": "off"}, source="Table 5, row f: all but distillation"),
            "table5-g": Preset(values={}, source="Table 5, row g: Happy"),
            "clinc150": Preset(values={}, source="the defaults, a projector sized for small networks"),
            "chars47": Preset(values={}, source="the defaults, a projector sized for small networks"),
            "glyphs": Preset(
                values={"trainable": "head"},
                source="chosen on seed 101: trained features drift off the old classes there",
            ),
            **SimGCD.presets,
        }
    )

    def discover(self, stage: Stage, inputs: Tensor) -> None:
        """Find the new classes of a stage (section 4): count, initialise, train, remember."""
        before = self.features_of(inputs) if self.refresh == "drift" else None
        super().discover(stage, inputs)
        after = self.features_of(inputs)
        with torch.no_grad():
            rows = self.network.classifier(after).argmax(dim=1)
        self._refresh(before, after, rows)
        self.remember_new(after, rows)

    def previous_network(self) -> Previous | None:
        """Return the network before a stage, unless nothing is distilled."""
        return self.network.previous() if self.distillation != "off" else None

    def grow(self, features: Tensor, found: int) -> None:
        """Add `found` rows to the classifier and start them where `initialise` says."""
        before = normalize(self.network.classifier.v.detach(), dim=1)
        super().grow(features, found)
        if self.initialise == "random" or not found:
            return
        usual = usual_length(self.network.dimensions, self.known, generator_of(self.context, "length"))
        centres = self._centres(features, found, before)
        with torch.no_grad():
            self.network.classifier.v[self.known_before : self.known_before + len(centres)] = (
                centres * usual * self.row_length
            )

    def _centres(self, features: Tensor, found: int, before: Tensor) -> Tensor:
        """Return up to `found` unit centres, (found, d); fewer where there are fewer items than clusters
        (section 4.2; 5.2 of the code).
        """
        points = normalize(features, dim=1).cpu().numpy()
        rng = self.context.stream("centres")
        if self.initialise == "prototypes":
            known = np.arange(self.known_before)
            pinned = normalize(self.means, dim=1).cpu().numpy()
            found = min(found, len(points))
            clustering = pinned_kmeans(
                points, pinned, known, self.known_before + found, rng, restarts=self.restarts
            )
            return normalize(torch.from_numpy(clustering.centres[self.known_before :]).to(features), dim=1)
        clusters = min(self.known_before + found, len(points))
        clustering = kmeans(points, clusters, rng, restarts=self.restarts)
        centres = normalize(torch.from_numpy(clustering.centres).to(features), dim=1)
        return centres[least_like(centres, before, found)]

    def auxiliary_loss(self, previous: Previous | None) -> AuxiliaryLoss:
        """Return what a step adds to SimGCD's loss: distillation and rehearsal (eq. 9; lambda_2 = 2 of the
        paper is weight 1 here, for 2(1 - cos)).
        """
        self.running_share = 0.5
        draws = generator_of(self.context, "rehearsal")
        chances = softmax(hardness(self.means, self.hardness) / self.tau_hardness, dim=0)
        if self.rehearsal == "uniform":
            chances = torch.ones_like(chances)

        def added(pair: Pair, features: Tensor, logits: Tensor) -> Tensor:
            total = logits.new_zeros(())
            if previous is not None and pair.before is not None:
                held = self._held(features, logits, pair.before, previous)
                total = total + self.distillation_weight * held
            if self.rehearsal != "off":
                size = self.draws or len(pair.hidden)
                total = total + self.rehearsal_weight * self.rehearsal_loss(chances, size, draws)
            return total

        return added

    def regulariser(self, logits: Tensor) -> Tensor:
        """Return the entropy regularisation that `entropy` says (eq. 4 and 5)."""
        if self.entropy == "off":
            return logits.new_zeros(())
        if self.entropy == "mean":
            return self.between * super().regulariser(logits)
        share = self.new_share
        if self.share_target == "running":
            own = float(softmax(logits.detach() / self.tau, dim=1)[:, self.known_before :].sum(dim=1).mean())
            self.running_share += 0.1 * (own - self.running_share)
            share = min(max(self.running_share, 0.01), 0.99)
        return losses.group_entropy(
            logits,
            self.known_before,
            temperature=self.tau,
            between=self.between,
            within_old=self.within_old,
            within_new=self.within_new,
            new_share=share,
        )

    def _held(self, features: Tensor, logits: Tensor, before: Tensor, previous: Previous) -> Tensor:
        if self.distillation == "answers":
            return losses.answer_distance(logits, previous.head(before), temperature=self.tau)
        distance = losses.feature_distance(features, before)
        return distance if self.distillation == "squared" else distance / 2

    def rehearsal_loss(self, chances: Tensor, size: int, generator: Generator) -> Tensor:
        """Return the cross-entropy of rehearsed features over all rows (eq. 7 and 8); its gradient reaches
        the classifier alone.

        Args:
            chances: (K_old,) chance of each old class.
            size: features drawn.
            generator: of draws and noise.
        """
        deviation = {
            "shared": self.variances[: self.initial].mean().reshape(1, 1),
            "class": self.variances.mean(dim=1, keepdim=True),
            "coordinate": self.variances,
        }[self.radius].sqrt()
        features, labels = rehearsed(
            normalize(self.means, dim=1), self.radius_scale * deviation, chances, size, generator
        )
        return cross_entropy(self.network.classifier(features) / self.tau, labels)

    def _refresh(self, before: Tensor | None, after: Tensor, rows: Tensor) -> None:
        """Move the old prototypes, where wanted; `before` (N, d) is given where they drift."""
        if before is not None:
            self.means = drift_corrected(normalize(self.means, dim=1), before, after)
        if self.refresh == "re-estimated":
            measured, counts = class_means(after, rows, self.known)
            met = counts[: self.known_before] > 0
            self.means = torch.where(met[:, None], measured[: self.known_before], self.means)
