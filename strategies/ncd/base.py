"""What the learners of novel class discovery share: known classes from labels first, then labelled and
unlabelled items together.

Stage 0 trains backbone and known prototypes by cross-entropy on two views (UNO's and Cr-KD's first stage).
Its parameters are declared here
and nowhere else, and no learner that builds on this one replaces a method of it but the abstract ones, so all
share stage 0: the harness trains it once. What a learner of stage 1 remembers is set in `discover`, before it
trains, for it may be asked in the middle.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness.clustering import k_by_silhouette
from harness.contracts import HIDDEN, Prediction, Query, Stage, Strategy, param
from harness.errors import Diverged, Unsuitable
from strategies.ncd import losses
from strategies.ncd.network import NovelNetwork
from strategies.toolkit.augmentations import augmenting
from strategies.toolkit.discovery.split_network import Trainable
from strategies.toolkit.training.eval_mode import eval_mode, of_some_length
from strategies.toolkit.training.loop import Batch, RateChanges, Schedule, sgd, train
from strategies.toolkit.training.tensors import Items, as_tensor, items_of


class Rows(NamedTuple):
    """What a learner makes of items; larger is likelier.

    known (N, Cl) cosines; novel (H, N, Cu), the chosen head first; joint (N, C) where rows of both are
    compared by other figures than these.
    """

    known: Tensor
    novel: Tensor
    joint: Tensor | None = None


class NovelClasses(Strategy):
    """Base of the learners that find novel classes beside known ones."""

    first_lr: float = param(0.1, "learning rate of stage 0", gt=0)
    momentum: float = param(0.9, "momentum of the gradient steps", ge=0, lt=1)
    weight_decay: float = param(1.5e-4, "weight decay", ge=0)
    tau: float = param(0.1, "temperature of all answers", gt=0)
    warmup: float = param(0.1, "share of a stage over which the learning rate rises", ge=0, lt=1)
    floor: float = param(0.01, "what the learning rate falls to, as a share of where it begins", ge=0, le=1)
    rate_changes: RateChanges = param(
        "step", "when the rate changes: at every step, or between epochs as in released code"
    )
    optimiser: Literal["sgd", "adamw"] = param(
        "sgd", "gradient steps with momentum, or AdamW (decoupled decay, betas momentum and 0.999)"
    )

    lr: float = param(0.1, "learning rate of stage 1", gt=0, since_stage=1)
    later_weight_decay: float = param(
        -1.0, "weight decay of stage 1; negative for that of stage 0", ge=-1, since_stage=1
    )
    later_warmup: float = param(
        -1.0, "warmup of stage 1; negative for that of stage 0", ge=-1, lt=1, since_stage=1
    )
    later_floor: float = param(
        -1.0, "floor of stage 1; negative for that of stage 0", ge=-1, le=1, since_stage=1
    )
    trainable: Trainable = param(
        "all",
        "parts of the backbone that train in stage 1: all, the last, or none (head)",
        ablate=["last", "head"],
        since_stage=1,
    )
    mix: Literal["concat", "even"] = param(
        "concat",
        "labelled and unlabelled items together as they are, or the fewer of them "
        "repeated until there are as many",
        ablate=["even"],
        since_stage=1,
    )
    search: int = param(30, "most novel classes tried where their number is unknown", ge=1, since_stage=1)

    shares_first_stage: ClassVar[bool] = True

    def setup(self) -> None:
        """Make an empty network; nothing is known."""
        self.network, self.before = NovelNetwork(self.context), NovelNetwork(self.context)

    def learn(self, stage: Stage) -> None:
        """Learn the known classes, or look for novel ones; raise `Unsuitable` as `suit` does."""
        self.suit(stage)
        items = items_of(stage, self.context)
        if stage.index == 0:
            self.network.build(tuple(items.inputs.shape[1:]), stage.named_classes)
            self.train_labelled(items, stage.index)
        else:
            self.before.load_state_dict(self.network.state_dict())
            self.discover(stage, items, self.count_novel(stage, items))

    def suit(self, stage: Stage) -> None:
        """Check that the stage is of the kind that is learnt from.

        Raises:
            Unsuitable: hidden labels in stage 0, none or nothing else in stage 1, or a third stage.
        """
        hidden = stage.labels == HIDDEN
        if stage.index == 0 and hidden.any():
            raise Unsuitable("learns known classes from labels, and stage 0 hides some")
        if stage.index and (stage.index > 1 or not hidden.any() or hidden.all()):
            raise Unsuitable(
                "finds novel classes in one later stage that hands over labelled and unlabelled items together"
            )

    @abstractmethod
    def discover(self, stage: Stage, items: Items, novel: int) -> None:
        """Learn stage 1: `items` of which those with label `HIDDEN` are not labelled, and the number of novel
        classes.
        """

    @abstractmethod
    def rows(self, inputs: Tensor, features: Tensor) -> Rows:
        """Return what the learner makes of items after stage 1: inputs (N, ...), features (N, d) by the
        network.
        """

    def predict(self, query: Query) -> Prediction:
        """Answer over all rows, and over known and novel ones apart."""
        with eval_mode(self.network):
            return self._answered(as_tensor(query.inputs, self.context.device))

    def _answered(self, inputs: Tensor) -> Prediction:
        features = self.features_of(self.network, inputs)
        if not self.before.item_shape:
            known = self.network.scores(features).known.argmax(dim=1).cpu().numpy()
            return Prediction(classes=known, among_known=known)
        rows = self.rows(inputs, features)
        if not (rows.known.isfinite().all() and rows.novel.isfinite().all()):
            raise Diverged("the answers are not finite")
        classes = (
            torch.cat([rows.known, rows.novel[0]], dim=1) if rows.joint is None else rows.joint
        ).argmax(dim=1)
        taught = self.before.scores(self.features_of(self.before, inputs)).known
        shift = losses.relation_shift(rows.known, taught, tau=self.tau)
        return Prediction(
            classes=classes.cpu().numpy(),
            among_known=rows.known.argmax(dim=1).cpu().numpy(),
            among_novel=rows.novel.argmax(dim=2).T.cpu().numpy(),
            relation_shift=shift.cpu().numpy(),
        )

    def features_of(self, network: NovelNetwork, inputs: Tensor, *, chunk: int = 512) -> Tensor:
        """Return the features (N, d) of inputs as they are, in evaluation mode; raise `Diverged` as
        `of_some_length` does.
        """
        with eval_mode(network):
            return of_some_length(torch.cat([network(part) for part in torch.split(inputs, chunk)]))

    def count_novel(self, stage: Stage, items: Items) -> int:
        """Return how many classes are novel: what is told, or where the silhouette of clustering the
        unlabelled items is largest.
        """
        if stage.new_classes is not None:
            return stage.new_classes
        features = self.features_of(self.network, items.inputs[items.labels == HIDDEN]).cpu().numpy()
        candidates = range(2, min(self.search, len(features) - 1) + 1)
        return k_by_silhouette(features, candidates, self.context.stream("count"))[0] if candidates else 1

    def mixed(self, items: Items) -> Items:
        """Return the items of stage 1 in the proportion that `mix` says."""
        if self.mix == "concat":
            return items
        parts = [torch.nonzero(chosen)[:, 0] for chosen in (items.labels != HIDDEN, items.labels == HIDDEN)]
        most = max(map(len, parts))
        rows = torch.cat([part.repeat(-(-most // len(part)))[:most] for part in parts])
        return Items(items.inputs[rows], items.labels[rows])

    def schedule(self, stage: int) -> Schedule:
        """Return the learning rate over a stage, as a factor on where it begins."""
        warmup, floor = self._own("warmup", stage), self._own("floor", stage)
        return lambda done: losses.warm_cosine(done, warmup=warmup, floor=floor)

    def new_optimiser(self, stage: int) -> torch.optim.Optimizer:
        """Return what steps the weights that train in a stage."""
        weights = (weight for weight in self.network.parameters() if weight.requires_grad)
        lr, decay = self.lr if stage else self.first_lr, self._own("weight_decay", stage)
        if self.optimiser == "adamw":
            return torch.optim.AdamW(
                weights, lr=lr, betas=(self.momentum, 0.999), weight_decay=decay, fused=True
            )
        return sgd(weights, lr=lr, momentum=self.momentum, weight_decay=decay)

    def train_labelled(self, items: Items, stage: int) -> None:
        """Train backbone and prototypes by cross-entropy on two views of the labelled items of a stage."""
        network = self.network
        augment = augmenting(self.context)

        def loss(batch: Batch) -> Tensor:
            network.at_unit_length()
            each = [network.scores(network(augment(batch.inputs))).known.float() / self.tau for _ in range(2)]
            return torch.stack([cross_entropy(logits, batch.labels) for logits in each]).mean()

        train(
            network,
            items,
            loss,
            self.new_optimiser(stage),
            self.context,
            schedule=self.schedule(stage),
            rate_changes=self.rate_changes,
        )

    def _own(self, name: str, stage: int) -> float:
        """Return a setting of a stage."""
        later = getattr(self, f"later_{name}")
        return float(later if stage and later >= 0 else getattr(self, name))
