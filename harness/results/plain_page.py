"""A report on one page: a picture, notes, tables. It has the style of the boards' pages and no script, and
asks nobody for anything.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.results.tables import Table

TEMPLATES = Path(__file__).with_name("templates")
STYLE = TEMPLATES / "page.css"
"""The look of every page: of studies and of boards."""


class PlainSection(NamedTuple):
    """A heading, sentences, and tables with what each shows, empty where the heading says it."""

    heading: str
    facts: Sequence[str]
    tables: Sequence[tuple[str, Table]]


def plain_page(
    title: str, lead: str, *, picture: bytes, alt: str, notes: Sequence[str], sections: Sequence[PlainSection]
) -> str:
    """Return the page as HTML; whatever it shows is text, which jinja2 escapes. `picture` is a PNG, `alt`
    what can be seen in it.
    """
    style = Markup(STYLE.read_text(encoding="utf-8"))  # noqa: S704  (one of the project's own files)
    return _filled(
        "plain.html",
        title=title,
        lead=lead,
        picture=base64.b64encode(picture).decode(),
        alt=alt,
        notes=notes,
        sections=sections,
        style=style,
    )


def sections_html(sections: Sequence[PlainSection]) -> str:
    """Return the sections alone, as a notebook shows them below a cell."""
    return _filled("sections.html", sections=sections)


def _filled(template: str, **content: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(content)


__all__ = ["STYLE", "PlainSection", "plain_page", "sections_html"]
