"""The network that the protocol names: `quadratic[width=500,modulus=97]`, `relu[hidden=200+200,modulus=97]`,
`transformer[modulus=97]`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from harness.errors import Unsuitable, UserError
from harness.networks import kinds_of
from harness.syntax import chosen, single
from strategies.grokking.networks import Network
from strategies.grokking.normalised import Normalised
from strategies.grokking.quadratic import Products, Quadratic
from strategies.grokking.relu import Relu
from strategies.grokking.transformer import Transformer

Norm = Literal["none", "batch"]

NETWORKS: dict[str, Callable[..., Any]] = {"quadratic": Quadratic, "relu": Relu, "transformer": Transformer}

_OF_THE_STRATEGY = ("products", "room")


def network_of(text: str, *, tokens: int = 2, norm: Norm = "none", products: Products = "exact") -> Network:
    """Return the network that `text` selects, with what the strategy adds to it.

    Args:
        text: name and parameters, `modulus` among them.
        tokens: numbers of an item; a transformer reads all of them.
        norm: of the quadratic network.
        products: of the quadratic network.

    Raises:
        UserError: no network of that name, a parameter it does not have, or no modulus.
        Unsuitable: a network on other items, or a norm or reduced products, and not the quadratic network.
    """
    kind, selection = "network of grokking strategies", single(text)
    if selection.name not in NETWORKS and kinds_of(text):
        raise Unsuitable(
            f"trains networks on pairs of residues ({', '.join(NETWORKS)}), not {selection.name}"
        )
    makers = {**NETWORKS, "quadratic": Normalised} if norm == "batch" else NETWORKS
    make = chosen(kind, text, makers, given=_OF_THE_STRATEGY)
    if not isinstance(selection.params.get("modulus"), int) or selection.params["modulus"] < 2:
        raise UserError(
            f"backbone {selection.name} looks rows up and needs to know how many there are: say "
            f"{selection.name}[modulus=97]"
        )
    options: dict[str, Any] = {}
    if selection.name == "quadratic":
        options["products"] = products
    elif norm != "none" or products != "exact":
        raise Unsuitable(
            f"batch norm and reduced products are those of the quadratic network, not of {selection.name}"
        )
    elif selection.name == "transformer" and "tokens" not in selection.params:
        options["tokens"] = tokens
    network: Network = make(**options)
    return network


__all__ = ["NETWORKS", "Norm", "network_of"]
