"""FerKD: soft labels of teachers for every view of an item, calibrated where the teachers are unsure of it (Shen 2023,
arXiv 2312.17473).

With p the teachers' mean probabilities of a view and c the largest of them, the target is p where c >= low; (1 - s)
onehot(y) + s / C where drop <= c < low; the view is left out where c < drop, and the loss is the mean over the others.
SelfMix pastes a box of a second view of the same image into the first: lambda is uniform, the box takes sqrt(1 -
lambda) of each side around a random place and is clipped, and the target is lambda' q1 + (1 - lambda') q2 with lambda'
the share that is kept. The released folder has the trainer that FerKD builds on and none of its own code: followed is
the paper's text. Its thresholds are not known here. Under wrong labels the softened label is the wrong one, and falls
on the items where teachers that stopped early resist it; `context=uniform` puts 1 / C in its place.

Teachers are those of `early-teacher`, asked for every view instead of once for stored crops. `top` keeps the k largest
values and shares the rest equally, as FKD stores them. Several views an item and step are not built.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from harness.contracts import param
from harness.errors import Unsuitable
from strategies.components.contract import Task
from strategies.components.early_teacher import EarlyTeacher
from strategies.toolkit.augmentations import augmentation_of, generator_of
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.training.loop import Batch


def calibrated(
    p: Tensor, labels: Tensor, *, low: float, drop: float, smoothing: float, uniform: bool = False
) -> tuple[Tensor, Tensor]:
    """Return targets (B, C), and whether a view counts (B,).

    Args:
        p: probabilities (B, C).
        labels: (B,).
        low, drop: confidences from which p stands, and from which the label does.
        smoothing: share of a label's target that all classes have in common.
        uniform: whether all of it is.
    """
    sure, classes = p.amax(dim=1), p.shape[1]
    share = 1.0 if uniform else smoothing
    softened = (1 - share) * one_hot(labels, classes).to(p.dtype) + share / classes
    return torch.where((sure >= low)[:, None], p, softened), sure >= drop


def largest(p: Tensor, kept: int) -> Tensor:
    """Return p (B, C) with all but its `kept` largest values replaced by their mean."""
    values, places = p.topk(kept, dim=1)
    rest = (1 - values.sum(dim=1, keepdim=True)) / (p.shape[1] - kept)
    return rest.expand_as(p).scatter(1, places, values)


def box(rng: np.random.Generator, height: int, width: int) -> tuple[slice, slice, float]:
    """Return rows and columns of a box, and the share of the image outside it."""
    cut = (1 - rng.uniform()) ** 0.5
    sides, centre = (int(height * cut), int(width * cut)), (rng.integers(height), rng.integers(width))
    rows, columns = (
        slice(max(0, int(at) - side // 2), min(size, int(at) + side // 2))
        for at, side, size in zip(centre, sides, (height, width), strict=True)
    )
    inside = (rows.stop - rows.start) * (columns.stop - columns.start)
    return rows, columns, 1 - inside / (height * width)


class RegionLabels(EarlyTeacher):
    """Learn from soft labels of teachers for every view, and from softened labels where they are unsure."""

    low: float = param(
        0.5, "confidence of the teachers from which their label stands", ge=0, le=1, ablate=[0.0, 0.3, 0.7]
    )
    drop: float = param(0.0, "confidence below which a view is left out", ge=0, le=1, ablate=[0.2])
    smoothing: float = param(0.1, "share of a softened label that all classes have in common", ge=0, le=1)
    uniform: bool = param(
        False, "whether all of it is, so that a label that may be wrong says nothing", ablate=[True]
    )
    top: int = param(
        0, "values of a soft label that are kept, the rest being shared equally; 0 for all", ge=0
    )
    selfmix: float = param(
        0.0, "chance of a batch that a second view of each image is pasted into it", ge=0, le=1, ablate=[1.0]
    )

    def begin(self, task: Task) -> int:
        """Train the teachers.

        Raises:
            Unsuitable: no pass would be left for the learner, or views are to be pasted that are no images.
        """
        if self.selfmix and len(task.network.item_shape) != 3:
            raise Unsuitable(
                f"has items of shape {task.network.item_shape}, and selfmix of component {self.name} needs images"
            )
        self.items, self.augment = task.items, augmentation_of(self.context.augmentations)
        return super().begin(task)

    def change(self, network: Classifier, batch: Batch) -> Batch:
        """Return the batch with targets, pasted boxes, and weight zero for views that are left out."""
        targets, counts = self._labelled(batch.inputs, batch.labels)
        rng = self.stream(f"boxes-{batch.step}") if self.selfmix else None
        if rng is not None and rng.uniform() < self.selfmix:
            draws = generator_of(self.context, f"{self.stream_name}-views-{batch.step}")
            second = self.augment(self.items.inputs[batch.rows], draws)
            rows, columns, kept = box(rng, *batch.inputs.shape[-2:])
            others, count_too = self._labelled(second, batch.labels)
            mixed = batch.inputs.clone()
            mixed[..., rows, columns] = second[..., rows, columns]
            batch = batch._replace(inputs=mixed)
            targets, counts = kept * targets + (1 - kept) * others, counts & count_too
        batch = batch._replace(targets=targets)
        if not self.drop:
            return batch
        return batch._replace(weights=counts * len(counts) / counts.sum().clamp_min(1))

    def _labelled(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        p = self.probabilities(inputs)
        return calibrated(
            largest(p, self.top) if 0 < self.top < p.shape[1] else p,
            labels,
            low=self.low,
            drop=self.drop,
            smoothing=self.smoothing,
            uniform=self.uniform,
        )
