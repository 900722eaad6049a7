"""Rendering: a report becomes `index.html`, `board.csv`, `board.md` and `board.tex`; equal reports become
equal bytes.

The page asks nobody for anything. Whatever comes from a board is text: jinja2 escapes it, JSON in the page has
no angle brackets, and plotly gets its labels escaped. plotly.js is in the page once, compressed, and is
unpacked when the first picture comes into view.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from harness.results.aggregate import Aggregate, aggregate
from harness.results.formats import figure
from harness.results.latex import latex
from harness.results.placing import POWER
from harness.results.self_contained import digest, rendered
from harness.results.tables import (
    aggregate_table,
    csv_text,
    escaped,
    failures_table,
    markdown,
    ranking_notes,
    ranking_table,
    scale,
    words,
)
from leaderboards.site import figures
from leaderboards.site.cards import as_text
from leaderboards.site.diagrams import over_scenarios
from leaderboards.site.feed import FEED
from leaderboards.site.progress import curve_plots, matrix_plots
from leaderboards.site.report import Report, Section, report_of_records
from leaderboards.site.reproduce import command_of, one_seed
from leaderboards.site.tables import aggregate_grid, in_short, ranking_grid

if TYPE_CHECKING:
    from harness.store.mlflow_store import Store
    from harness.store.record import Record

HTML, CSV, MARKDOWN, LATEX, SUMMARY = "index.html", "board.csv", "board.md", "board.tex", "summary.json"
TEMPLATES = Path(__file__).with_name("templates")
_CARRIED = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def page_of_records(
    records: Sequence[Record],
    *,
    name: str,
    title: str = "",
    store: Store | None = None,
    curves: bool | None = None,
) -> dict[str, str]:
    """Return the files of an experiment's page by name; see `report_of_records` for the arguments."""
    return files_of(report_of_records(records, name=name, title=title, store=store, curves=curves))


def files_of(report: Report) -> dict[str, str]:
    """Return the text of every file of a report's page by name."""
    rankings = report.rankings
    together = aggregate(rankings) if len(rankings) > 1 else None
    return {
        HTML: _html(report, together),
        CSV: csv_text(rankings),
        MARKDOWN: report.markdown or _markdown(report, together),
        LATEX: latex(rankings),
        SUMMARY: json.dumps(_summary(report), indent=1, ensure_ascii=False) + "\n",
        **({FEED: report.feed} if report.feed else {}),
    }


def index_page(summaries: Sequence[Mapping[str, Any]], documentation: str = "") -> str:
    """Return the page that lists boards by their summaries, with a link to the documentation where there is one."""
    return _page("index.html", {"boards": summaries, "documentation": documentation}, "index.js")


def _html(report: Report, together: Aggregate | None) -> str:
    pictures: dict[str, list[figures.Variant]] = {}
    sections = [
        _section(report, section, number, pictures) for number, section in enumerate(report.sections, start=1)
    ]
    diagrams = over_scenarios(report.rankings, together) if together and together.rows else []
    pictures |= {f"over-{diagram.name}": diagram.variants for diagram in diagrams}
    drawn = {
        name: [{"label": one.label, "group": one.group, **one.spec} for one in variants]
        for name, variants in pictures.items()
    }
    packed, own_digest = _plotly()
    values = {
        "report": report,
        "sections": sections,
        "counts": _counts(report),
        "aggregate": together,
        "aggregate_grid": aggregate_grid(together) if together and together.scenarios else None,
        "diagrams": diagrams,
        "pictures": pictures,
        "failures": failures_table(report.rankings),
        "data": _carried(
            {
                "pictures": drawn,
                "cells": [_cells(report, section) for section in report.sections],
                "parameters": {label: _parameters(of) for label, of in report.configurations.items()},
            }
        ),
        "plotly": packed,
        "has_times": any(metric.censored for ranking in report.rankings for metric in ranking.metrics),
        "has_packs": any(line.together > 1 for line in report.lines),
        "power": f"{POWER:.0%}",
    }
    return _page("board.html", values, "page.js", own_digest)


def _page(template: str, values: Mapping[str, Any], script: str, *digests: str) -> str:
    return rendered(
        template,
        values,
        folder=TEMPLATES,
        scripts=[TEMPLATES / script],
        digests=digests,
        filters={"words": words, "grouped": _grouped, "soft": _soft},
    )


def _section(
    report: Report, section: Section, number: int, pictures: dict[str, list[figures.Variant]]
) -> dict[str, Any]:
    """Return what the template says of one protocol; its pictures go into `pictures`."""
    ranking = section.ranking
    pareto = figures.pareto_plot(ranking)
    own = {
        "intervals": figures.interval_plots(ranking),
        "cost": [figures.Variant("cost", pareto)] if pareto else [],
        "curves": curve_plots(ranking, section.curves),
        "matrices": matrix_plots(ranking, section.curves),
    }
    pictures |= {f"{kind}-{number}": variants for kind, variants in own.items() if variants}
    leader = next((row for row in ranking.rows if row.strategy == ranking.best), None)
    factor = scale(ranking, ranking.primary.name)
    return {
        "number": number,
        "ranking": ranking,
        "card": section.card,
        "grid": ranking_grid(ranking),
        "notes": ranking_notes(ranking),
        "short": in_short(ranking),
        "primary": figures.axis_title(ranking, ranking.primary.name),
        "leader": figure(leader.intervals[ranking.primary.name], factor) if leader else "",
        "front": [row.strategy for row in figures.pareto_front(ranking)],
        "remark": section.remark,
    }


