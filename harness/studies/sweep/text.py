"""A sweep in words and tables. Pure functions; no statistic is computed here. Shares are in per cent."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

from harness.results.costs import NOT_COMPARABLE
from harness.results.formats import figure, p_text, rounded, signed
from harness.results.latex import MOST_METRICS
from harness.results.tables import Table
from harness.results.tables import words as spaced
from harness.statistics import Comparison, Interval, fewest_pairs
from harness.studies.sweep.best import Best
from harness.studies.sweep.curves import LEVEL, Curve, Effect, Move, Scatter
from harness.studies.sweep.report import Part, Report, View

FAILED = "failed"
"""What stands where no cell of a setting has a figure."""

SELECTION = (
    "the best of these was picked by metrics on test items: that is selection on the test set, and its "
    "figure, too good by as much as luck "
    "helped it, must not be reported as the method's; choose by held-out items (owb sweep --search) and measure once"
)


class Titled(NamedTuple):
    """A table with what it shows."""

    title: str
    table: Table


def tables(part: Part, *, most_rows: int = 0) -> list[Titled]:
    """Return all tables of a part; `most_rows` settings in the last one, all where it is 0."""
    view = part.views[0]
    shown = [
        Titled(_dependence_title(part, view), effects_table(view) if view.effects else scatter_table(view))
    ]
    shown += [
        Titled(_curve_title(part, view, effect), curve_table(part, place))
        for place, effect in enumerate(view.effects)
    ]
    shown += [
        Titled(
            f"{one.dimension}: {title(view)}, mean and interval over the settings that have a value",
            levels_table(view, one),
        )
        for one in view.scatters
        if one.levels
    ]
    if view.heat:
        shown.append(
            Titled(
                f"{title(view)} by {view.heat.down} (down) and {view.heat.across} (across)",
                heat_table(part, view),
            )
        )
    return [*shown, Titled(_settings_title(part, view, most_rows), settings_table(part, most_rows=most_rows))]


def title(view: View) -> str:
    """Return a metric's name with unit and direction."""
    return (
        f"{spaced(view.metric)}{' %' if view.factor == 100 else ''} {'↑' if view.better == 'higher' else '↓'}"
    )


def effects_table(view: View) -> Table:
    """Return a row per listed dimension: how far it moves the figure in either way, and whether these seeds
    can tell.
    """
    held = any(effect.best_move for effect in view.effects)
    header = ["dimension", "mean over the others" if held else "verdict", "from, to", "p (Holm)"]
    header += ["others at best", "from, to", "p (Holm)"] if held else []
    rows = [
        [
            effect.dimension,
            *_moved(effect.move, view),
            *(_moved(effect.best_move, view) if effect.best_move else []),
            str(effect.move.seeds),
        ]
        for effect in view.effects
    ]
    return Table([*header, "seeds"], rows)


def scatter_table(view: View) -> Table:
    """Return a row per dimension of a random sweep: its rank correlation with the figure."""
    header = ["dimension", f"rank correlation with {title(view)}", "verdict", "p (Holm)", "settings"]
    rows = [
        [one.dimension, f"{one.rho:+.2f}", one.verdict, p_text(one.p_holm), str(len(one.figures))]
        if math.isfinite(one.rho)
        else [one.dimension, "none: no numbers, or one value alone", "", "", str(len(one.figures))]
        for one in view.scatters
    ]
    return Table(header, rows)


def curve_table(part: Part, place: int) -> Table:
    """Return a row per value of a dimension: at the others' best, and averaged over them, here in several
    metrics.
    """
    leading, *further = part.views[:MOST_METRICS]
    effect = leading.effects[place]
    held = [_held(effect.best)] if effect.best else []
    mean = "mean over the others" if effect.curve.settings > 1 else title(leading)
    rows = []
    for row, value in enumerate(effect.curve.values):
        at_best = [_figure(effect.best.intervals[row], leading.factor)] if effect.best else []
        means = [
            _figure(view.effects[place].curve.intervals[row], view.factor) for view in (leading, *further)
        ]
        rows.append([_marked(part, effect.dimension, value), *at_best, *means])
    return Table([effect.dimension, *held, mean, *map(title, further)], rows)


