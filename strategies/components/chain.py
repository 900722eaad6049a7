"""Several components as one, and their text form: `crrelu+compander[a=1,b=0.5]`.

`network`, `begin` and `change` go from the first to the last, terms are summed, factors on rates multiplied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

from pydantic import AfterValidator
from torch import Tensor, nn

from harness.contracts import Context
from harness.errors import Unsuitable, UserError
from harness.plugins import find
from harness.selection import configured, single, split_outside
from strategies.components.contract import PLAIN, Component, Hook, Optimiser, Rate, Task
from strategies.ood_scores import Seen
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.networks import drawn_from
from strategies.toolkit.training.loop import Batch, BeforeStep, Loss


def components_of(text: str) -> dict[str, Component]:
    """Return the components that `text` joins by +, by name, made.

    Raises:
        UserError: no component of that name, a parameter it does not have or a value out of range, the same one
        twice, or several that take the gradient steps themselves.
    """
    found: dict[str, Component] = {}
    for part in split_outside(text, "+"):
        name = single(part.strip()).name
        if name in found:
            raise UserError(f"component {name} is there twice in {text!r}")
        if not issubclass(find("component", name).cls, Component):
            raise UserError(f"{name} is no component: it should be a class below Component")
        found[name] = configured("component", part.strip())
    own = [name for name, part in found.items() if "own-step" in part.needs]
    if len(own) > 1:
        raise UserError(f"{' and '.join(own)} each take the gradient steps themselves: leave one of them")
    return found


def _known(text: str) -> str:
    components_of(text)
    return text


Named = Annotated[str, AfterValidator(_known)]
"""A parameter that names components joined by +, none where it is empty; a wrong one is refused before anything
runs.
"""


class Chain:
    """The components of one network."""

    def __init__(self, text: str, context: Context, prefix: str, optimiser: Optimiser = PLAIN) -> None:
        self.parts, self.context = components_of(text), context
        for name, part in self.parts.items():
            part.attach(context, name, f"{prefix}-{name.rpartition('/')[2]}", optimiser)

    def with_hook(self, hook: Hook) -> list[Component]:
        """Return the components that override a hook, in their order."""
        return [part for part in self.parts.values() if hook in part.hooks()]

    def check_offer(self, offers: frozenset[str]) -> None:
        """Raise `Unsuitable` for a component that needs what a learner does not offer.

        Args:
            offers: hooks; `targets` where it takes targets and weights; `own-step` where its loss of a batch can be
                taken again.
        """
        for name, part in self.parts.items():
            lacking = [
                *sorted(part.hooks() - offers),
                *sorted((part.needs & {"targets", "own-step"}) - offers),
            ]
            if lacking:
                raise Unsuitable(f"does not offer {lacking[0]}, which component {name} needs")

    def network(self, network: Classifier, part: nn.Module) -> None:
        """Change a new backbone or head.

        Raises:
            Unsuitable: a component needs images, and the items are none; or it finds nothing to change.
        """
        for name, one in self.parts.items():
            if "images" in one.needs and len(network.item_shape) != 3:
                raise Unsuitable(
                    f"has items of shape {network.item_shape}, and component {name} needs images"
                )
        for one in self.with_hook("network"):
            with drawn_from(self.context, f"{one.stream_name}{'-head' if part is network.head else ''}"):
                one.network(network, part)

    def begin(self, task: Task) -> int:
        """Return how many passes the components took before the learner trains.

        Raises:
            Unsuitable: a component needs validation items, and there are none; or together they leave no pass.
        """
        for name, one in self.parts.items():
            if "validation" in one.needs and task.stage.validation is None:
                raise Unsuitable(f"has no validation items in this protocol, which component {name} needs")
        spent = sum(one.begin(task) for one in self.with_hook("begin"))
        if spent and spent >= task.passes:
            raise Unsuitable(f"is left no pass to learn in: components take {spent} of {task.passes}")
        return spent

    def rates(self, network: Classifier) -> dict[nn.Parameter, Rate]:
        """Return the factors on the rates of weights, of those of all components their product."""
        found: dict[nn.Parameter, Rate] = {}
        for one in self.with_hook("rates"):
            for weights, rate in one.rates(network).items():
                before = found.get(weights, Rate())
                found[weights] = Rate(before.lr * rate.lr, before.decay * rate.decay)
        return found

    def judge(self, rows: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return what the first component that judges labels makes of those of items, None where none does."""
        judged = (one.judge(rows) for one in self.parts.values())
        return next((one for one in judged if one is not None), None)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of every component, by name."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become what `state_dict` was taken from."""
        for name, part in self.parts.items():
            part.load_state_dict(state[name])


