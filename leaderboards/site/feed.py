"""The Atom feed of a board: one entry for every accepted submission, with the places that it moved (RFC 4287).

All of it, the days included, is what the board's list says, so that the same board gives the same bytes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from harness.results.printable import printable
from leaderboards.publishing.accepted import Version
from leaderboards.publishing.board import Board

FEED = "changes.atom"
_MOST = 50


def feed(board: Board) -> str:
    """Return the feed of a board that accepted something, the newest `_MOST` versions first."""
    versions = list(reversed(board.accepted.versions))
    header = board.header
    root = Element("feed", {"xmlns": "http://www.w3.org/2005/Atom"})
    _add(root, "title", f"{header.suite.title or header.name}: places that moved")
    _add(root, "id", _id(header.name))
    _add(root, "updated", _moment(versions[0]))
    _add(root, "link", href="index.html")
    _add(root, "link", rel="self", href=FEED)
    _add(_add(root, "author"), "name", "openworld-bench")
    for version in versions[:_MOST]:
        entry = _add(root, "entry")
        _add(entry, "title", f"{version.name}, revision {version.revision}")
        _add(entry, "id", _id(f"{header.name}/{version.digest}"))
        _add(entry, "updated", _moment(version))
        _add(entry, "link", href="index.html")
        _add(entry, "content", "\n".join(_lines(version)), type="text")
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _lines(version: Version) -> Iterator[str]:
    yield f"{version.label} was accepted."
    for place in version.moved:
        yield f"{place.scenario} | {place.strategy}: {place.words}"


def _id(name: str) -> str:
    return uuid.uuid5(uuid.NAMESPACE_URL, f"openworld-bench/boards/{name}").urn


def _moment(version: Version) -> str:
    return f"{version.day.isoformat()}T00:00:00Z"


def _add(parent: Element, tag: str, text: str | None = None, **attributes: str) -> Element:
    found = ElementTree.SubElement(parent, tag, attributes)
    found.text = printable(text) if text is not None else None
    return found


__all__ = ["FEED", "feed"]
