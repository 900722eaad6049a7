"""A report on one page: a picture, notes, tables, in the style of the boards' pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from harness.results.self_contained import filled, rendered
from harness.results.tables import Table


class PlainSection(NamedTuple):
    """A heading, sentences, and tables with what each shows, empty where the heading says it."""

    heading: str
    facts: Sequence[str]
    tables: Sequence[tuple[str, Table]]


def plain_page(
    title: str,
    lead: str,
    *,
    picture: str,
    alt: str,
    notes: Sequence[str],
    sections: Sequence[PlainSection],
    files: Sequence[str] = (),
    home: str = "",
) -> str:
    """Return the page as HTML.

    Args:
        title, lead: its heading, and the sentence below.
        picture: an `svg` element of our own making, as `harness.store.canvas.svg` gives it.
        alt: what can be seen in the picture.
        notes, sections: what stands below it.
        files: what was written beside the page, to link to.
        home: the page to go back to; empty where there is none.
    """
    return rendered(
        "plain.html",
        {
            "title": title,
            "lead": lead,
            "picture": Markup(picture),  # noqa: S704  (matplotlib escapes every text in it)
            "alt": alt,
            "notes": notes,
            "sections": sections,
            "files": files,
            "home": home,
        },
    )


def sections_html(sections: Sequence[PlainSection]) -> str:
    """Return the sections alone, as a notebook shows them below a cell."""
    return filled("sections.html", {"sections": sections})


__all__ = ["PlainSection", "plain_page", "sections_html"]
