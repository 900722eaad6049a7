"""DivideMix: sort labels into right and wrong by their losses, then learn from the wrong half as if it had
none (Li et al. 2020).

After a warm-up on the labels as they are, each epoch fits two Gaussians to every network's losses; what lies
with the smaller mean is taken for right by the OTHER network. Right labels are mixed with the network's own
opinion, the others replaced by that of both; then everything goes through mixup (MixMatch). Followed is the
released code at d9d3058. Differences: an epoch has as many steps as the protocol's batches over the stage
(there: as the labelled part has), both networks step in turn within a batch, and where the protocol has no
augmentation, an item is seen once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from harness.contracts import IntArray, Stage, param
from harness.errors import UserError
from strategies.noisy_labels.base import LabelLearner, Networks
from strategies.toolkit.augmentations import Same, augmentation_of, augmenting
from strategies.toolkit.losses.robust import cross_entropy, sharpened, soft_cross_entropy
from strategies.toolkit.training.loop import Batch, train
from strategies.toolkit.training.tensors import Items


def chance_of_right(losses: Tensor) -> Tensor:
    """Return P(label is right) for losses (N,): the share of the component with the smaller mean in a mixture
    of two Gaussians.

    Losses are scaled to [0, 1] first; scikit-learn's mixture has the code's settings: 10 iterations,
    tolerance 0.01, variances plus 5e-4.
    """
    import warnings

    from sklearn.mixture import GaussianMixture

    values = losses.double().cpu().numpy()
    span = max(float(np.ptp(values)), 1e-12)
    scaled = ((values - values.min()) / span)[:, None]
    mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ten iterations seldom converge; the code does not mind either
        chances = mixture.fit(scaled).predict_proba(scaled)
    return torch.from_numpy(chances[:, mixture.means_.argmin()]).float().to(losses.device)


class DivideMix(LabelLearner):
    """Two networks sort each other's labels and learn half supervised, half semi-supervised."""

    offers: ClassVar[frozenset[str]] = frozenset({"network", "rates"})

    warmup: float = param(
        0.1, "share of the training on the labels as they are (published 10 or 30 of 300 epochs)", gt=0, lt=1
    )
    confidence_penalty: bool = param(
        False, "whether warm-up rewards unsure predictions, for asymmetric noise", ablate=[True]
    )
    threshold: float = param(0.5, "chance above which a label is taken for right", gt=0, lt=1)
    temperature: float = param(0.5, "guessed labels are sharpened by it", gt=0, le=1, ablate=[1.0])
    alpha: float = param(4.0, "of Beta(alpha, alpha) for mixup", gt=0)
    unlabelled: float = param(25.0, "weight of the unlabelled part (published 0 to 150)", ge=0, ablate=[0.0])
    unlabelled_ramp: int = param(16, "epochs after warm-up over which that weight rises", ge=1, unit="epochs")
    balance: float = param(
        1.0, "weight of the divergence of the mean prediction from uniform", ge=0, ablate=[0.0]
    )

    def setup(self) -> None:
        """Make the networks; no label has been judged."""
        super().setup()
        self.right = torch.zeros(0)

    def new_networks(self) -> Networks:
        """Return two networks with weights of their own."""
        return Networks(self.network(place) for place in range(2))

    def fit(self, stage: Stage, items: Items, first: int) -> None:
        """Warm up, then divide and mix."""
        epochs = self.context.epochs
        before = max(1, round(self.warmup * epochs))
        optimiser, module = self.new_optimiser(), self.models.module()

        def warm(batch: Batch) -> Tensor:
            logits = [model(batch.inputs) for model in self.models]
            losses = torch.stack([cross_entropy(own, batch.labels).mean() for own in logits]).sum()
            if self.confidence_penalty:
                losses = (
                    losses
                    - torch.stack(
                        [soft_cross_entropy(own, own.softmax(dim=1)).mean() for own in logits]
                    ).sum()
                )
            return losses

        train(
            module,
            items,
            warm,
            optimiser,
            self.context,
            augment=augmenting(self.context, "views-warm-up"),
            epochs=before,
        )
        mixing = Mixing(self, stage, items)

        def loss(batch: Batch) -> Tensor:
            passed = batch.done * (epochs - before)
            weight = self.unlabelled * min(passed / self.unlabelled_ramp, 1.0)
            return torch.stack([mixing.loss(place, len(batch.rows), weight) for place in range(2)]).sum()

        if epochs > before:
            train(
                module,
                items,
                loss,
                optimiser,
                self.context,
                epochs=epochs - before,
                first_epoch=before,
                schedule=self.rates(),
                rate_changes=self.rate_changes,
                at_epoch=lambda _: mixing.divide(),
            )
        judged = torch.stack(
            [
                chance_of_right(cross_entropy(model.evaluated(items.inputs), items.labels))
                for model in self.models
            ]
        ).mean(dim=0)
        self.right = torch.cat([self.right, judged.cpu()])

    def judge_labels(self, logits: Tensor, labels: Tensor, rows: IntArray) -> tuple[Tensor, Tensor]:
        """Doubt labels by the mixtures of both networks at the end of their stage; before that, not at all."""
        known = torch.cat([self.right, torch.ones(len(self.handed) - len(self.right))])[rows]
        return 1 - known, known > self.threshold


