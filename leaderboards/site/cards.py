"""The card of a protocol: every setting of the scenario with its meaning, the data with licence and digest,
what each metric means.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.contracts import Card, Metric, Scenario
from harness.errors import UserError
from harness.parameters import with_new_names
from harness.plugins import find
from harness.results.ranking import Ranking
from harness.selection import configured, single
from harness.weights import OVERLAPS
from leaderboards.publishing.board import BoardProtocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One parameter of the scenario as text, and what it means."""

    name: str
    value: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DataLine:
    """One data set: the digest under the protocol, and its card where it is installed."""

    name: str
    digest: str
    card: Card | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """The weights that the network starts from, which set a protocol apart from all others; digest and data
    are empty where not known.
    """

    digest: str
    pretrained_on: str
    overlap: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolCard:
    """What defines the comparison.

    deal: digest of what is dealt under seed 0, empty where it is not known.  division: None where the network
    starts from no weights.
    """

    label: str
    digest: str
    settings: Sequence[Setting]
    data: Sequence[DataLine]
    metrics: Sequence[Metric]
    lower_bound: str
    upper_bound: str
    deal: str
    division: Division | None


def card_of_protocol(protocol: BoardProtocol) -> ProtocolCard:
    """Return the card of a board's protocol, as the board states it; meanings come from the scenario where it
    is installed.
    """
    content = protocol.content
    try:
        cls = find("scenario", str(content.get("scenario", ""))).cls
    except UserError:
        cls = None
    return ProtocolCard(
        label=protocol.label,
        digest=protocol.hash,
        settings=_settings(content.get("config", {}), cls),
        data=_data(content.get("data", {})),
        metrics=protocol.metrics,
        lower_bound=protocol.lower_bound,
        upper_bound=protocol.upper_bound,
        deal=str(content.get("deal_of_seed_0", "")),
        division=_division(content.get("weights")),
    )


def card_of_scenario(ranking: Ranking, scenario: Scenario) -> ProtocolCard:
    """Return the card of recorded cells: the scenario as it is configured here, under the hash they were
    recorded with.
    """
    return ProtocolCard(
        label=ranking.scenario,
        digest=ranking.protocol_hash,
        settings=_settings(scenario.model_dump(mode="json"), type(scenario)),
        data=_data(scenario.data_digests()),
        metrics=scenario.metrics,
        lower_bound=scenario.lower_bound,
        upper_bound=scenario.upper_bound,
        deal="",
        division=_division(_declared(scenario.budget().backbone)),
    )


def _declared(backbone: str) -> dict[str, str]:
    """Return what the text of a backbone says of its weights, without a look at their file; nothing where it
    names none.
    """
    selection = single(backbone)
    if not selection.params.get("weights") and selection.params.get("pretrained") is not True:
        return {}
    return {
        "pretrained_on": selection.text("pretrained_on"),
        "overlap": selection.text("overlap") or OVERLAPS[0],
    }


def _division(weights: Mapping[str, Any] | None) -> Division | None:
    if not weights:
        return None
    return Division(
        digest=str(weights.get("sha256", "")),
        pretrained_on=str(weights["pretrained_on"]),
        overlap=str(weights["overlap"]),
    )


def _settings(config: Mapping[str, Any], cls: type[Any] | None) -> list[Setting]:
    fields = getattr(cls, "model_fields", {})
    meanings = {name: field.description or "" for name, field in fields.items()}
    return [
        Setting(name=name, value=as_text(value), meaning=meanings.get(name, ""))
        for name, value in (with_new_names(cls, config) if cls else config).items()
    ]


def as_text(value: Any) -> str:
    """Return a parameter's value as a reader would write it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _data(digests: Mapping[str, str]) -> list[DataLine]:
    return [
        DataLine(name=name, digest=str(digest), card=_card(name, str(digest)))
        for name, digest in digests.items()
    ]


def _card(dataset: str, digest: str) -> Card | None:
    """Return the card of a data set, which may have parameters in brackets; None where it is not installed.

    Data of one's own have no sizes on the card of their kind: these are read from the data, where they are here
    and still the same.
    """
    try:
        card: Card | None = getattr(find("dataset", single(dataset).name).cls, "card", None)
        if card is None or card.items:
            return card
        own: Card = configured("dataset", dataset).card
    except UserError:
        return None
    return own if own.digest == digest else None


__all__ = [
    "DataLine",
    "Division",
    "ProtocolCard",
    "Setting",
    "as_text",
    "card_of_protocol",
    "card_of_scenario",
]
