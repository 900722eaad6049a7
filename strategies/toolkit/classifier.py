"""A backbone with a linear head that grows by a row for every class named.

Old rows keep their weights when the head grows; new rows are drawn from the stream `init` of the stage. The
network is built when the first stage shows the inputs' shape, so a strategy can make an empty `Classifier` in
`setup` and load a state into it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from harness.contracts import HIDDEN, Context, Inputs, IntArray, Observation, Prediction, Query, Stage
from harness.errors import Unsuitable
from strategies.ood_scores import Detector, Seen
from strategies.toolkit.loss_surface import LossSurface
from strategies.toolkit.networks import backbone, drawn_from
from strategies.toolkit.training.eval_mode import eval_mode
from strategies.toolkit.training.tensors import as_array, as_tensor


def likeliest(logits: Tensor, task_of: Sequence[int], query: Query) -> Prediction:
    """Answer the class of the largest logit; where the stage of an item is told, only that stage's classes
    can win.

    Args:
        logits: (N, C) on the CPU; changed in place.
        task_of: the stage in which each of the C classes arrived.
        query: what was asked. An item of a stage that has not come yet may get any class.
    """
    if query.tasks is not None:
        outside = torch.tensor(task_of) != torch.from_numpy(np.array(query.tasks))[:, None]
        logits[outside & (~outside).any(dim=1, keepdim=True)] = -torch.inf
    return Prediction(classes=logits.argmax(dim=1).numpy())


class Shaping(Protocol):
    """What changes a network as it is built, and has a state that is kept with it."""

    def network(self, network: Classifier, part: nn.Module) -> None:
        """Change a part that has just been made: the backbone, or a head."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become what `state_dict` was taken from."""


class Classifier(nn.Module):
    """Logits over the classes named so far. `task_of[c]` is the stage in which class c arrived."""

    def __init__(
        self, context: Context, *, bias: bool = True, init: str = "init", components: Shaping | None = None
    ) -> None:
        super().__init__()
        self.context, self.components = context, components
        self.bias, self.init = bias, init
        self.item_shape: tuple[int, ...] = ()
        self.task_of: list[int] = []
        self.head: nn.Linear | None = None

    def grow(self, stage: Stage) -> Self:
        """Make room for the classes of `stage`; builds the network at the first call.

        Raises:
            Unsuitable: a label is hidden; what learns with this network learns from labels.
        """
        if (stage.labels == HIDDEN).any():
            raise Unsuitable(f"learns from labels, and stage {stage.index} hides some")
        if not self.item_shape:
            self._build(tuple(stage.inputs.shape[1:]))
        self.task_of += [stage.index] * (stage.named_classes - len(self.task_of))
        old = self.head
        with drawn_from(self.context, self.init):
            self.head = self._new_head(stage.named_classes)
        self._shape(self.head)
        if old is not None:
            now = self.head.state_dict()
            for name, values in old.state_dict().items():
                now[name][tuple(map(slice, values.shape))] = values
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (N, C)."""
        assert self.head is not None, "grow before the first forward pass"
        logits: Tensor = self.head(self.backbone(inputs))
        return logits

    def snapshot(self) -> Self:
        """Return a frozen copy, a teacher for later stages."""
        copy = type(self)(self.context, bias=self.bias, init=self.init, components=self.components)
        copy.load_state_dict(self.state_dict())
        return copy.requires_grad_(False).eval()

    def answer(self, query: Query, detector: Detector | None = None) -> Prediction:
        """Predict by the likeliest class; with a detector that has been fitted, with the OOD score of every
        item.

        The score is that among all classes, also where the stage of an item is known.
        """
        inputs = as_tensor(query.inputs, self.context.device)
        if detector is None or not detector.is_ready:
            return likeliest(self.evaluated(inputs).cpu(), self.task_of, query)
        seen = self.seen(inputs)
        scores = detector.score(seen)
        return replace(likeliest(seen.logits.cpu(), self.task_of, query), anomaly_scores=scores)

    def seen(self, inputs: Tensor, *, chunk: int = 512) -> Seen:
        """Return features and logits in evaluation mode, in chunks."""
        assert self.head is not None, "grow before the first forward pass"
        with eval_mode(self):
            features = [self.backbone(part) for part in torch.split(inputs, chunk)]
            return Seen(torch.cat(features), torch.cat([self.head(part) for part in features]))

    def observed(self, inputs: Inputs) -> Observation | None:
        """Return features, logits and the head's rows; the head is None where it is no linear layer. None before the
        network is built.
        """
        if self.head is None:
            return None
        seen = self.seen(as_tensor(inputs, self.context.device))
        linear = isinstance(self.head, nn.Linear)
        return Observation(
            features=as_array(seen.features),
            logits=as_array(seen.logits),
            head=as_array(self.head.weight) if linear else None,
            bias=as_array(self.head.bias) if linear and self.head.bias is not None else None,
        )

    def surface(self, inputs: Inputs, labels: IntArray) -> LossSurface | None:
        """Return cross-entropy around the weights; None before the network is built."""
        if self.head is None:
            return None
        device = self.context.device
        return LossSurface(self, as_tensor(inputs, device), torch.from_numpy(labels).to(device))

    def evaluated(self, inputs: Tensor, *, chunk: int = 512) -> Tensor:
        """Return logits (N, C) in evaluation mode, in chunks."""
        with eval_mode(self):
            return torch.cat([self(part) for part in torch.split(inputs, chunk)])

    def get_extra_state(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to build the network first."""
        own = {} if self.components is None else {"components": self.components.state_dict()}
        return {"item_shape": list(self.item_shape), "task_of": list(self.task_of), **own}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Keep the order of arrival; the network itself was built by `load_state_dict`."""
        self.task_of = list(state["task_of"])
        if self.components is not None:
            self.components.load_state_dict(state["components"])

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Build the network that `state` was taken from, then load its weights."""
        extra = state["_extra_state"]
        if extra["item_shape"]:
            self._build(tuple(extra["item_shape"]))
            self.head = self._new_head(len(extra["task_of"]))
            self._shape(self.head)
        return super().load_state_dict(state, strict=strict, assign=assign)

    def _build(self, item_shape: tuple[int, ...]) -> None:
        self.item_shape = item_shape
        self.backbone = backbone(self.context, item_shape, self.init)
        self._shape(self.backbone)

    def _shape(self, part: nn.Module) -> None:
        if self.components is not None:
            self.components.network(self, part)
            part.to(self.context.device)

    def _new_head(self, classes: int) -> nn.Linear:
        """Return a head for so many classes: the network's own, where it has one, else a linear layer."""
        if hasattr(self.backbone, "new_head"):
            own: nn.Linear = self.backbone.new_head(classes)  # type: ignore[operator]
            return own.to(self.context.device)
        features: Any = self.backbone.features
        head = nn.Linear(features, classes, bias=self.bias, device=self.context.device)
        if getattr(self.backbone, "zero_head", False):
            for weights in head.parameters():
                nn.init.zeros_(weights)
        return head