class Mixing:
    """The state of the semi-supervised part of one stage."""

    def __init__(self, learner: DivideMix, stage: Stage, items: Items) -> None:
        self.learner, self.items, self.classes = learner, items, stage.named_classes
        augment, repeats = (
            augmenting(learner.context),
            1 if isinstance(augmentation_of(learner.context.augmentations), Same) else 2,
        )
        self.augmented: Callable[[Tensor], list[Tensor]] = lambda inputs: [
            augment(inputs) for _ in range(repeats)
        ]
        self.rng = learner.context.stream("mixing")
        self.right: list[Tensor] = []
        self.draws: list[tuple[Draws, Draws | None]] = []

    def divide(self) -> None:
        """Let every network judge all labels, for the other one.

        Raises:
            UserError: not a single label looks right.
        """
        inputs, labels = self.items
        judged = [
            chance_of_right(cross_entropy(model.evaluated(inputs), labels)) for model in self.learner.models
        ]
        self.right = judged[::-1]
        self.draws = []
        for chances in self.right:
            sure = chances > self.learner.threshold
            if not sure.any():
                raise UserError(
                    f"no label is taken for right at threshold={self.learner.threshold:g}; lower it, or "
                    "warm up for longer"
                )
            self.draws.append((Draws(sure, self.rng), Draws(~sure, self.rng) if not sure.all() else None))

    def loss(self, place: int, size: int, weight: float) -> Tensor:
        """Return the loss of one network on `size` labelled and as many unlabelled items."""
        learner, model = self.learner, self.learner.models[place]
        labelled, unlabelled = self.draws[place]
        rows = labelled.take(size)
        views = self.augmented(self.items.inputs[rows])
        trust = self.right[place][rows][:, None]
        with torch.no_grad():
            own = torch.stack([model(view).softmax(dim=1) for view in views]).mean(dim=0)
            refined = trust * one_hot(self.items.labels[rows], self.classes) + (1 - trust) * own
            inputs, targets = views, [sharpened(refined, learner.temperature)] * len(views)
            if unlabelled is not None:
                hidden = self.augmented(self.items.inputs[unlabelled.take(size)])
                guesses = torch.stack(
                    [peer(view).softmax(dim=1) for peer in learner.models for view in hidden]
                ).mean(dim=0)
                inputs, targets = (
                    inputs + hidden,
                    targets + [sharpened(guesses, learner.temperature)] * len(hidden),
                )
        everything, wanted = torch.cat(inputs), torch.cat(targets)
        share = float(self.rng.beta(learner.alpha, learner.alpha))
        share = max(share, 1 - share)
        other = torch.from_numpy(self.rng.permutation(len(everything))).to(everything.device)
        logits = model(share * everything + (1 - share) * everything[other])
        wanted = share * wanted + (1 - share) * wanted[other]
        split = len(views) * size
        value = soft_cross_entropy(logits[:split], wanted[:split]).mean()
        p = logits.softmax(dim=1)
        if unlabelled is not None:
            value = value + weight * (p[split:] - wanted[split:]).square().mean()
        mean = p.mean(dim=0)
        total: Tensor = value - learner.balance * (mean.clamp_min(1e-12) * self.classes).log().mean()
        return total


class Draws:
    """The chosen rows in random order, again and again."""

    def __init__(self, chosen: Tensor, rng: np.random.Generator) -> None:
        self.rows, self.rng = torch.nonzero(chosen)[:, 0], rng
        self.waiting = self.rows[:0]

    def take(self, size: int) -> Tensor:
        """Return the next `size` rows."""
        while len(self.waiting) < size:
            order = torch.from_numpy(self.rng.permutation(len(self.rows))).to(self.rows.device)
            self.waiting = torch.cat([self.waiting, self.rows[order]])
        taken, self.waiting = self.waiting[:size], self.waiting[size:]
        return taken
