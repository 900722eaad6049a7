"""Grokking learners by name: AdamW with its regularisers, SGD, StableMax, PerpGrad, Grokfast, Muon, and
pruning by IPR.

All train the protocol's network on the protocol's budget; each is `Grokker` with one thing changed. Presets
carry published values; where only lr * weight_decay is comparable between papers, that is what they keep.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

from torch import Tensor

from harness.contracts import Preset, param
from harness.errors import Unsuitable
from strategies.grokking import optimisers, transforms
from strategies.grokking.learner import Grokker
from strategies.grokking.losses import Loss
from strategies.grokking.networks import Weights
from strategies.grokking.pruning import First, prune
from strategies.grokking.quadratic import Quadratic

_DOSHI = "Doshi et al. 2024 (arXiv 2310.13061) and released scripts"
_PRIETO = "Prieto et al. 2025 (arXiv 2501.04697) and released scripts"


class AdamWLearner(Grokker):
    """AdamW; with weight_decay, dropout or norm=batch the published regularisers, with loss=cross-entropy the
    edge of stability.
    """

    presets: ClassVar[Mapping[str, Preset]] = MappingProxyType(
        {
            "plain": Preset(values={"weight_decay": 0.0}, source=_DOSHI),
            "doshi": Preset(
                values={"weight_decay": 15.0}, source=f"{_DOSHI}: full inversion at corruption 0.35"
            ),
            "doshi-dropout": Preset(values={"weight_decay": 0.0, "dropout": 0.6}, source=_DOSHI),
            "doshi-batch-norm": Preset(
                values={"weight_decay": 0.0, "norm": "batch", "lr_by_batch": True},
                source=f"{_DOSHI}, batches of 8 to 256",
            ),
            "prieto": Preset(
                values={"weight_decay": 0.0, "loss": "cross-entropy", "beta2": 0.99, "epsilon": 1e-25},
                source=f"{_PRIETO}, figures 1 and 4",
            ),
            "nanda": Preset(
                values={"lr": 1e-3, "weight_decay": 1.0, "loss": "cross-entropy"},
                source="Nanda et al. 2023, without warm-up",
            ),
        }
    )


class SGDLearner(Grokker):
    """Gradient steps with momentum. Weight decay is part of the gradient here, and beta1, beta2 and epsilon
    say nothing.
    """

    lr: float = param(1.0, "learning rate", gt=0)
    weight_decay: float = param(0.0, "weight decay, added to the gradient", ge=0)
    momentum: float = param(0.9, "share of a step that is kept", ge=0, lt=1)

    presets: ClassVar[Mapping[str, Preset]] = MappingProxyType(
        {
            "prieto-perp-sgd": Preset(
                values={"lr": 10.0, "momentum": 0.8, "loss": "stable", "gradients": "perp-grad"},
                source=f"{_PRIETO}, figure 6b",
            )
        }
    )

    def optimiser(self, weights: Weights, lr: Tensor, weight_decay: Tensor) -> optimisers.Optimiser:
        """Return SGD."""
        return optimisers.SGD(weights, lr=lr, weight_decay=weight_decay, momentum=self.momentum)


class StableMaxLearner(Grokker):
    """Cross-entropy of StableMax, which no row's loss vanishes under (Prieto et al. 2025), without weight
    decay.
    """

    loss: Loss = param(
        "stable", "cross-entropy of StableMax (stable); the others to compare with", ablate=["cross-entropy"]
    )
    weight_decay: float = param(
        0.0, "decoupled weight decay; a step keeps 1 - lr * weight_decay", ge=0, ablate=[5.0]
    )

    presets: ClassVar[Mapping[str, Preset]] = MappingProxyType(
        {
            "prieto": Preset(
                values={"beta2": 0.999, "epsilon": 1e-25}, source=f"{_PRIETO}, figure 4; 80,000 steps there"
            )
        }
    )


class PerpGradLearner(Grokker):
    """Gradients without their part along the weights, so that no step merely scales the logits (Prieto et al.
    2025).
    """

    form: Literal["released", "paper"] = param(
        "released",
        "of the code: tensor by tensor, back to the length of the gradient; or of the paper: all weights as one vector",
        ablate=["paper"],
    )
    loss: Loss = param(
        "cross-entropy",
        "squared error to the one-hot label, cross-entropy, or cross-entropy of StableMax (stable)",
    )
    weight_decay: float = param(
        0.0, "decoupled weight decay; a step keeps 1 - lr * weight_decay", ge=0, ablate=[5.0]
    )

    presets: ClassVar[Mapping[str, Preset]] = MappingProxyType(
        {
            "prieto": Preset(
                values={"beta2": 0.999},
                source=f"{_PRIETO}; what their inner AdamW steps with, whatever was asked for",
            )
        }
    )

    def transforms(self) -> list[transforms.Transform]:
        """Project last."""
        return [*super().transforms(), transforms.PerpGrad(self.form)]


class GrokfastEMALearner(Grokker):
    """The slow part of the gradients, amplified by an exponential average (Lee et al. 2024, arXiv
    2405.20233).
    """

    decay: float = param(0.98, "how slowly the average moves (module default 0.98, README 0.99)", ge=0, lt=1)
    strength: float = param(
        2.0, "lambda, the weight of the average (module default 2, README 5)", ge=0, ablate=[0.0]
    )

    presets: ClassVar[Mapping[str, Preset]] = MappingProxyType(
        {"readme": Preset(values={"decay": 0.99, "strength": 5.0}, source="README of ironjr/grokfast")}
    )

    def transforms(self) -> list[transforms.Transform]:
        """Amplify last."""
        return [*super().transforms(), transforms.GrokfastEMA(self.decay, self.strength)]


class GrokfastMALearner(Grokker):
    """The slow part of the gradients, amplified by the mean of the last ones (Lee et al. 2024); memory is
    window times the network.
    """

    window: int = param(100, "gradients in the mean; before that many nothing is added", ge=1, unit="steps")
    strength: float = param(5.0, "lambda, the weight of the mean", ge=0, ablate=[0.0])

    together_at_most: ClassVar[int] = 4

    presets: ClassVar[Mapping[str, Preset]] = MappingProxyType(
        {"readme": Preset(values={"window": 128}, source="README of ironjr/grokfast")}
    )

    def transforms(self) -> list[transforms.Transform]:
        """Amplify last."""
        return [*super().transforms(), transforms.GrokfastMA(self.window, self.strength)]


class MuonLearner(Grokker):
    """Orthogonal updates of every weight matrix (Jordan 2024); rates depend on the width. beta1, beta2 and
    epsilon say nothing.
    """

    lr: float = param(1e-3, "learning rate", gt=0)
    weight_decay: float = param(0.1, "decoupled weight decay; a step keeps 1 - lr * weight_decay", ge=0)
    momentum: float = param(0.95, "decay of the averaged gradient", ge=0, lt=1)
    nesterov: bool = param(True, "average the gradient in once more")
    matched: bool = param(False, "scale updates to the size of AdamW's")

    def optimiser(self, weights: Weights, lr: Tensor, weight_decay: Tensor) -> optimisers.Optimiser:
        """Return Muon."""
        return optimisers.Muon(
            weights,
            lr=lr,
            weight_decay=weight_decay,
            momentum=self.momentum,
            nesterov=self.nesterov,
            matched=self.matched,
        )


class IPRPruning(Grokker):
    """Train, then take the least periodic neurons out: what is known by heart goes, what is understood stays
    (Doshi et al. 2024).
    """

    weight_decay: float = param(
        0.0, "decoupled weight decay; a step keeps 1 - lr * weight_decay", ge=0, ablate=[5.0]
    )
    share: float = param(0.7, "share of the neurons that are taken out", ge=0, le=1, ablate=[0.3, 0.5])
    order: First = param(
        "low",
        "which neurons go first: low or high inverse participation ratio, or random ones as a control",
        ablate=["high", "random"],
    )

    together: ClassVar[tuple[str, ...]] = (*Grokker.together, "share", "order")

    def setup(self) -> None:
        """Refuse other networks than the quadratic one, whose neurons have rows over the residues."""
        super().setup()
        if not isinstance(self.network, Quadratic):
            raise Unsuitable("prunes the quadratic network, whose neurons have spectra")

    def trained(self) -> None:
        """Prune, without training again."""
        assert isinstance(self.network, Quadratic)
        prune(self.network.parts(self.weights), 0, self.share, self.order, self.context.stream("method"))


__all__ = [
    "AdamWLearner",
    "GrokfastEMALearner",
    "GrokfastMALearner",
    "IPRPruning",
    "MuonLearner",
    "PerpGradLearner",
    "SGDLearner",
    "StableMaxLearner",
]