def levels_table(view: View, scatter: Scatter) -> Table:
    """Return a row per listed value in a random sweep, with the interval over its settings."""
    rows = [
        [level, _figure(interval, view.factor) if interval.n else "not drawn", str(interval.n)]
        for level, interval in scatter.levels.items()
    ]
    return Table([scatter.dimension, title(view), "settings"], rows)


def heat_table(part: Part, view: View) -> Table:
    """Return the means of all combinations of two dimensions; "*" where some seeds have no figure."""
    heat = view.heat
    assert heat is not None
    rows = [
        [
            _marked(part, heat.down, value),
            *[_cell(mean, lacking, view.factor) for mean, lacking in zip(means, lack, strict=True)],
        ]
        for value, means, lack in zip(heat.down_values, heat.means, heat.lacking, strict=True)
    ]
    return Table(["", *[_marked(part, heat.across, value) for value in heat.across_values]], rows)


def settings_table(part: Part, *, most_rows: int = 0) -> Table:
    """Return a row per setting with its figures, best first within one protocol."""
    views = part.views[:MOST_METRICS]
    others = [{(row.scenario, row.setting): row.figure for row in view.rows} for view in views]
    rows = part.views[0].rows[: most_rows or None]
    where = ["scenario"] if part.kind == "scenarios" else []
    header = [*where, "setting", *[title(view) for view in views], "seeds", "seconds"]
    table = [
        [
            *([row.scenario] if where else []),
            row.setting,
            *[
                _figure(own[row.scenario, row.setting], view.factor)
                for own, view in zip(others, views, strict=True)
            ],
            str(row.figure.n),
            f"{row.seconds:.1f}" if math.isfinite(row.seconds) else "" if row.compares else NOT_COMPARABLE,
        ]
        for row in rows
    ]
    return Table(header, table)


def sentences(part: Part) -> list[str]:
    """Return what is best and whether that can be told, the bounds, and what kind of thing the part is."""
    view = part.views[0]
    if part.kind == "scenarios":
        said_here = [
            "every value of a scenario's parameter is a protocol of its own: this is a curve, not a ranking of them"
        ]
        return [
            *said_here,
            *([f"held at {part.held_by}, the best mean over these scenarios"] if part.held_by else []),
        ]
    bounds = [
        f"{side} bound {_figure(one, view.factor)}"
        for side, one in (("lower", view.lower), ("upper", view.upper))
        if one
    ]
    return [*_best(view.best, view), *([f"{spaced(view.metric)}: {', '.join(bounds)}"] if bounds else [])]


def notes(report: Report) -> list[str]:
    """Return how to read the tables and what limits them, in sentences."""
    found = []
    if any(view.best for part in report.parts for view in part.views):
        found.append(SELECTION)
    if report.drawn is None:
        found.append(
            "a parameter moves the figure from its lowest mean to its highest; p is of 'the same mean at "
            "every value' (F over "
            "seeds, Geisser and Greenhouse's lower bound), Holm-corrected over the parameters"
        )
        if any(effect.best for part in report.parts for effect in part.views[0].effects):
            found.append(
                "'others at best' holds the other parameters at the setting that is best on the whole; "
                "'mean over the others' "
                "averages over all their settings that have a figure at every value; where the two differ, "
                "the parameters work "
                "together"
            )
    else:
        found.append(
            "rank correlations are Spearman's, over settings, each its mean over seeds; p is "
            "Holm-corrected over the dimensions; "
            "what depends in both directions need not show"
        )
    if report.seeds == 1:
        found.append("one seed has no spread: nothing can be decided between settings")
    elif report.seeds < fewest_pairs(LEVEL):
        found.append(
            f"{report.seeds} seeds cannot reach two-sided 5 % by sign flips ({fewest_pairs(LEVEL)} are the "
            "fewest): verdicts "
            "take the figures for normal"
        )
    return found


def failures_table(report: Report) -> Table:
    """Return a row per cell without a figure."""
    rows = [[one.scenario, one.setting, str(one.seed), one.status, one.reason] for one in report.failures]
    return Table(["scenario", "setting", "seed", "status", "reason"], rows)


