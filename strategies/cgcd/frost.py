"""Feature replay with rank statistics, after FRoST (Roy et al., ECCV 2022, "Class-incremental novel class
discovery").

A head of its own finds the new classes by pairs: two items whose largest features are the same ones should
get the same answer (AutoNovel, Han et al. 2020). Its answers are pseudo-labels for the joint classifier,
where old classes are replayed as Gaussians around their means, with the variance of every coordinate;
features are held near the previous network's.

FRoST-like, not FRoST: there a stage holds novel items alone. In C-GCD a few old items are among them and get
pseudo-labels of new classes too; and the weights are this project's, for the paper's were not at hand.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, softmax

from harness.contracts import Stage, param
from strategies.cgcd.base import FLOOR, CategoryDiscovery
from strategies.cgcd.prototypes import rehearsed
from strategies.toolkit.augmentations import augmentation_of, generator_of
from strategies.toolkit.discovery import losses
from strategies.toolkit.discovery.split_network import Trainable
from strategies.toolkit.discovery.two_views import Fresh
from strategies.toolkit.networks import drawn_from
from strategies.toolkit.training.loop import Batch, cosine_to, sgd, train
from strategies.toolkit.training.tensors import Items


class Frost(CategoryDiscovery):
    """Pairs by rank statistics, Gaussian replay of old classes, features that stay."""

    lr: float = param(0.03, "learning rate of later stages", gt=0, since_stage=1)
    trainable: Trainable = param(
        "last", "parts of the backbone that train later", ablate=["all", "head"], since_stage=1
    )
    top: int = param(
        5, "largest features that a pair must share", ge=1, unit="features", ablate=[3, 10], since_stage=1
    )
    teach: float = param(
        0.2, "weight of the pseudo-labels, once ramped up", ge=0, ablate=[0.0], since_stage=1
    )
    consistency: float = param(
        5.0, "weight of consistency between two views, once ramped up", ge=0, ablate=[0.0], since_stage=1
    )
    replay: float = param(1.0, "weight of the replay", ge=0, ablate=[0.0], since_stage=1)
    hold: float = param(
        10.0, "weight of the distance from the previous features", ge=0, ablate=[0.0], since_stage=1
    )

    def discover(self, stage: Stage, inputs: Tensor) -> None:
        """Train both heads with pairs, pseudo-labels, replay and distillation."""
        network, context = self.network.freeze(self.trainable), self.context
        previous = network.previous()
        found = self.count_new(stage, self.features_of(inputs))
        self.known += found
        network.set_rows(self.known)
        with drawn_from(context, "novel head"):
            novel = nn.Linear(network.dimensions, max(1, found)).to(inputs.device)
        source = Fresh(
            network, augmentation_of(context.augmentations), generator_of(context, "views"), previous
        )
        draws = generator_of(context, "rehearsal")
        deviation, chances = self.variances.sqrt(), torch.ones(len(self.means), device=inputs.device)

        def loss(batch: Batch) -> Tensor:
            hidden, before = source.pair(batch.inputs, batch.rows)
            assert before is not None
            features = network.features(hidden)
            first, second = softmax(novel(features), dim=1).chunk(2)
            same = losses.rank_pairs(features.detach().chunk(2)[0], top=min(self.top, features.shape[1]))
            ramp = math.exp(-5 * (1 - batch.done) ** 2)
            replayed, labels = rehearsed(self.means, deviation, chances, len(features), draws)
            total = (
                losses.pair_cross_entropy(first, second, same)
                + self.consistency * ramp * mse_loss(first, second)
                + self.replay * cross_entropy(network.classifier(replayed) / self.tau, labels)
                + self.hold * losses.feature_distance(features, before)
            )
            if not found:
                return total
            pseudo = self.known_before + first.argmax(dim=1)
            return total + self.teach * ramp * cross_entropy(
                network.classifier(features) / self.tau, torch.cat([pseudo, pseudo])
            )

        items = Items(inputs, torch.zeros(len(inputs), dtype=torch.long, device=inputs.device))
        groups = [
            *network.weights(decay=self.weight_decay),
            {"params": list(novel.parameters()), "weight_decay": 0.0},
        ]
        optimiser = sgd(groups, lr=self.lr, momentum=self.momentum)
        train(
            network,
            items,
            loss,
            optimiser,
            context,
            schedule=cosine_to(FLOOR),
            rate_changes=self.rate_changes,
        )
        after = self.features_of(inputs)
        with torch.no_grad():
            self.remember_new(after, network.classifier(after).argmax(dim=1))
