"""The report as files: `sweep.md`, `sweep.csv`, `sweep.tex`, `sensitivity.png`, and `sweep.html`, a page that asks nobody for anything.

The page has the style of the boards' pages and no script; whatever it shows is text, which jinja2 escapes.
"""

from __future__ import annotations

import base64
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from harness.errors import UserError
from leaderboards.sensitivity.files import csv_text, latex, markdown
from leaderboards.sensitivity.plot import sensitivity_png
from leaderboards.sensitivity.report import Report
from leaderboards.sensitivity.text import Titled, failures_table, notes, sentences, tables
from leaderboards.site.pages import TEMPLATES

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Sensitivity: {{ report.title }}</title>
<link rel="icon" href="data:,">
<style>{{ style }} img { max-width: 100%; height: auto; background: #fff; }</style>
</head>
<body>
<main id="main" class="wide">
<h1>Sensitivity: {{ report.title }}</h1>
<p class="lead">{{ report.seeds }} seeds, 95 % intervals</p>
<p><img src="data:image/png;base64,{{ plot }}" alt="Figures against parameters; the same figures stand in the tables below"></p>
<ul>{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul>
{% for heading, facts, tables in sections %}
<section><h2>{{ heading }}</h2>
{% for fact in facts %}
<p class="unit">{{ fact }}</p>
{% endfor %}
{% for table in tables %}
<h3>{{ table.title }}</h3>
<div class="scroll" tabindex="0"><table>
<thead><tr>{% for cell in table.table.header %}<th scope="col">{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in table.table.rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}</tbody></table></div>
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
    plot = sensitivity_png(report)
    files = {
        "sweep.md": markdown(report).encode(),
        "sweep.csv": csv_text(report).encode(),
        "sweep.tex": latex(report).encode(),
        "sensitivity.png": plot,
        "sweep.html": html(report, plot).encode(),
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


def html(report: Report, plot: bytes) -> str:
    """Return the page, with the plot in it."""
    sections = [
        (part.label, [*([f"protocol {part.protocol}"] if part.protocol else []), *sentences(part)], tables(part))
        for part in report.parts
    ]  # fmt: skip
    if report.failures:
        sections.append(("Cells without a figure", [], [Titled("what ended without one", failures_table(report))]))
    style = Markup((TEMPLATES / "page.css").read_text(encoding="utf-8"))  # noqa: S704  (one of the project's own files)
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(_PAGE)
    return template.render(report=report, sections=sections, notes=notes(report), style=style, plot=base64.b64encode(plot).decode())


__all__ = ["html", "write_report"]
