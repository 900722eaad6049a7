"""AutoNovel with ranking statistics, and its incremental form (Han et al. 2020, 2021, "RankStats" and
"RankStats+").

Two unlabelled items are of one class where the sets of their largest features agree; a linear head learns to
answer pairs alike or unlike, labelled items keep their cross-entropy, and both views of an item are to be
answered alike. RankStats+ also trains a row for every novel class beside the known ones, on what the pair
head answers, so that one classifier speaks for all. Differences from the released code (5eda7e4): stage 0 is
the one that all rivals share, without rotation prediction on unlabelled items; known classes have prototypes
instead of a linear layer with biases; the pair loss does not change its input in place. Ramps are shares of
the stage, not epochs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, softmax

from harness.contracts import HIDDEN, Stage, param
from strategies.ncd.base import NovelClasses, Rows
from strategies.toolkit.augmentations import augmentation_of, generator_of
from strategies.toolkit.discovery.losses import pair_cross_entropy, rank_pairs
from strategies.toolkit.losses.early_learning import ramp
from strategies.toolkit.networks import drawn_from
from strategies.toolkit.training.loop import Batch, train
from strategies.toolkit.training.tensors import Items


class RankStats(NovelClasses):
    """Pairs of items that share their largest features belong together."""

    top: int = param(5, "largest features that have to agree", ge=1, ablate=[3, 10], since_stage=1)
    consistency: float = param(
        5.0,
        "weight of consistency between both views (published: CIFAR-10 5, CIFAR-100 and SVHN 50)",
        ge=0,
        ablate=[0.0, 50.0],
        since_stage=1,
    )
    ramp: float = param(
        0.25,
        "share of the stage over which weights rise (published 50 or 150 of 200 epochs)",
        ge=0,
        le=1,
        since_stage=1,
    )
    incremental: float = param(
        0.05,
        "weight of the joint rows' pseudo-labels; 0 is RankStats without +",
        ge=0,
        ablate=[0.0],
        since_stage=1,
    )

    def discover(self, stage: Stage, items: Items, novel: int) -> None:
        """Train both heads."""
        network = self.network.freeze(self.trainable)
        self.initial = network.classes
        network.widen(self.initial + novel)
        with drawn_from(self.context, "pair-head"):
            pairs = nn.Linear(network.dimensions, novel).to(self.context.device)
        self.weight, self.bias = (
            pairs.weight.detach(),
            pairs.bias.detach(),
        )  # the same memory: they train along
        augment, generator = augmentation_of(self.context.augmentations), generator_of(self.context, "views")

        def loss(batch: Batch) -> Tensor:
            network.at_unit_length()
            features = [network(augment(batch.inputs, generator)) for _ in range(2)]
            joint = [network.scores(each).known.float() / self.tau for each in features]
            novel_answers = [softmax(pairs(each).float(), dim=1) for each in features]
            given = batch.labels != HIDDEN
            rising = ramp(batch.done, self.ramp)
            views = (novel_answers, [softmax(each, dim=1) for each in joint])
            value = (
                self.consistency
                * rising
                * torch.stack([(first - second).square().mean() for first, second in views]).sum()
            )
            if given.any():
                value = value + cross_entropy(joint[0][given], batch.labels[given])
            if not given.all():
                same = rank_pairs(features[0][~given].detach(), top=min(self.top, network.dimensions))
                value = value + pair_cross_entropy(novel_answers[0][~given], novel_answers[1][~given], same)
                guessed = novel_answers[0][~given].argmax(dim=1) + self.initial
                value = value + self.incremental * rising * cross_entropy(joint[0][~given], guessed)
            return value

        optimiser = self.new_optimiser(stage.index)
        optimiser.add_param_group({"params": list(pairs.parameters())})
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
        """Return known rows and the pair head; over all classes the joint rows count."""
        joint = self.network.scores(features).known
        return Rows(joint[:, : self.initial], linear(features, self.weight, self.bias)[None], joint)
