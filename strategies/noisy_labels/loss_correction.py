"""Loss correction with a transition matrix, told by the protocol or estimated from anchors (Patrini et al.
2017).

Estimated: the network is trained with cross-entropy for the first part of the stage; T[i] is then what it
predicts for an anchor of class i, the item of which it is surest (or surest but for the top few per cent).
The paper trains a second network from the start; here the same one goes on, which lets the method take part
in streams.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness.contracts import Stage, param
from harness.errors import Unsuitable
from strategies.components.chain import with_components
from strategies.noisy_labels.base import LabelLearner
from strategies.toolkit.augmentations import augmenting
from strategies.toolkit.losses.robust import backward_corrected, forward_corrected
from strategies.toolkit.training.loop import train
from strategies.toolkit.training.tensors import Items


def anchor_matrix(probabilities: Tensor, quantile: float) -> Tensor:
    """Return T^ (C, C): row i is the prediction for class i's anchor (released loss-correction code).

    Args:
        probabilities: (N, C) of a network that was trained on the labels as they are.
        quantile: the anchor is the surest item below this quantile of class i's probabilities; 1 for the
            surest of all.
    """
    chances = probabilities.cpu().numpy()
    rows = []
    for place in range(chances.shape[1]):
        own = chances[:, place].copy()
        if quantile < 1:
            own[own >= np.quantile(own, quantile, method="higher")] = 0.0
        rows.append(int(own.argmax()))
    return probabilities[rows]


class LossCorrection(LabelLearner):
    """Teach the network how labels come about: correct the loss by the transition matrix."""

    offers: ClassVar[frozenset[str]] = LabelLearner.offers | {"own-step"}

    matrix: Literal["estimated", "told"] = param(
        "estimated", "where T comes from; told is the true one, an oracle that the protocol has to reveal"
    )
    direction: Literal["forward", "backward"] = param(
        "forward", "corrupt the prediction, or set the loss right", ablate=["backward"]
    )
    quantile: float = param(
        1.0,
        "anchors are the surest items below this quantile (published 1, or 0.97 for CIFAR-100)",
        gt=0,
        le=1,
        ablate=[0.97],
    )
    estimate_share: float = param(0.15, "share of the training that comes before the estimate", gt=0, lt=1)

    def fit(self, stage: Stage, items: Items, first: int) -> None:
        """Train with the corrected loss; without a matrix, with cross-entropy first."""
        model, epochs = self.models[0], self.context.epochs
        optimiser, augment = self.new_optimiser(), augmenting(self.context)
        corrected = forward_corrected if self.direction == "forward" else backward_corrected
        before = 0
        if self.matrix == "told":
            if stage.noise_info is None or stage.noise_info.matrix is None:
                raise Unsuitable(
                    "needs the transition matrix, which this protocol does not tell (told=matrix)"
                )
            matrix = torch.from_numpy(stage.noise_info.matrix).to(items.inputs.device)
        else:
            before = min(max(1, round(self.estimate_share * epochs)), epochs)
            loss, before_step = with_components(
                self.models, lambda batch: cross_entropy(model(batch.inputs), batch.labels)
            )
            train(
                model,
                items,
                loss,
                optimiser,
                self.context,
                augment=augment,
                epochs=before,
                before_step=before_step,
            )
            matrix = anchor_matrix(model.evaluated(items.inputs).softmax(dim=1), self.quantile)
        loss, before_step = with_components(
            self.models, lambda batch: corrected(model(batch.inputs), batch.labels, matrix).mean()
        )
        train(
            model,
            items,
            loss,
            optimiser,
            self.context,
            augment=augment,
            before_step=before_step,
            epochs=epochs - before,
            first_epoch=before,
            schedule=self.rates(),
            rate_changes=self.rate_changes,
        )
