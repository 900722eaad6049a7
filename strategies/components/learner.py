"""A learner that takes components."""

from __future__ import annotations

from typing import ClassVar

from harness.contracts import Strategy, param
from strategies.components.chain import Chain, Named
from strategies.components.contract import Optimiser

_LOOP = {"learn", "fit", "minimise"}
"""Methods of which one calls the hooks, or does not."""


class TakesComponents(Strategy):
    """A learner whose networks can have components.

    offers: the hooks it calls, `targets` where its loss takes targets and weights of a batch, `own-step` where that
    loss can be taken again with nothing moved but the weights. What trains says
    so itself: a class that overrides `learn`, `fit` or `minimise` declares `offers` too, or is taken to call the one
    that needs no loop, `network`.
    """

    components: Named = param(
        "",
        "changes to training by name, several joined by +, such as crrelu+rate[factor=0.25]",
        selects="component",
    )

    later: ClassVar[tuple[str, ...]] = ("components",)
    offers: ClassVar[frozenset[str]] = frozenset({"network"})

    def chain(self, init: str = "init") -> Chain | None:
        """Return new components for the network that is drawn from the stream `init`; None where none are named.

        Raises:
            Unsuitable: one needs what this learner does not offer.
        """
        if not self.components:
            return None
        optimiser = Optimiser(getattr(self, "optimiser", "sgd"), getattr(self, "weight_decay", 0.0))
        chain = Chain(self.components, self.context, init, optimiser)
        chain.check_offer(self.called())
        return chain

    @classmethod
    def called(cls) -> frozenset[str]:
        """Return what it offers: what is declared at or below the class that trains."""
        for owner in cls.__mro__:
            if "offers" in vars(owner):
                return cls.offers
            if _LOOP & vars(owner).keys():
                return TakesComponents.offers
        return cls.offers
