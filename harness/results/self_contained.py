"""Pages that are complete in themselves: one style, one theme switch, no address. A page's policy forbids every
connection and every script but those named by their digests, so that a label that were to end up as markup
could still not run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).with_name("templates")


def rendered(
    template: str,
    values: Mapping[str, Any],
    *,
    folder: Path = TEMPLATES,
    scripts: Sequence[Path] = (),
    digests: Sequence[str] = (),
    filters: Mapping[str, Callable[..., Any]] | None = None,
) -> str:
    """Return a page as HTML; whatever it shows is text, which jinja2 escapes.

    Args:
        template: of `folder`, built on `base.html`.
        values: what the template shows.
        folder: where it lies.
        scripts: files to run at the end of the page.
        digests: of further scripts that may run, as `digest` gives them.
        filters: what the template calls by name.
    """
    head, end = [_asset(TEMPLATES / "theme.js")], [_asset(script) for script in scripts]
    frame = {
        "style": _asset(TEMPLATES / "page.css"),
        "head_scripts": head,
        "end_scripts": end,
        "policy": _policy([*map(digest, [*head, *end]), *digests]),
    }
    return filled(template, {**values, **frame}, folder=folder, filters=filters)


def filled(
    template: str,
    values: Mapping[str, Any],
    *,
    folder: Path = TEMPLATES,
    filters: Mapping[str, Callable[..., Any]] | None = None,
) -> str:
    """Return a template with its values, and nothing around it; the arguments are those of `rendered`."""
    environment = Environment(
        loader=FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters or {})
    return environment.get_template(template).render(values)


@cache
def _asset(path: Path) -> Markup:
    """Return one of the project's own files, which are as trusted as its code."""
    text = path.read_text(encoding="utf-8").strip()
    if "</" in text:
        raise ValueError(f"{path.name} would close the element that holds it")
    return Markup(text)  # noqa: S704


def digest(script: str) -> str:
    """Return what a policy calls a script: the base64 of its SHA-256."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _policy(digests: Sequence[str]) -> str:
    """Return a Content-Security-Policy without any address: only these scripts, pictures that are made in the
    page, its own style.
    """
    allowed = " ".join(f"'sha256-{each}'" for each in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


__all__ = ["digest", "filled", "rendered"]