def chain_of(network: Classifier) -> Chain | None:
    """Return the components of a network, None where it has none."""
    chain = network.components
    assert chain is None or isinstance(chain, Chain)
    return chain


def weights_of(
    networks: Sequence[Classifier], *, lr: float, weight_decay: float = 0.0
) -> list[nn.Parameter] | list[dict[str, Any]]:
    """Return the weights of networks for an optimiser: as they are, or in groups where components say other rates.

    Args:
        networks: whose weights.
        lr, weight_decay: the learner's own.
    """
    plain = [weights for network in networks for weights in network.parameters()]
    rates = {
        weights: rate
        for network in networks
        if (chain := chain_of(network)) is not None
        for weights, rate in chain.rates(network).items()
    }
    if not rates:
        return plain
    groups: dict[Rate, list[nn.Parameter]] = {}
    for weights in plain:
        groups.setdefault(rates.get(weights, Rate()), []).append(weights)
    return [
        {"params": own, "lr": lr * rate.lr, "weight_decay": weight_decay * rate.decay}
        for rate, own in groups.items()
    ]


def with_components(networks: Sequence[Classifier], loss: Loss) -> tuple[Loss, BeforeStep | None]:
    """Return the loss of a batch and what is called before a gradient step, with what components make of them;
    without components `loss` itself and None.

    Several networks are shown the same batch, as the components of the first have changed it.
    """
    chained = [(network, chain) for network in networks if (chain := chain_of(network)) is not None]
    if not chained:
        return loss, None
    first, its_chain = chained[0]
    changing = its_chain.with_hook("change")
    adding = [(network, own) for network, chain in chained if (own := chain.with_hook("term"))]
    stepping = [(network, one) for network, chain in chained for one in chain.with_hook("step")]

    def total(batch: Batch) -> Tensor:
        for one in changing:
            batch = one.change(first, batch)
        with _seen([network for network, _ in adding]) as passes:
            value = loss(batch)
        for (network, own), seen in zip(adding, passes, strict=True):
            terms = (one.term(network, batch, seen[0]) for one in own)
            value = sum((term for term in terms if term is not None), value)
        return value

    def before_step(batch: Batch) -> Callable[[], None] | None:
        found = [one.step(network, batch, lambda: total(batch)) for network, one in stepping]
        behind = [each for each in found if each is not None]

        def after_step() -> None:
            for each in behind:
                each()

        return after_step if behind else None

    return total, before_step if stepping else None


def arranged_by(networks: Sequence[Classifier]) -> Callable[[Tensor], Tensor] | None:
    """Return what rearranges the rows of a pass, the first component of the first network that does; None for none.

    Raises:
        Unsuitable: two components would.
    """
    chain = chain_of(networks[0])
    ordering = [] if chain is None else chain.with_hook("order")
    if len(ordering) > 1:
        raise Unsuitable(
            f"has one order of items, which {' and '.join(one.name for one in ordering)} would change"
        )
    return ordering[0].order if ordering else None


@contextmanager
def _seen(networks: Sequence[Classifier]) -> Iterator[list[list[Seen]]]:
    """Collect features and logits of every forward pass of the heads of networks."""
    passes: list[list[Seen]] = [[] for _ in networks]

    def watching(own: list[Seen]) -> Callable[..., None]:
        return lambda _, given, logits: own.append(Seen(given[0], logits))

    watches = [
        network.head.register_forward_hook(watching(own))
        for network, own in zip(networks, passes, strict=True)
        if network.head is not None
    ]
    try:
        yield passes
    finally:
        for watch in watches:
            watch.remove()


__all__ = ["Chain", "Named", "arranged_by", "chain_of", "components_of", "weights_of", "with_components"]
