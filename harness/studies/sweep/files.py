"""A sweep as Markdown, CSV and LaTeX."""

from __future__ import annotations

from collections.abc import Iterator

from harness.results.formats import csv_number
from harness.results.latex import NEEDS, latex_table
from harness.results.tables import csv_of, escaped
from harness.results.tables import markdown as markdown_table
from harness.statistics import Interval
from harness.studies.sweep.curves import Curve, Move
from harness.studies.sweep.report import Part, Report, View
from harness.studies.sweep.text import failures_table, notes, said, sentences, tables

_MOST_ROWS = 20
"""Settings that fit on a page."""

_CSV_HEADER = (
    "scenario",
    "protocol",
    "metric",
    "better",
    "what",
    "dimension",
    "value",
    "setting",
    "mean",
    "low",
    "high",
    "seeds",
    "settings",
    "p",
    "p_holm",
)


def markdown(report: Report) -> str:
    """Return the whole report as Markdown."""
    lines = [f"# Sensitivity: {escaped(report.title)}\n", f"{report.seeds} seeds, 95 % intervals.\n"]
    for part in report.parts:
        lines += [f"## {escaped(part.label)}\n", f"Protocol `{part.protocol}`.\n" if part.protocol else ""]
        lines.append("".join(f"- {escaped(sentence)}\n" for sentence in sentences(part)))
        for heading, table in tables(part):
            lines += [f"### {escaped(heading)}\n", markdown_table(table)]
    lines += ["## Notes\n", "".join(f"- {escaped(note)}\n" for note in notes(report))]
    if report.failures:
        lines += ["## Cells without a figure\n", markdown_table(failures_table(report))]
    return "\n".join(line for line in lines if line)


def csv_text(report: Report) -> str:
    """Return tidy CSV: settings, curves, main effects, correlations and bounds by scenario and metric,
    numbers unscaled.
    """
    return csv_of(
        _CSV_HEADER,
        (
            [scenario, part.protocol, view.metric, view.better, *cells]
            for part in report.parts
            for view in part.views
            for scenario, *cells in _lines(part, view)
        ),
    )


def latex(report: Report) -> str:
    r"""Return the tables of every part in the booktabs style."""
    found = [
        latex_table(
            f"{report.title} on {part.label}: {heading}; {report.seeds} seeds, 95 % intervals.", table, left=1
        )
        for part in report.parts
        for heading, table in tables(part, most_rows=_MOST_ROWS)
    ]
    return NEEDS + "\n".join(found)


def _lines(part: Part, view: View) -> Iterator[list[str]]:
    """Yield a line per figure: scenario, what, dimension, value, setting, mean, low, high, seeds, settings,
    p, p_holm.
    """
    for row in view.rows:
        yield [row.scenario, "setting", "", "", row.setting, *_numbers(row.figure), "", "", ""]
    for name, bound in (("lower bound", view.lower), ("upper bound", view.upper)):
        if bound:
            yield [part.label, name, "", "", "", *_numbers(bound), "", "", ""]
    for effect in view.effects:
        yield from _curve(part, effect.dimension, "mean over the others", effect.curve, effect.move)
        if effect.best and effect.best_move:
            yield from _curve(part, effect.dimension, "others at best", effect.best, effect.best_move)
    for one in view.scatters:
        yield [
            part.label,
            "rank correlation",
            one.dimension,
            "",
            "",
            csv_number(one.rho),
            "",
            "",
            "",
            str(len(one.figures)),
            csv_number(one.p),
            csv_number(one.p_holm),
        ]


def _curve(part: Part, dimension: str, what: str, curve: Curve, move: Move) -> Iterator[list[str]]:
    """Yield the move, then the mean at every value."""
    held = ",".join(f"{key}={said(value)}" for key, value in curve.held.items())
    yield [
        part.label,
        f"move, {what}",
        dimension,
        "",
        held,
        csv_number(move.size),
        "",
        "",
        str(move.seeds),
        str(curve.settings),
        csv_number(move.p),
        csv_number(move.p_holm),
    ]
    for value, interval in zip(curve.values, curve.intervals, strict=True):
        yield [
            part.label,
            what,
            dimension,
            said(value),
            held,
            *_numbers(interval),
            str(curve.settings),
            "",
            "",
        ]


def _numbers(interval: Interval) -> list[str]:
    return [*map(csv_number, (interval.mean, interval.low, interval.high)), str(interval.n)]


__all__ = ["csv_text", "latex", "markdown"]
