"""A badge: the place of a strategy on a board and its interval, as a picture that needs no network and no font of
its own.

Which font shows it is up to the reader's machine, so every text has its length in the picture, and is drawn
narrower or wider where its font would take another.
"""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import east_asian_width
from xml.etree import ElementTree

from harness.errors import UserError, unknown
from harness.results.aggregate import aggregate
from harness.results.formats import figure
from harness.results.printable import printable
from harness.results.ranking import Ranking, Row
from harness.results.tables import scale, words
from leaderboards.publishing.board import slug

_LEFT, _RIGHT = "#444444", "#1d4e89"
_SIZE, _HEIGHT, _PAD = 11, 20, 6.0
_NARROW, _WIDE = frozenset(" !'(),-./:;=I[]fijlrt|"), frozenset("%@MW_mw±")


def badge(rankings: Sequence[Ranking], board: str, strategy: str, scenario: str = "") -> str:
    """Return the SVG of a strategy on a board.

    Args:
        rankings: of the board.
        board: its name.
        strategy: label of an entry.
        scenario: label of a protocol; by default the only one, else the mean over all.

    Raises:
        UserError: no such strategy or scenario on the board.
    """
    labels = dict.fromkeys(row.strategy for ranking in rankings for row in ranking.rows)
    if strategy not in labels:
        raise unknown("strategy", strategy, labels, f"owb board show {board}")
    by_label = {ranking.scenario: ranking for ranking in rankings}
    if scenario and scenario not in by_label:
        raise unknown("scenario", scenario, by_label, f"owb board show {board}")
    if len(rankings) > 1 and not scenario:
        where, place, value = board, *_over_all(rankings, strategy)
    else:
        ranking = by_label[scenario] if scenario else rankings[0]
        where, place, value = f"{board}: {ranking.scenario}", *_on_one(ranking, strategy)
    return _svg(printable(where), printable(f"{place} | {value}"), printable(f"{strategy} on {where}"))


def badges(rankings: Sequence[Ranking], board: str) -> dict[str, str]:
    """Return the badge of every contender that has a place, by the name of its file."""
    rows = aggregate(rankings).rows if len(rankings) > 1 else rankings[0].rows
    placed = [row.strategy for row in rows if not isinstance(row, Row) or row.role == "contender"]
    return {f"{slug(label)}.svg": badge(rankings, board, label) for label in placed}


def _on_one(ranking: Ranking, strategy: str) -> tuple[str, str]:
    """Return place and interval on one scenario."""
    row = next(row for row in ranking.rows if row.strategy == strategy)
    name = ranking.primary.name
    factor = scale(ranking, name)
    value = figure(row.intervals[name], factor)
    place = _place(row.place, sum(each.role == "contender" for each in ranking.rows))
    unit = " %" if factor == 100 else ""
    return (
        place if row.role == "contender" else row.role,
        f"{words(name)} {value}{unit}" if value else "no figure",
    )


def _over_all(rankings: Sequence[Ranking], strategy: str) -> tuple[str, str]:
    """Return place and interval of the mean over all scenarios, scaled between their bounds."""
    rows = aggregate(rankings).rows
    row = next((row for row in rows if row.strategy == strategy), None)
    if row is None:
        raise UserError(
            f"{strategy!r} bounds the board and has no place over all scenarios: name one with --scenario"
        )
    return _place(row.place, len(rows)), f"scaled mean {figure(row.mean, 1) or 'unknown'}"


def _place(place: str, contenders: int) -> str:
    return f"place {place} of {contenders}"


def _svg(left: str, right: str, what: str) -> str:
    """Return two fields beside each other; the title is what a screen reader says."""
    widths = [round(_width(text) + 2 * _PAD, 1) for text in (left, right)]
    total = round(sum(widths), 1)
    root = ElementTree.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "width": f"{total:g}",
            "height": str(_HEIGHT),
            "viewBox": f"0 0 {total:g} {_HEIGHT}",
            "role": "img",
            "aria-labelledby": "title",
            "font-family": "Verdana, DejaVu Sans, Geneva, sans-serif",
            "font-size": str(_SIZE),
            "fill": "#ffffff",
        },
    )
    ElementTree.SubElement(root, "title", {"id": "title"}).text = f"{what}: {right}"
    at = 0.0
    for text, width, colour in zip((left, right), widths, (_LEFT, _RIGHT), strict=True):
        field = {"x": f"{at:g}", "width": f"{width:g}", "height": str(_HEIGHT), "fill": colour}
        ElementTree.SubElement(root, "rect", field)
        length = {"textLength": f"{width - 2 * _PAD:g}", "lengthAdjust": "spacingAndGlyphs"}
        ElementTree.SubElement(root, "text", {"x": f"{at + _PAD:g}", "y": "14", **length}).text = text
        at += width
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _width(text: str) -> float:
    """Return about how wide Verdana draws a text, in pixels."""
    shares = (
        1.0
        if east_asian_width(letter) in "WF"
        else 0.42
        if letter in _NARROW
        else 0.95
        if letter in _WIDE
        else 0.65
        for letter in text
    )
    return _SIZE * sum(shares)


__all__ = ["badge", "badges"]
