"""Drives one of Avalanche's strategies, unchanged, through our stages: what its adapters in `methods` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from harness.contracts import Context, Inputs, Observation, Prediction, Query, Stage
from harness.errors import Unsuitable
from strategies.avalanche_adapter.experiences import SeenSoFar, experience_of
from strategies.avalanche_adapter.loading import avalanche, quiet
from strategies.toolkit.augmentations import augmenting
from strategies.toolkit.classifier import likeliest
from strategies.toolkit.networks import backbone, drawn_from
from strategies.toolkit.training.eval_mode import eval_mode
from strategies.toolkit.training.tensors import as_array, as_tensor

Make = Callable[..., Any]


class Bridge:
    """An Avalanche strategy over our backbone with Avalanche's own growing head, or with one of fixed size.

    Epochs, batch size, device and network are the protocol's. Avalanche keeps one optimiser over all stages,
    momentum included, and shuffles with torch's global generator, which the harness seeds for every stage.
    """

    def __init__(
        self, context: Context, make: Make, *, lr: float, momentum: float, head: int | None = None
    ) -> None:
        """Take what builds the strategy: `make(model=..., optimizer=..., **common)`, called at the first
        stage.

        Args:
            context: of the cell.
            make: returns Avalanche's strategy; the model is a sequence of features and head.
            lr: learning rate of SGD.
            momentum: of SGD.
            head: outputs for strategies that cannot let the head grow; None to let it.
        """
        self.context, self.make, self.lr, self.momentum, self.head = context, make, lr, momentum, head
        self.seen = SeenSoFar(places=head or 0)
        self.strategy: Any = None
        self.task_of: list[int] = []

    def learn(self, stage: Stage) -> None:
        """Train on one stage.

        Raises:
            Unsuitable: a label is hidden, or more classes have come than a fixed head has outputs.
        """
        if self.head is not None and stage.named_classes > self.head:
            raise Unsuitable(
                f"{stage.named_classes} classes have come, the head has {self.head} outputs: raise head"
            )
        self.task_of += [stage.index] * (stage.named_classes - len(self.task_of))
        with quiet():
            if self.strategy is None:
                self.strategy = self._start(stage)
            self.strategy.train(experience_of(stage, self.seen), num_workers=0)

    @torch.no_grad()
    def predict(self, query: Query, *, chunk: int = 512) -> Prediction:
        """Answer with the network in Avalanche's evaluation mode, which is where iCaRL changes to nearest
        means.
        """
        model = self.strategy.model
        was_training = model.training
        model.eval()
        inputs = as_tensor(query.inputs, self.context.device)
        logits = torch.cat([model(part) for part in torch.split(inputs, chunk)])[:, : len(self.task_of)].cpu()
        model.train(was_training)
        return likeliest(logits, self.task_of, query)

    def observed(self, inputs: Inputs, *, chunk: int = 512) -> Observation | None:
        """Return what goes into the last linear layer, what comes out and its rows, of the classes that have come;
        None before there is a model. iCaRL answers without that layer, which it trains: it shows no logits.
        """
        if self.strategy is None:
            return None
        model, classes = self.strategy.model, len(self.task_of)
        answers = not hasattr(model, "train_classifier")
        shown = model if answers else nn.Sequential(model.feature_extractor, model.train_classifier)
        head = [part for part in shown.modules() if isinstance(part, nn.Linear)][-1]
        caught: list[Tensor] = []
        hook = head.register_forward_hook(lambda _, given, __: caught.append(given[0].detach()))
        try:
            with eval_mode(shown):
                parts = torch.split(as_tensor(inputs, self.context.device), chunk)
                logits = torch.cat([shown(part) for part in parts])[:, :classes]
        finally:
            hook.remove()
        return Observation(
            features=as_array(torch.cat(caught)),
            logits=as_array(logits) if answers else None,
            head=as_array(head.weight[:classes]),
            bias=None if head.bias is None else as_array(head.bias[:classes]),
        )

    def _start(self, stage: Stage) -> Any:
        features: Any = backbone(self.context, tuple(stage.inputs.shape[1:]))
        with drawn_from(self.context, "head"):
            head = self._new_head(features.features, stage.named_classes)
        model = nn.Sequential(features, head).to(self.context.device)
        optimiser = torch.optim.SGD(model.parameters(), lr=self.lr, momentum=self.momentum)
        return self.make(model=model, optimizer=optimiser, **self._common())

    def _new_head(self, features: int, classes: int) -> nn.Module:
        if self.head is not None:
            return nn.Linear(features, self.head)
        head: nn.Module = avalanche("models").IncrementalClassifier(features, initial_out_features=classes)
        return head

    def _common(self) -> dict[str, Any]:
        return {
            "train_mb_size": self.context.batch_size,
            "train_epochs": self.context.epochs,
            "eval_mb_size": 512,
            "device": torch.device(self.context.device),
            "plugins": [self._reporter()],
            "evaluator": None,
        }

    def _reporter(self) -> Any:
        context = self.context

        class Reporter(avalanche("core").SupervisedPlugin):  # type: ignore[misc]
            """Augments batches as the protocol says, reports every step and offers the strategy for probes."""

            def before_training_exp(self, strategy: Any, **_: Any) -> None:
                self.step, self.augment = 0, augmenting(context)
                context.probe(0)

            def before_forward(self, strategy: Any, **_: Any) -> None:
                strategy.mbatch[0] = self.augment(strategy.mb_x)

            def after_training_iteration(self, strategy: Any, **_: Any) -> None:
                self.step += 1
                context.progress(self.step, strategy.train_epochs * len(strategy.dataloader))
                context.probe(self.step)

        return Reporter()