def _cells(report: Report, section: Section) -> dict[str, Any]:
    """Return, per strategy, what is shown when its row is opened."""
    ranking = section.ranking
    factor = scale(ranking, ranking.primary.name)
    texts = []
    for strategy, lines in section.cells.items():
        own = {
            "command": command_of(
                strategy, ranking.scenario, seeds=max(line.seed for line in lines) + 1, suite=report.suite
            ),
            "one": one_seed(strategy, ranking.scenario, suite=report.suite),
            "rows": [
                [
                    line.seed,
                    str(line.status),
                    _text(line.figure * factor, 6),
                    _text(line.seconds, 4),
                    _text(line.peak_mib, 4),
                    line.key[:12],
                    line.reason,
                ]
                for line in lines
            ],
        }
        texts.append([strategy, own])
    return {"primary": figures.axis_title(ranking, ranking.primary.name), "strategies": texts}


def _parameters(configuration: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {as_text(value)}" for name, value in configuration.items())


def _text(value: float, digits: int) -> str:
    return f"{value:.{digits}g}" if math.isfinite(value) else ""


def _counts(report: Report) -> dict[str, Any]:
    lines = report.lines
    failed = sum(len(row.failures) for ranking in report.rankings for row in ranking.rows)
    seeds = sorted({len(ranking.seeds) for ranking in report.rankings})
    return {
        "strategies": len(report.strategies),
        "scenarios": len(report.sections),
        "seeds": str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}",
        "cells": len(lines),
        "failed": failed,
        "hours": sum(line.seconds for line in lines if math.isfinite(line.seconds)) / 3600,
    }


def _summary(report: Report) -> dict[str, Any]:
    """Return what the index says of a board."""
    leaders = []
    for ranking in report.rankings:
        row = next((row for row in ranking.rows if row.strategy == ranking.best), None)
        leaders.append(
            {
                "scenario": ranking.scenario,
                "metric": figures.axis_title(ranking, ranking.primary.name),
                "best": ranking.best or "",
                "others": max(0, len(ranking.leaders) - 1),
                "figure": figure(row.intervals[ranking.primary.name], scale(ranking, ranking.primary.name))
                if row
                else "",
            }
        )
    data = sorted({line.name for section in report.sections for line in section.card.data})
    counts = _counts(report)
    return {
        "name": report.name,
        "title": report.title,
        "hash": report.digest,
        **{key: counts[key] for key in ("strategies", "scenarios", "seeds", "cells", "failed")},
        "data": data,
        "labels": report.strategies,
        "leaders": leaders,
    }


def _markdown(report: Report, together: Aggregate | None) -> str:
    """Return the rankings of an experiment as Markdown; a board has a fuller page of its own."""
    parts = [f"# {escaped(report.title)}\n"]
    for ranking in report.rankings:
        notes = "".join(f"- {escaped(note)}\n" for note in ranking_notes(ranking))
        parts += [
            f"## {escaped(ranking.scenario)}\n",
            f"Protocol `{ranking.protocol_hash}`.\n",
            markdown(ranking_table(ranking)),
            notes,
        ]
    if together and together.rows:
        parts += ["## Over all scenarios\n", markdown(aggregate_table(together))]
    failures = failures_table(report.rankings)
    parts += [
        "## Cells without a figure\n",
        markdown(failures) if failures.rows else "None: every cell has a figure.\n",
    ]
    return "\n".join(parts)


def _soft(text: str) -> Markup:
    """Return a label, escaped, that may be broken where its parts end."""
    return Markup(re.sub(r"([\[,=_])", r"\1<wbr>", str(escape(text))))  # noqa: S704


def _grouped(variants: Sequence[figures.Variant]) -> list[tuple[str, list[tuple[int, str]]]]:
    """Return the choices of a picture under their headings, each with its number."""
    found: dict[str, list[tuple[int, str]]] = {}
    for number, variant in enumerate(variants):
        found.setdefault(variant.group, []).append((number, variant.label))
    return list(found.items())


@cache
def _plotly() -> tuple[Markup, str]:
    """Return plotly.js compressed for the page, and the digest that lets it run."""
    source = (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    packed = base64.b64encode(gzip.compress(source.encode(), 9, mtime=0)).decode()
    return Markup(packed), digest(source)  # noqa: S704


def _carried(value: Any) -> Markup:
    """Return JSON for a script element: nothing in it can close the element or open another."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(_CARRIED))  # noqa: S704


__all__ = ["CSV", "HTML", "LATEX", "MARKDOWN", "SUMMARY", "files_of", "index_page", "page_of_records"]
