"""A report on one page: a picture, notes, tables, in the style of the boards' pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from harness.results.self_contained import filled, rendered
from harness.results.tables import Table


class PlainSection(NamedTuple):
    """A heading, sentences, tables with what each shows, empty where the heading says it, and an `svg` element of our
    own making above them, empty where there is none.
    """

    heading: str
    facts: Sequence[str]
    tables: Sequence[tuple[str, Table]]
    picture: Markup = Markup()


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
            "picture": drawn(picture),
            "alt": alt,
            "notes": notes,
            "sections": sections,
            "files": files,
            "home": home,
        },
    )


def drawn(picture: str) -> Markup:
    """Return an `svg` element of our own making as it stands in a page; matplotlib escapes every text in it."""
    return Markup(picture)  # noqa: S704


def sections_html(sections: Sequence[PlainSection]) -> str:
    """Return the sections alone, as a notebook shows them below a cell."""
    return filled("sections.html", {"sections": sections})


__all__ = ["PlainSection", "drawn", "plain_page", "sections_html"]
