"""What a component is: a change to how a strategy learns, while the strategy stays what it was.

A component overrides the hooks it needs and leaves the others alone. Every hook is given the network it acts on, so
that a component keeps no reference to one: a learner with several networks has a component of its own for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from torch import Tensor, nn

from harness.checkpoint import restore, state_of
from harness.contracts import Context, Stage
from harness.parameters import model_of, validated
from strategies.ood_scores import Seen
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.training.loop import Batch
from strategies.toolkit.training.tensors import Items

Hook = Literal["network", "begin", "rates", "order", "change", "term", "step"]
HOOKS: tuple[Hook, ...] = ("network", "begin", "rates", "order", "change", "term", "step")
Need = Literal["images", "validation", "targets", "own-step"]
"""images (C, H, W); validation items of the stage; a learner that takes targets and weights in a batch; to be the
only component that takes the gradient steps itself, with a learner whose loss of a batch can be taken again.
"""

_LENT = ("context", "name", "stream_name", "optimiser")
"""What `attach` gives, which is no state."""


class Rate(NamedTuple):
    """Factors on the learning rate and the weight decay of a weight."""

    lr: float = 1.0
    decay: float = 1.0


class Optimiser(NamedTuple):
    """What takes a learner's gradient steps, and the weight decay of weights that have no rate of their own."""

    kind: Literal["sgd", "adamw"] = "sgd"
    weight_decay: float = 0.0


PLAIN = Optimiser()


@dataclass(kw_only=True)
class Task:
    """A stage before the learner trains on it.

    items: what is trained on, those of the stage, to which a component may add.  passes: how many the learner takes
    over the stage; 0 where it counts gradient steps.  teacher: gives a network trained as the learner's, with its
    loss, for so many passes, without components, with weights from the named stream.
    """

    stage: Stage
    items: Items
    network: Classifier
    passes: int
    teacher: Callable[[str, int], Classifier]


class Component:
    """A change to how a strategy learns. Parameters are class attributes made by `param`.

    What a hook sets on `self` is kept between stages: tensors, arrays, numbers, text.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    neutral: ClassVar[Mapping[str, Any] | None] = None
    """Parameters with which the learner answers as without it; None where there are none."""

    context: Context
    name: str
    """As it was said."""
    stream_name: str
    """With which the names of its random streams begin."""
    optimiser: Optimiser
    """The learner's."""

    def __init__(self, **values: Any) -> None:
        """Check `values` against the declared parameters; raise `UserError` as a strategy does."""
        for name, value in validated(type(self), values).items():
            setattr(self, name, value)

    def attach(self, context: Context, name: str, stream_name: str, optimiser: Optimiser) -> None:
        """Take the context and the names. Called once for a network, also before `load_state_dict`."""
        self.context, self.name, self.stream_name, self.optimiser = context, name, stream_name, optimiser

    def stream(self, name: str) -> np.random.Generator:
        """Return a random stream of its own for the current stage; the same name gives the same numbers again."""
        return self.context.stream(f"{self.stream_name}-{name}")

    @classmethod
    def hooks(cls) -> frozenset[Hook]:
        """Return the hooks that it overrides."""
        return frozenset(hook for hook in HOOKS if getattr(cls, hook) is not getattr(Component, hook))

    def network(self, network: Classifier, part: nn.Module) -> None:
        """Change a part of the network that has just been made: its backbone, or a head.

        Replace modules, register parametrisations or weights of the component's own, draw weights anew; torch's
        generator follows a stream of the component. What it does may depend on shapes and parameters, not on data:
        it is called too before weights are loaded. Rows of a head for classes known before get their values
        back afterwards.
        """
        raise NotImplementedError

    def begin(self, task: Task) -> int:
        """Do what takes the stage's items before the learner trains; return how many passes that took, which the
        learner trains less.
        """
        raise NotImplementedError

    def rates(self, network: Classifier) -> Mapping[nn.Parameter, Rate]:
        """Return the rates of weights whose rate is not the learner's; asked at every stage."""
        raise NotImplementedError

    def order(self, rows: Tensor) -> Tensor:
        """Return the rows of a stage (N,) in the order in which a pass shows them, for the one that has been drawn."""
        raise NotImplementedError

    def change(self, network: Classifier, batch: Batch) -> Batch:
        """Return what is shown instead of a batch, which has been augmented: other inputs, labels, targets or
        weights.
        """
        raise NotImplementedError

    def term(self, network: Classifier, batch: Batch, seen: Seen) -> Tensor | None:
        """Return a scalar to add to the loss, or None.

        Args:
            network: the network.
            batch: what was shown, (B, ...).
            seen: features and logits of the network's first forward pass on it; where a learner shows further
                items with them, those of the batch come first.
        """
        raise NotImplementedError

    def step(
        self, network: Classifier, batch: Batch, loss: Callable[[], Tensor]
    ) -> Callable[[], None] | None:
        """Act between the backward pass and the gradient step: change gradients, or weights and give gradients anew;
        return what to do behind the step, or None.

        One with need `own-step` moves the weights itself and sets gradients to None, which the optimiser passes
        over. `loss` takes the learner's loss on the batch again; a learner with a memory moves it again, and offers no
        `own-step`.
        """
        raise NotImplementedError

    def judge(self, rows: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return how wrong labels look and whether each is kept, float (n,) and bool (n,); None where it cannot say.

        Args:
            rows: int64 (n,), numbers of the items in the order in which they were handed over, over all stages.
        """
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return what was set on the component, without its parameters."""
        owner: type = type(self)
        return state_of(self, skip={*model_of(owner).model_fields, *_LENT})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become what `state_dict` was taken from."""
        restore(self, state)
