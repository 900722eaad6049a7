"""What all grokking learners share: the protocol's network on pairs of residues, one loss, one optimiser, and
a look at its own health.

A remedy is a subclass that changes one thing: the optimiser, the loss, what happens to gradients, or what
happens after training. Cells that differ in seed, labels, rates or dropout are trained at once
(`learn_together`); alone or together, each draws from its own streams.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from harness.contracts import HIDDEN, AnyArray, Inputs, Observation, Prediction, Query, Stage, Strategy, param
from harness.errors import Unsuitable, UserError
from harness.metrics.grokking import HEALTH
from strategies.grokking.choosing import Norm, network_of
from strategies.grokking.dropout import dropout_of
from strategies.grokking.engine import Ensemble, LastStep, fit
from strategies.grokking.losses import Bits, Loss, collapsed, losses_and_gradient
from strategies.grokking.networks import Network, Objective, Weights, place, stacked
from strategies.grokking.optimisers import AdamW, Optimiser
from strategies.grokking.pruning import neuron_rows
from strategies.grokking.quadratic import Products, Quadratic
from strategies.grokking.transforms import Transform, transforms_of
from strategies.toolkit.label_memory import LabelMemory
from strategies.toolkit.training.tensors import as_array

SMALLEST_LOSS = 1e-40
"""Losses below it are told as this: the suspicion is their decimal logarithm."""

LARGEST_LOSS = 65504.0
"""The largest number of float16, in which losses are kept."""


class Seat(NamedTuple):
    """Where a learner sits while it trains."""

    ensemble: Ensemble
    at: int


class Grokker(Strategy):
    """A network on pairs, trained by AdamW."""

    lr: float = param(0.01, "learning rate", gt=0)
    lr_by_batch: bool = param(
        False, "multiply the rate by sqrt(batch / 256), as the released runs with mini-batches do"
    )
    beta1: float = param(0.9, "decay of the mean gradient", ge=0, lt=1)
    beta2: float = param(0.98, "decay of the mean squared gradient", ge=0, lt=1)
    epsilon: float = param(
        1e-8, "added to the root of the squared gradients; 1e-8 freezes a network whose loss is tiny", gt=0
    )
    weight_decay: float = param(
        5.0, "decoupled weight decay; a step keeps 1 - lr * weight_decay", ge=0, ablate=[0.0, 15.0]
    )
    dropout: float = param(
        0.0, "share of hidden units left out, before the activation", ge=0, lt=1, ablate=[0.3, 0.6]
    )
    norm: Norm = param("none", "none, or batch norm after the square", ablate=["batch"])
    loss: Loss = param(
        "mse", "squared error to the one-hot label, cross-entropy, or cross-entropy of StableMax (stable)"
    )
    softmax_precision: Bits = param(32, "bits of the softmax in cross-entropy", ablate=[16, 64])
    products: Products = param(
        "exact", "exact in float32, or reduced to bfloat16: faster and NOT exact, off by about 2e-3 a product"
    )
    gradients: str = param(
        "none", "what is done to gradients first, joined by +: perp-grad, grokfast-ema, grokfast-ma, clip"
    )

    together: ClassVar[tuple[str, ...]] = ("lr", "weight_decay", "dropout")

    def setup(self) -> None:
        """Choose the network, and know nothing yet."""
        transforms_of(self.gradients)
        self.network = self._network(tokens=2)
        if self.dropout and not self.network.drops:
            raise Unsuitable("the protocol's network has no dropout")
        self.weights: Weights = {}
        self.handed = LabelMemory()
        self.items = torch.zeros(0, 0, dtype=torch.int64)
        self.last_step = LastStep()
        self.seat: Seat | None = None

    def learn(self, stage: Stage) -> None:
        """Train alone."""
        self.learn_together([self], [stage])

    @classmethod
    def learn_together(cls, strategies: Sequence[Self], stages: Sequence[Stage]) -> None:
        """Train all in one computation.

        Raises:
            Unsuitable: hidden labels, labels that are no residues, or items that are not pairs of them.
            Diverged: the loss of one of them is not finite.
        """
        chief = strategies[0]
        shown = [strategy._take(stage) for strategy, stage in zip(strategies, stages, strict=True)]
        items, labels = (torch.stack(parts) for parts in zip(*shown, strict=True))
        ensemble = chief._ensemble(
            strategies, stacked([strategy.weights for strategy in strategies]), items.shape[1]
        )
        for index, strategy in enumerate(strategies):
            strategy.weights, strategy.seat = place(ensemble.weights, index), Seat(ensemble, index)
        try:
            fit(ensemble, items, labels, [strategy.context for strategy in strategies])
        finally:
            for index, strategy in enumerate(strategies):
                strategy.last_step, strategy.seat = ensemble.last_step(index), None
                strategy.weights = {name: values.clone() for name, values in strategy.weights.items()}
        for strategy in strategies:
            strategy.trained()

    def optimiser(self, weights: Weights, lr: Tensor, weight_decay: Tensor) -> Optimiser:
        """Return a fresh optimiser of K networks; lr, weight_decay: float64 (K,)."""
        return AdamW(
            weights, lr=lr, weight_decay=weight_decay, betas=(self.beta1, self.beta2), eps=self.epsilon
        )

    def transforms(self) -> list[Transform]:
        """Return what is done to gradients before the optimiser sees them, fresh."""
        return transforms_of(self.gradients)

    def trained(self) -> None:
        """Do what comes after training; nothing here."""

    def predict(self, query: Query) -> Prediction:
        """Return the likeliest class, what is made of given labels, the network's health, and after training
        its weights.
        """
        logits = self._logits(self._looked_up(query.inputs))
        places, numbers = self.handed.find(query.ids)
        labels = self.handed.labels[numbers]
        losses = self._losses(logits[places], labels)
        classes = logits.argmax(dim=1)
        suspicion = losses.clamp_min(SMALLEST_LOSS).log10()
        judged = self.handed.judged(
            Prediction(classes=classes.numpy()),
            query.ids,
            losses.clamp_max(LARGEST_LOSS),
            suspicion,
            classes[places] == labels,
        )
        if len(places) < len(
            self.handed
        ):  # some of the given rows were not asked for, but their health counts too
            labels, logits = self.handed.labels, self._logits(self.items)
            health = self._health(logits, labels, self._losses(logits, labels))
        else:
            health = self._health(logits[places], labels, losses)
        rows = (
            neuron_rows(self.network.parts(self.weights), 0)
            if isinstance(self.network, Quadratic) and self.seat is None
            else None
        )
        return Prediction(
            classes=judged.classes,
            label_losses=judged.label_losses,
            suspicion=judged.suspicion,
            kept=judged.kept,
            weights=rows,
            health=health,
        )

    @torch.no_grad()
    def observed(self, inputs: Inputs) -> Observation | None:
        """Return what the last layer sees, and that layer; None before there are weights, or where the network does not
        show it.
        """
        if not self.weights:
            return None
        items = self._looked_up(inputs)
        seen = self.network.observed(self.weights, items[None])
        if seen is None:
            return None
        features, head, bias = seen
        return Observation(
            features=as_array(features[0]),
            logits=as_array(self._logits(items)),
            head=as_array(head[0]),
            bias=None if bias is None else as_array(bias[0]),
        )

    def state(self) -> dict[str, Any]:
        """Return weights, memory and the figures of the last step; the network follows from the protocol."""
        return {
            "weights": self.weights,
            "handed": self.handed.state_dict(),
            "items": self.items,
            "last_step": list(self.last_step),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Become what `state()` was taken from."""
        self.weights, self.items = dict(state["weights"]), state["items"]
        self.handed.load_state_dict(state["handed"])
        self.network = self._network(tokens=self.items.shape[1])
        self.last_step = LastStep(*state["last_step"])

    # --- inside ---------------------------------------------------------------------------------------------

    def _take(self, stage: Stage) -> tuple[Tensor, Tensor]:
        """Remember a stage and return its items (n, tokens) and labels (n,)."""
        if (stage.labels == HIDDEN).any():
            raise Unsuitable(f"learns from labels, and stage {stage.index} hides some")
        if not len(stage.labels) or stage.labels.max() >= self.network.classes:
            raise Unsuitable(
                f"labels should be residues below the modulus {self.network.classes}, and there should be some"
            )
        if not self.weights:
            self.network = self._network(tokens=stage.inputs.shape[-1])
        items, labels = self._looked_up(stage.inputs), torch.tensor(stage.labels, device=self.context.device)
        self.handed.add(stage)
        self.items = torch.cat([self.items, items]) if len(self.items) else items
        if not self.weights:
            fresh = self.network.initial(self.context.stream("init"))
            self.weights = {name: values.to(self.context.device) for name, values in fresh.items()}
        return items, labels

    def _ensemble(self, strategies: Sequence[Grokker], weights: Weights, rows: int) -> Ensemble:
        factor = math.sqrt(min(self.context.batch_size, rows) / 256) if self.lr_by_batch else 1.0
        options: Any = {"dtype": torch.float64, "device": self.context.device}
        lr = torch.tensor([strategy.lr * factor for strategy in strategies], **options)
        decay = torch.tensor([strategy.weight_decay for strategy in strategies], **options)
        dropout = dropout_of(
            [strategy.dropout for strategy in strategies],
            [strategy.context.stream("dropout") for strategy in strategies],
        )
        return Ensemble(
            self.network,
            weights,
            self.optimiser(self.network.trained(weights), lr, decay),
            objective=self._objective,
            transforms=self.transforms(),
            dropout=dropout,
        )

    def _network(self, tokens: int) -> Network:
        """Return the protocol's network for items of so many numbers, where it can read as many."""
        if self.context.precision == "float16":
            raise Unsuitable("computes in float32, or with products in bfloat16")
        if self.context.compile:
            raise UserError(
                "--compile does not reach this learner: it trains stacks of networks by gradients of its "
                "own; leave it out"
            )
        products: Products = "reduced" if self.context.precision == "bfloat16" else self.products
        return network_of(
            self.context.backbone, tokens=min(max(tokens, 2), 3), norm=self.norm, products=products
        )

    @property
    def _objective(self) -> Objective:
        return Objective(loss=self.loss, bits=self.softmax_precision)

    def _looked_up(self, inputs: Inputs) -> Tensor:
        """Return the numbers of all items, int64 (N, tokens)."""
        items = np.asarray(inputs[np.arange(len(inputs))])
        tokens = self.network.tokens
        if items.ndim != 2 or items.dtype.kind not in "iu" or items.shape[1] < tokens:
            raise Unsuitable(
                f"looks up {tokens} operand numbers an item (encoding pair-index, tokens-2, tokens-3), not "
                f"{items.dtype} "
                f"of shape {items.shape[1:]}"
            )
        items = items[:, :tokens].astype(np.int64)
        if len(items) and not 0 <= items.min() <= items.max() < self.network.vocabulary:
            raise Unsuitable(f"operand numbers should lie in 0 to {self.network.vocabulary - 1}")
        return torch.from_numpy(items).to(self.context.device)

    @torch.no_grad()
    def _logits(self, items: Tensor) -> Tensor:
        """Return logits (N, C) in evaluation mode."""
        return self.network.forward(self.weights, items[None])[0].cpu()

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of every row under the strategy's own objective, float64 (n,); of no rows there is
        none.
        """
        if not len(labels):
            return logits.new_zeros(0, dtype=torch.float64)
        return losses_and_gradient(
            logits[None], labels[None], loss=self.loss, precision=self.softmax_precision
        ).losses[0]

    def _health(self, logits: Tensor, labels: Tensor, losses: Tensor) -> AnyArray:
        """Return the figures of HEALTH over all rows that came with a label, float32 (6,)."""
        if not len(labels):
            return np.full(len(HEALTH), np.nan, dtype=np.float32)
        weights = self.network.trained(self.weights).values()
        last = self.seat.ensemble.last_step(self.seat.at) if self.seat else self.last_step
        collapse = collapsed(logits[None], labels[None], self.softmax_precision).double().mean()
        figures = {
            "zero_loss_fraction": float((losses == 0).double().mean()),
            "softmax_collapse": float(collapse),
            "largest_logit": float(logits.abs().max()),
            "weight_norm": math.sqrt(sum(float(torch.linalg.vector_norm(values)) ** 2 for values in weights)),
            **last._asdict(),
        }
        return np.array([figures[name] for name in HEALTH], dtype=np.float32)


__all__ = ["Grokker", "Seat"]
