"""Effects as text: verdicts in words, tables for a terminal and Markdown, CSV, LaTeX. Pure functions; no
statistic is computed here.

Intervals are printed with two significant digits of their half-width; shares are in per cent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.results.costs import NOT_COMPARABLE
from harness.results.formats import bounds, csv_number, figure, p_text, rounded, signed
from harness.results.latex import MOST_METRICS, NEEDS, latex_table
from harness.results.placing import POWER
from harness.results.tables import Table, csv_of, escaped
from harness.results.tables import markdown as markdown_table
from harness.results.tables import words as spaced
from harness.statistics import Comparison, fewest_pairs
from harness.studies.ablation.effects import Cost, Effect, Part, Report

_CSV_HEADER = (
    "scenario",
    "protocol",
    "kind",
    "component",
    "rather_than",
    "metric",
    "better",
    "first_mean",
    "second_mean",
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
    "family",
    "sign_flip_p",
    "sign_flip_holm",
    "pairs",
    "cells",
    "detectable",
    "verdict",
    "seconds",
    "seconds_low",
    "seconds_high",
    "seconds_ratio",
    "peak_mib",
    "peak_mib_low",
    "peak_mib_high",
    "peak_mib_ratio",
)


def words(effect: Effect) -> str:
    """Return the verdict with what it rests on, such as "contributes +3.1 [1.2, 5.0]"."""
    if effect.pairs == 0 or math.isnan(effect.difference):
        return "cannot decide: no seed with every figure"
    if math.isnan(effect.p):
        return (
            f"cannot decide: {span(effect)} from {effect.pairs} seed{'' if effect.pairs == 1 else 's'}, "
            "without a spread"
        )
    if effect.verdict == "changes nothing":
        return f"changes nothing: equal under all {effect.pairs} seeds"
    if effect.verdict == "cannot decide" and effect.low == effect.high:
        return (
            f"cannot decide: {span(effect).partition(' ')[0]} under every one of {effect.pairs} seeds, "
            "without a spread to judge by"
        )
    return f"{effect.verdict}{':' if effect.verdict == 'cannot decide' else ''} {span(effect)}"


def span(effect: Effect) -> str:
    """Return the difference with its interval, the bare difference where there is none."""
    found = Comparison(effect.difference, effect.low, effect.high, effect.p, effect.pairs)
    return bounds(found, effect.factor)


def title(part: Part, metric: str) -> str:
    """Return a metric's name with unit and direction."""
    effect = part.effects[metric][0]
    return (
        f"{spaced(metric)}{' %' if effect.factor == 100 else ''} {'↑' if effect.better == 'higher' else '↓'}"
    )


def reference_line(report: Report, part: Part) -> str:
    """Return what the reference reaches in the leading metric."""
    metric, effects = next(iter(part.effects.items()))
    reached = figure(part.reference[metric], effects[0].factor)
    unit = " %" if reached and effects[0].factor == 100 else ""
    return f"reference {report.ablation.reference}: {spaced(metric)} {reached or 'without a figure'}{unit}"


def effects_table(part: Part, metric: str = "") -> Table:
    """Return a row per contrast in one metric, the leading one by default; with p by sign flips where there
    are pairs enough for 5 %.
    """
    metric = metric or next(iter(part.effects))
    flips = any(effect.pairs >= fewest_pairs() for effect in part.effects[metric])
    tests = ["p (Holm)", *(["sign flips (Holm)"] if flips else [])]
    header = [
        "component",
        "rather than",
        title(part, metric),
        *tests,
        f"found {POWER:.0%}",
        "pairs",
        "seconds",
        "peak MiB",
    ]
    rows = [
        [
            effect.contrast.on,
            effect.contrast.off,
            words(effect),
            p_text(effect.p_holm),
            *([p_text(effect.sign_flip_holm)] if flips else []),
            rounded(effect.detectable * effect.factor, 2),
            f"{effect.pairs}/{effect.cells}",
            *_cost(effect.cost),
        ]
        for effect in part.effects[metric]
    ]
    return Table(header, rows)


def metrics_table(part: Part, metrics: Sequence[str] = ()) -> Table:
    """Return a row per contrast with its difference in several metrics, "*" where the corrected test finds
    one.
    """
    names = list(metrics) or list(part.effects)
    columns = [part.effects[name] for name in names]
    header = ["component", "rather than", *[title(part, name) for name in names]]
    rows = [
        [row[0].contrast.on, row[0].contrast.off, *[_starred(effect) for effect in row]]
        for row in zip(*columns, strict=True)
    ]
    return Table(header, rows)


