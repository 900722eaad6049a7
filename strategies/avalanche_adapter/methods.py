"""Avalanche's own strategies as contenders: `avalanche-NAME`. They run unchanged, on the protocol's network
and budget.

Their state cannot be stored without pickling, so a killed cell starts again at its first stage (`resumable =
False`). Defaults are those of our own baselines where both have the parameter.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal

from torch import nn

from harness.contracts import Prediction, Query, Stage, Strategy, param
from strategies.avalanche_adapter.bridge import Bridge
from strategies.avalanche_adapter.loading import avalanche


class _Avalanche(Strategy):
    """What all of them share: SGD, and the bridge that drives them."""

    resumable: ClassVar[bool] = False
    loaded_ahead: ClassVar[tuple[str, ...]] = ("strategies.avalanche_adapter.whole",)
    head: int | None = None  # grows
    lr: float = param(0.05, "learning rate", gt=0)
    momentum: float = param(0.9, "momentum of the gradient steps, kept over stages", ge=0, lt=1)

    def setup(self) -> None:
        """Make the bridge."""
        self.bridge = Bridge(self.context, self._make, lr=self.lr, momentum=self.momentum, head=self.head)

    def learn(self, stage: Stage) -> None:
        """Let Avalanche train on the stage."""
        self.bridge.learn(stage)

    def predict(self, query: Query) -> Prediction:
        """Answer with Avalanche's model."""
        return self.bridge.predict(query)

    @abstractmethod
    def _make(self, **common: Any) -> Any:
        """Return Avalanche's strategy over `common`: model, optimiser, budget, device and plugins."""


def _memory() -> Any:
    return param(200, "stored examples", ge=1, unit="examples", ablate=[50, 500])


def _head() -> Any:
    return param(
        128, "outputs of the head, chosen without knowing how many classes will come", ge=2, unit="classes"
    )


class AvalancheNaive(_Avalanche):
    """Avalanche's Naive: train on each stage alone."""

    def _make(self, **common: Any) -> Any:
        return avalanche("training.supervised").Naive(criterion=nn.CrossEntropyLoss(), **common)


class AvalancheReplay(_Avalanche):
    """Avalanche's Replay: mix stored examples, balanced over stages, into every batch."""

    memory: int = _memory()

    def _make(self, **common: Any) -> Any:
        return avalanche("training.supervised").Replay(
            criterion=nn.CrossEntropyLoss(), mem_size=self.memory, **common
        )


class AvalancheEWC(_Avalanche):
    """Avalanche's EWC: pull weights back; its penalty has no factor 1/2 and squares gradients of whole
    batches.
    """

    strength: float = param(5.0, "weight of the penalty, `ewc_lambda`", ge=0, ablate=[0.0], since_stage=1)
    mode: Literal["separate", "online"] = param(
        "separate", "one penalty per stage, or one decaying penalty", since_stage=1
    )
    decay: float = param(0.9, "decay of the importance in mode online", ge=0, le=1, since_stage=1)

    def _make(self, **common: Any) -> Any:
        decay = self.decay if self.mode == "online" else None
        ewc = avalanche("training.supervised").EWC
        return ewc(
            criterion=nn.CrossEntropyLoss(),
            ewc_lambda=self.strength,
            mode=self.mode,
            decay_factor=decay,
            **common,
        )


class AvalancheLwF(_Avalanche):
    """Avalanche's LwF: distil the previous network on the new inputs."""

    alpha: float = param(1.0, "weight of the distillation", ge=0, ablate=[0.0], since_stage=1)
    temperature: float = param(2.0, "softens both distributions", gt=0, ablate=[1.0], since_stage=1)

    def _make(self, **common: Any) -> Any:
        lwf = avalanche("training.supervised").LwF
        return lwf(criterion=nn.CrossEntropyLoss(), alpha=self.alpha, temperature=self.temperature, **common)


class AvalancheSI(_Avalanche):
    """Avalanche's Synaptic Intelligence: importance gathered along the path of training (Zenke et al. 2017)."""

    strength: float = param(1.0, "weight of the penalty, `si_lambda`", ge=0, ablate=[0.0], since_stage=1)

    def _make(self, **common: Any) -> Any:
        intelligence = avalanche("training.supervised").SynapticIntelligence
        return intelligence(criterion=nn.CrossEntropyLoss(), si_lambda=self.strength, **common)


class AvalancheGDumb(_Avalanche):
    """Avalanche's GDumb: train from scratch on a balanced memory alone (Prabhu et al. 2020)."""

    memory: int = _memory()

    def _make(self, **common: Any) -> Any:
        return avalanche("training.supervised").GDumb(
            criterion=nn.CrossEntropyLoss(), mem_size=self.memory, **common
        )


class AvalancheDER(_Avalanche):
    """Avalanche's DER++: replay with stored logits, taken when a stage ends, from a balanced memory.

    Stored logits are compared with those of later stages at the same width, so the head has `head` outputs
    from the start.
    """

    memory: int = _memory()
    alpha: float = param(0.5, "weight of the logits' squared error", ge=0, ablate=[0.0], since_stage=1)
    beta: float = param(0.5, "weight of the stored labels' cross-entropy", ge=0, ablate=[0.0], since_stage=1)
    head: int = _head()

    def _make(self, **common: Any) -> Any:
        der = avalanche("training.supervised").DER
        return der(
            criterion=nn.CrossEntropyLoss(), mem_size=self.memory, alpha=self.alpha, beta=self.beta, **common
        )


class AvalancheICaRL(_Avalanche):
    """Avalanche's iCaRL: replay, distillation and nearest exemplar means (Rebuffi et al. 2017).

    Its distillation copies the old network into one of the same shape, so the head has `head` outputs from
    the start.
    """

    memory: int = _memory()
    head: int = _head()

    def _make(self, **common: Any) -> Any:
        icarl = avalanche("training.supervised").ICaRL
        features, classifier = common.pop("model")
        return icarl(
            feature_extractor=features,
            classifier=classifier,
            memory_size=self.memory,
            buffer_transform=None,
            fixed_memory=True,
            **common,
        )
