"""UNO: one softmax over known and novel classes, pseudo-labels for unlabelled items from their other view
(Fini et al., ICCV 2021).

Novel rows share a head; Sinkhorn, or another `assignment`, evens out what the items of a batch are to answer.
"v2", the released code, is followed: several heads, and a second set of heads with finer rows
(over-clustering). The head that answers is the one whose loss was smallest; the code resets that sum every
epoch, Cr-KD's never does (`head_choice`). No item is asked which head is best.

A batch should hold at least 2.5 unlabelled items for every novel class, or an even assignment means little;
`queue` adds earlier items.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from harness.clustering import kmeans
from harness.contracts import HIDDEN, Context, Stage, param
from harness.errors import UserError
from strategies.assignment.rules import Named, assignment_of
from strategies.ncd import losses
from strategies.ncd.base import NovelClasses, Rows
from strategies.ncd.network import HeadSizes, NovelHead, Prototypes, Scores
from strategies.toolkit.augmentations import augmentation_of, generator_of
from strategies.toolkit.discovery.split_network import Previous
from strategies.toolkit.discovery.two_views import CachedViews
from strategies.toolkit.training.loop import Batch, train
from strategies.toolkit.training.tensors import Items


class Seen(NamedTuple):
    """One training batch: what the frozen parts made of every view, the scores of every view, and which items
    have no label, bool (B,).

    before: features (B, d) of every view by the cached teacher, from the feature cache; empty
    without one.
    """

    hidden: list[Tensor]
    scores: list[Scores]
    unlabelled: Tensor
    before: list[Tensor]


class UNO(NovelClasses):
    """A unified objective for known and novel classes: labels and swapped Sinkhorn assignments through the
    same cross-entropy.
    """

    heads: int = param(4, "heads for novel classes", ge=1, ablate=[1, 2], since_stage=1)
    width: int = param(
        256, "hidden units of a head's projector (published 2048)", ge=1, unit="units", since_stage=1
    )
    out: int = param(64, "outputs of a head's projector (published 256)", ge=1, unit="units", since_stage=1)
    overcluster: int = param(
        3,
        "finer prototypes for every novel class in a second set of heads; 0 for none (published 3, 4, 5 or 10)",
        ge=0,
        ablate=[0],
        since_stage=1,
    )
    epsilon: float = param(0.05, "sharpness of the assignment", gt=0, ablate=[0.1], since_stage=1)
    iterations: int = param(
        3, "rounds of Sinkhorn, where assignment does not say them", ge=1, ablate=[1, 10], since_stage=1
    )
    assignment: Named = param(
        "sinkhorn",
        "how unlabelled items get soft labels: sinkhorn, entropic, relaxed, sparse, frequency or softmax, with "
        "parameters in brackets",
        ablate=["entropic", "relaxed"],
        since_stage=1,
    )
    queue: int = param(
        0,
        "unlabelled items of earlier batches that join a batch where it is assigned",
        ge=0,
        unit="items",
        since_stage=1,
    )
    targets: Literal["novel", "all"] = param(
        "novel",
        "prototypes that unlabelled items may get: novel ones, or all where there are "
        "known classes among them (GCD)",
        since_stage=1,
    )
    initialise: Literal["random", "k-means"] = param(
        "random",
        "novel prototypes at the start: random, or clusters of stage 0's features",
        ablate=["k-means"],
        since_stage=1,
    )
    head_choice: Literal["last-epoch", "whole-stage", "first"] = param(
        "last-epoch",
        "the head that answers: the one with the smallest loss over that time, or the first",
        since_stage=1,
    )
    small_views: int = param(
        0,
        "further views that are predicted and give no targets (published 2)",
        ge=0,
        ablate=[2],
        since_stage=1,
    )
    small_view: str = param("resized-crop[low=0.3,high=0.8]", "what these look like", since_stage=1)
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

    later: ClassVar[tuple[str, ...]] = ("assignment",)

    def start(self, context: Context) -> None:
        """Make ready for stage 0.

        Raises:
            UserError: small views, which a feature cache does not hold, beside one.
        """
        if self.cached_views and self.small_views:
            raise UserError("the feature cache holds large views only: set small_views=0, or cached_views=0")
        super().start(context)

    def discover(self, stage: Stage, items: Items, novel: int) -> None:
        """Train on labels and swapped assignments."""
        stage_items = self.mixed(items)
        sizes = HeadSizes(self.heads, self.width, self.out, novel, self.overcluster)
        network = self.network.freeze(self.trainable).grow(sizes)
        self.best = 0
        if self.initialise == "k-means":
            self._start_at_clusters(items, novel)
        look = self.looker(stage_items)
        queued: list[Tensor | None] = [None, None]
        sums = torch.zeros(self.heads)

        def loss(batch: Batch) -> Tensor:
            network.at_unit_length()
            hidden, before = look(batch)
            seen = Seen(
                hidden,
                [network.scores(network.features(each)) for each in hidden],
                batch.labels == HIDDEN,
                before,
            )
            known = torch.stack([scores.known for scores in seen.scores])
            each = self.swapped_loss(
                known, torch.stack([scores.novel for scores in seen.scores]), batch.labels, queued, 0
            )
            sums.add_(each.detach().cpu())
            value = each.mean()
            if self.overcluster:
                over = torch.stack([scores.over for scores in seen.scores if scores.over is not None])
                value = (value + self.swapped_loss(known, over, batch.labels, queued, 1).mean()) / 2
            return value + self.auxiliary_loss(seen, batch.done)

        def chosen(_: int) -> None:
            if self.head_choice == "last-epoch":
                sums.zero_()

        train(
            network,
            stage_items,
            loss,
            self.new_optimiser(stage.index),
            self.context,
            schedule=self.schedule(stage.index),
            rate_changes=self.rate_changes,
            at_epoch=chosen,
        )
        self.best = 0 if self.head_choice == "first" else int(sums.argmin())

    def auxiliary_loss(self, seen: Seen, done: float) -> Tensor:
        """Return what a method adds to the loss, a scalar; nothing here. `done` is the share of the stage
        behind.
        """
        return seen.scores[0].known.new_zeros(())

    def cached_teacher(self) -> Previous | None:
        """Return a network whose features of cached views are kept with them, for it does not change; none
        here.
        """
        return None

    def rows(self, inputs: Tensor, features: Tensor) -> Rows:
        """Return the scores of all heads, the best first."""
        scores = self.network.scores(features)
        order = [self.best, *(head for head in range(self.heads) if head != self.best)]
        return Rows(scores.known, scores.novel[order])

    def looker(self, items: Items) -> Callable[[Batch], tuple[list[Tensor], list[Tensor]]]:
        """Return what shows a batch: hidden values of all views, the large ones first, and what is remembered
        of them.
        """
        network, generator, large = (
            self.network,
            generator_of(self.context, "views"),
            augmentation_of(self.context.augmentations),
        )
        if self.cached_views:
            cached = CachedViews(
                network,
                items.inputs,
                large,
                generator,
                self.cached_views,
                self.cached_teacher(),
                budget_mib=self.cache_mib,
            )

            def kept(batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
                pair = cached.pair(batch.inputs, batch.rows)
                return list(pair.hidden.chunk(2)), [] if pair.before is None else list(pair.before.chunk(2))

            return kept
        views = [large, large, *[augmentation_of(self.small_view)] * self.small_views]
        return lambda batch: ([network.hidden(view(batch.inputs, generator)) for view in views], [])

    def swapped_loss(
        self, known: Tensor, novel: Tensor, labels: Tensor, queued: list[Tensor | None], place: int
    ) -> Tensor:
        """Return the loss of every head (H,); known (V, B, Cl), novel (V, H, B, K)."""
        joint = torch.cat([known[:, None].expand(-1, novel.shape[1], -1, -1), novel], dim=-1)
        ours = joint if self.targets == "all" else novel
        targets = losses.joint_targets(
            novel[:2].detach(),
            labels,
            known.shape[-1],
            partial(assignment_of(self.assignment, rounds=self.iterations), epsilon=self.epsilon),
            among_all=joint[:2].detach() if self.targets == "all" else None,
            queue=queued[place],
        )
        if self.queue:
            fresh = ours[:2, :, labels == HIDDEN].detach()
            earlier = queued[place]
            queued[place] = (fresh if earlier is None else torch.cat([fresh, earlier], dim=2))[
                :, :, : self.queue
            ]
        return losses.swapped_prediction(joint / self.tau, targets)

    @torch.no_grad()
    def _start_at_clusters(self, items: Items, novel: int) -> None:
        """Set every head's prototypes to where its projector puts the clusters of the unlabelled items."""
        inputs = items.inputs[items.labels == HIDDEN]
        if len(inputs) < 2:  # no cluster, and nothing for batch norm to go by
            return
        features = self.features_of(self.network, inputs)
        points = normalize(features, dim=1).cpu().numpy()
        labels = torch.from_numpy(
            kmeans(points, min(novel, len(points)), self.context.stream("clusters")).labels
        ).to(features.device)
        for head in self.network.novel:
            assert isinstance(head, NovelHead)
            *projector, prototypes = head
            assert isinstance(prototypes, Prototypes)
            projected = normalize(nn.Sequential(*projector)(features), dim=1)
            sums = torch.zeros_like(prototypes.weight).index_add_(0, labels, projected)
            used = torch.bincount(labels, minlength=novel) > 0
            prototypes.weight[used] = sums[used]
            prototypes.at_unit_length()