def notes(report: Report) -> list[str]:
    """Return how to read the tables and what limits them, in sentences."""
    kinds = {contrast.kind for contrast in report.ablation.contrasts}
    said = [
        "a difference is that of the component to what stands beside it, paired by seed, with its 95 % interval; "
        f"p is Holm-corrected over the {len(report.ablation.contrasts)} rows; "
        f"'found {POWER:.0%}' is the true difference found so often"
    ]
    if report.ablation.design == "factorial":
        said.append("a component's difference is the mean over all settings of the others")
    if "interaction" in kinds:
        said.append(
            "an interaction is how much more a component contributes beside the other than without it"
        )
    return [*said, *report.notes]


def failures_table(report: Report) -> Table:
    """Return a row per cell without a figure."""
    rows = [[one.scenario, one.arm, str(one.seed), one.status, one.reason] for one in report.failures]
    return Table(["scenario", "arm", "seed", "status", "reason"], rows)


def markdown(report: Report) -> str:
    """Return the whole report as Markdown."""
    ablation = report.ablation
    design = f"{escaped(ablation.design)}, {len(ablation.arms)} arms, {report.seeds} seeds."
    lines = [f"# What the parts of {escaped(ablation.strategy)} contribute\n", f"{design}\n"]
    for part in report.parts:
        lines += [
            f"## {escaped(part.label)}\n",
            f"Protocol `{part.protocol}`.\n" if part.protocol else "",
            f"{escaped(reference_line(report, part))}.\n",
            markdown_table(effects_table(part)),
        ]
        if len(part.effects) > 1:
            lines += ["### Every metric\n", markdown_table(metrics_table(part))]
    lines += ["## Notes\n", "".join(f"- {escaped(note)}\n" for note in notes(report))]
    if report.failures:
        lines += ["## Cells without a figure\n", markdown_table(failures_table(report))]
    return "\n".join(line for line in lines if line)


def csv_text(report: Report) -> str:
    """Return tidy CSV: a line per scenario, contrast and metric, numbers unscaled, empty where there is none."""
    return csv_of(
        _CSV_HEADER,
        (_csv_row(part, one) for part in report.parts for each in part.effects.values() for one in each),
    )


def latex(report: Report) -> str:
    r"""Return a table per scenario in the booktabs style."""
    return NEEDS + "\n".join(_floating(report, part) for part in report.parts)


def _floating(report: Report, part: Part) -> str:
    table = metrics_table(part, list(part.effects)[:MOST_METRICS])
    caption = (
        f"{report.ablation.strategy} on {part.label}: {report.ablation.design}, {report.seeds} seeds; "
        "differences paired by seed "
        "with 95 % intervals, * where the Holm-corrected p is at most 0.05."
    )
    return latex_table(caption, table, left=2)


def _csv_row(part: Part, effect: Effect) -> list[str]:
    contrast, cost = effect.contrast, effect.cost
    figures = (
        effect.first,
        effect.second,
        effect.difference,
        effect.low,
        effect.high,
        effect.p,
        effect.p_holm,
    )
    costs = [""] * 8
    if cost:
        numbers = (*cost.seconds[:3], cost.seconds_ratio, *cost.peak_mib[:3], cost.peak_ratio)
        costs = [csv_number(value) for value in numbers]
    return [
        part.label,
        part.protocol,
        contrast.kind,
        contrast.on,
        contrast.off,
        effect.metric,
        effect.better,
        *map(csv_number, figures),
        str(effect.family),
        csv_number(effect.sign_flip_p),
        csv_number(effect.sign_flip_holm),
        str(effect.pairs),
        str(effect.cells),
        csv_number(effect.detectable),
        effect.verdict,
        *costs,
    ]


def _starred(effect: Effect) -> str:
    if math.isnan(effect.difference):
        return ""
    return f"{span(effect)}{'' if effect.verdict in ('cannot decide', 'changes nothing') else ' *'}"


def _cost(cost: Cost | None) -> list[str]:
    if cost is None:
        return ["", ""]
    if not cost.compares:
        return [NOT_COMPARABLE, NOT_COMPARABLE]
    return [_times(cost.seconds, cost.seconds_ratio), _times(cost.peak_mib, cost.peak_ratio)]


def _times(difference: Comparison, ratio: float) -> str:
    """Return a difference in what is spent with its interval, and as a ratio."""
    return f"{signed(figure(difference, 1.0))} (x{ratio:.2f})" if math.isfinite(difference.difference) else ""


__all__ = [
    "csv_text",
    "effects_table",
    "failures_table",
    "latex",
    "markdown",
    "metrics_table",
    "notes",
    "reference_line",
    "span",
    "title",
    "words",
]