def said(value: Any) -> str:
    """Return a value as a selection says it."""
    return value if isinstance(value, str) else json.dumps(value)


def _best(best: Best | None, view: View) -> list[str]:
    if best is None:
        return ["no setting has a figure under every seed: none is best"]
    found = [
        f"best of {best.settings} by these test metrics: {best.label}, {_figure(best.figure, view.factor)}"
    ]
    if best.is_default:
        found.append("that is the default")
    elif best.vs_default:
        family = best.settings - 1
        found.append(
            f"against the default {best.default}: {_verdict(best.vs_default, view)} ({_holm(family, 'setting')})"
        )
    elif best.default:
        found.append(f"against the default {best.default}: cannot decide, which lacks seeds")
    if best.vs_second:
        found.append(
            f"against the second, {best.second}: {_verdict(best.vs_second, view)} ({_holm(best.pairs, 'pair')})"
        )
    if best.settings > 2:
        found.append(f"the seeds cannot tell it from {len(best.tied)} of the {best.settings - 1} others")
    return found


def _verdict(found: Comparison, view: View) -> str:
    span = signed(_figure(Interval(found.difference, found.low, found.high, found.pairs), view.factor))
    if math.isnan(found.p):
        return f"cannot decide, {span} without a spread"
    is_told = found.p <= 1 - LEVEL
    return (
        f"{'better' if is_told else 'cannot decide'}, {span}, p "
        f"{'' if p_text(found.p).startswith('<') else '= '}{p_text(found.p)}"
    )


def _holm(family: int, of: str) -> str:
    return f"Holm over {family} {of}s" if family > 1 else "a single test"


def _moved(move: Move, view: View) -> list[str]:
    if math.isnan(move.size):
        return [FAILED, "", ""]
    size = rounded(move.size * view.factor, 3)
    what = {
        "moves it": f"moves it by {size}",
        "cannot decide": f"cannot decide: {size}",
        "changes nothing": "changes nothing",
    }[move.verdict]
    span = (
        f"{rounded(move.low * view.factor, 3)} at {said(move.low_at)}, {rounded(move.high * view.factor, 3)} at "
        f"{said(move.high_at)}"
    )
    return [what, span, p_text(move.p_holm)]


def _dependence_title(part: Part, view: View) -> str:
    if view.scatters:
        return f"what {title(view)} goes with"
    return (
        f"how far each parameter{' of the scenario' if part.kind == 'scenarios' else ''} moves {title(view)}"
    )


def _curve_title(part: Part, view: View, effect: Effect) -> str:
    several = effect.curve.settings > 1
    others = (
        f"; means are over {effect.curve.settings} settings of the "
        f"others{', also in further metrics' if part.views[1:] else ''}"
    )
    return f"{title(view)} against {effect.dimension}{others if several else ''}"


def _settings_title(part: Part, view: View, most_rows: int) -> str:
    shown = len(view.rows) if not most_rows else min(most_rows, len(view.rows))
    count = f"{shown} of {len(view.rows)} settings" if shown < len(view.rows) else f"all {shown} settings"
    return f"{count}, best first" if part.kind == "settings" else count


def _held(curve: Curve | None) -> str:
    held = ", ".join(f"{key}={said(value)}" for key, value in curve.held.items()) if curve else ""
    return f"others at best ({held})"


def _marked(part: Part, dimension: str, value: Any) -> str:
    is_default = dimension in part.defaults and part.defaults[dimension] == value
    return f"{said(value)}{' (default)' if is_default else ''}"


def _cell(mean: float, lacking: int, factor: float) -> str:
    return (
        f"{mean * factor:.{1 if factor == 100 else 3}f}{'*' if lacking else ''}"
        if math.isfinite(mean)
        else FAILED
    )


def _figure(interval: Interval, factor: float) -> str:
    return figure(interval, factor) or FAILED


__all__ = [
    "FAILED",
    "SELECTION",
    "Titled",
    "curve_table",
    "effects_table",
    "failures_table",
    "heat_table",
    "levels_table",
    "notes",
    "said",
    "scatter_table",
    "sentences",
    "settings_table",
    "tables",
    "title",
]
