"""A learner that takes components."""

from __future__ import annotations

from typing import ClassVar

from harness.contracts import Strategy, param
from strategies.components.chain import Chain, Named


class TakesComponents(Strategy):
    """A learner whose networks can have components.

    offers: the hooks it calls, and `targets` where its loss takes targets and weights of a batch.
    """

    components: Named = param(
        "",
        "changes to training by name, several joined by +, such as crrelu+rate[factor=0.25]",
        selects="component",
    )

    later: ClassVar[tuple[str, ...]] = ("components",)
    offers: ClassVar[frozenset[str]] = frozenset({"network", "rates", "change", "term", "step"})

    def chain(self, init: str = "init") -> Chain | None:
        """Return new components for the network that is drawn from the stream `init`; None where none are named.

        Raises:
            Unsuitable: one needs what this learner does not offer.
        """
        if not self.components:
            return None
        chain = Chain(self.components, self.context, init)
        chain.check_offer(self.offers)
        return chain
