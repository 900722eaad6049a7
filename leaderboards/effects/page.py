"""The report as files: `effects.md`, `effects.csv`, `effects.tex`, `forest.png`, and `effects.html`, a page that asks nobody for anything.

The page has the style of the boards' pages and no script; whatever it shows is text, which jinja2 escapes.
"""

from __future__ import annotations

import base64
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from harness.errors import UserError
from leaderboards.effects.contributions import Part, Report
from leaderboards.effects.forest import forest_png
from leaderboards.effects.text import csv_text, effects_table, failures_table, latex, markdown, metrics_table, notes, reference_line
from leaderboards.render import Table
from leaderboards.site.pages import TEMPLATES

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ ablation.strategy }}: what its parts contribute</title>
<link rel="icon" href="data:,">
<style>{{ style }} img { max-width: 100%; height: auto; background: #fff; }</style>
</head>
<body>
<main id="main" class="wide">
<h1>What the parts of {{ ablation.strategy }} contribute</h1>
<p class="lead">{{ ablation.design }}, {{ ablation.arms | length }} arms, {{ report.seeds }} seeds</p>
<p><img src="data:image/png;base64,{{ forest }}" alt="Differences with their intervals; the same figures stand in the tables below"></p>
<ul>{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul>
{% for heading, facts, tables in sections %}
<section><h2>{{ heading }}</h2>
{% for fact in facts %}
<p class="unit">{{ fact }}</p>
{% endfor %}
{% for table in tables %}
<div class="scroll" tabindex="0"><table><thead><tr>{% for cell in table.header %}<th scope="col">{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in table.rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}</tbody></table></div>
{% endfor %}
</section>
{% endfor %}
</main>
</body>
</html>
"""


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write all files, each whole; return their paths.

    Raises:
        UserError: the folder cannot be written.
    """
    forest = forest_png(report)
    files = {
        "effects.md": markdown(report).encode(),
        "effects.csv": csv_text(report).encode(),
        "effects.tex": latex(report).encode(),
        "forest.png": forest,
        "effects.html": html(report, forest).encode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            temporary = folder / f".{name}.tmp"
            temporary.write_bytes(content)
            temporary.replace(folder / name)
    except OSError as error:
        raise UserError(f"cannot write to {str(folder)!r}: {error.strerror or error}") from error
    return [folder / name for name in files]


def html(report: Report, forest: bytes) -> str:
    """Return the page, with the plot in it."""
    sections = [
        (part.label, [*([f"protocol {part.protocol}"] if part.protocol else []), reference_line(report, part)], _tables(part))
        for part in report.parts
    ]
    if report.failures:
        sections.append(("Cells without a figure", [], [failures_table(report)]))
    style = Markup((TEMPLATES / "page.css").read_text(encoding="utf-8"))  # noqa: S704  (one of the project's own files)
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(_PAGE)
    return template.render(report=report, ablation=report.ablation, sections=sections, notes=notes(report), style=style,
                           forest=base64.b64encode(forest).decode())  # fmt: skip


def _tables(part: Part) -> list[Table]:
    return [effects_table(part), *([metrics_table(part)] if len(part.effects) > 1 else [])]


__all__ = ["html", "write_report"]
