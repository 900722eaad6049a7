"""A start that comes from imitating a random network (Sarnthein, Bachmann, Anagnostidis and Hofmann 2023, Random
Teachers are Good Teachers, arXiv 2302.12091; released code at cd39e78).

The teacher is the learner's start with a projection head, both random and frozen. The student has the same shape and
starts near it, at ((1 - a) t + a t') / sqrt((1 - a)^2 + a^2), t' another random start. On inputs alone it minimises
-sum softmax(z_T) log softmax(z_S), without views, centring or temperatures, or the mean squared error of logits; then
its head is dropped, and the learner goes on from its encoder. The head is D -> hidden -> hidden with GELU, linear to
256, at unit length, linear to `width` logits; weights N(0, 0.02^2) cut at two deviations, biases 0. As in the released
code the last layer is a plain one: the weight norm that its configuration names is never applied.

t' are the encoder's own entries in another order, tensor by tensor: the same law where a start draws them one by one,
also where other components have changed the network. At a = 0 teacher and student differ in batch norm alone, so
that without it nothing would be learned; a = 0 is then refused. `sharpness` is this project's: teachers' outputs are
nearly constant. Later stages start from what was learned before.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from harness.contracts import param
from harness.errors import Unsuitable
from strategies.components.before import Before
from strategies.components.contract import Rate, Task
from strategies.toolkit.augmentations import generator_of
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.losses.robust import soft_cross_entropy
from strategies.toolkit.networks import drawn_from
from strategies.toolkit.training.eval_mode import eval_mode
from strategies.toolkit.training.loop import Batch

_BETWEEN = 256
_STD = 0.02


class Projection(nn.Module):
    """Features (B, D) to logits (B, width)."""

    def __init__(self, features: int, hidden: int, width: int) -> None:
        super().__init__()
        sizes = [features, hidden, hidden, _BETWEEN]
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), nn.GELU()]
        self.layers, self.last = nn.Sequential(*layers[:-1]), nn.Linear(_BETWEEN, width, bias=False)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=_STD, a=-2 * _STD, b=2 * _STD)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.last(functional.normalize(self.layers(features), dim=1))
        return logits


def moved_apart(own: Tensor, other: Tensor, distance: float, rescaled: bool) -> Tensor:
    """Return ((1 - a) own + a other), divided by sqrt((1 - a)^2 + a^2) where `rescaled`."""
    mixed = (1 - distance) * own + distance * other
    return mixed / ((1 - distance) ** 2 + distance**2) ** 0.5 if rescaled else mixed


def imitation(student: Tensor, teacher: Tensor, loss: str, sharpness: float) -> Tensor:
    """Return the mean loss of logits (B, K) against those of a teacher: `soft` cross-entropy or `squared` error."""
    student, teacher = sharpness * student, sharpness * teacher
    if loss == "squared":
        return functional.mse_loss(student, teacher)
    return soft_cross_entropy(student, teacher.softmax(dim=1)).mean()


class RandomTeacher(Before):
    """Start from an encoder that has imitated a random one."""

    share: float = param(0.2, "passes of the imitation, of the learner's", ge=0, lt=1, ablate=[0.1])
    distance: float = param(
        0.1, "a, how far the student starts from its teacher; 0 needs batch norm", ge=0, le=1, ablate=[1.0]
    )
    rescaled: bool = param(True, "whether a start between two is rescaled to the size of one", ablate=[False])
    loss: Literal["soft", "squared"] = param("soft", "cross-entropy to softmax, or squared error of logits")
    sharpness: float = param(1.0, "factor on the logits of both", gt=0, ablate=[8.0])
    imitation_lr: float = param(1e-3, "learning rate of the imitation, by AdamW", gt=0)
    hidden: int = param(256, "units of the head's hidden layers (published 2048)", ge=1, ablate=[2048])
    width: int = param(1024, "logits of the head (published 65536)", ge=2)
    freeze: bool = param(False, "whether the encoder is frozen afterwards: a linear probe", ablate=[True])

    neutral: ClassVar[Mapping[str, Any]] = MappingProxyType({"share": 0.0})

    def begin(self, task: Task) -> int:
        """Let the encoder imitate, before the first stage.

        Raises:
            Unsuitable: no pass would be left for the learner; or a student at its teacher, without batch norm.
        """
        if task.stage.index or not self.share:
            return 0
        passes, spent = self.passes(task, self.share)
        encoder = task.network.backbone
        if not self.distance and not any(
            isinstance(module, nn.modules.batchnorm._BatchNorm) for module in encoder.modules()
        ):
            raise Unsuitable(
                f"has no batch norm, without which component {self.name} learns nothing at distance=0"
            )
        frozen = copy.deepcopy(encoder)
        teacher, head, other = (self._head(task, name) for name in ("head", "head", "other"))
        draws = generator_of(self.context, f"{self.stream_name}-start")
        with torch.no_grad():
            for own in encoder.parameters():
                own.copy_(moved_apart(own, _shuffled(own, draws), self.distance, self.rescaled))
            for own, new in zip(head.parameters(), other.parameters(), strict=True):
                own.copy_(moved_apart(own, new, self.distance, self.rescaled))

        def loss(batch: Batch) -> Tensor:
            with eval_mode(frozen):
                wanted = teacher(frozen(batch.inputs))
            return imitation(head(encoder(batch.inputs)), wanted, self.loss, self.sharpness)

        self.train([encoder, head], task, loss, passes, lr=self.imitation_lr)
        return spent

    def rates(self, network: Classifier) -> Mapping[nn.Parameter, Rate]:
        """Return no rate for the encoder where it is frozen."""
        return {weights: Rate(0.0, 0.0) for weights in network.backbone.parameters()} if self.freeze else {}

    def _head(self, task: Task, name: str) -> Projection:
        features: Any = task.network.backbone.features
        with drawn_from(self.context, f"{self.stream_name}-{name}"):
            return Projection(features, self.hidden, self.width).to(self.context.device)


def _shuffled(values: Tensor, draws: Generator) -> Tensor:
    order = torch.randperm(values.numel(), generator=draws, device=draws.device)
    return values.flatten()[order].view(values.shape)
