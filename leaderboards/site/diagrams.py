"""Pictures over several scenarios: the scaled aggregate, mean ranks with their critical difference, profiles,
who beats whom.

The figures are those of the rankings: a contender's mean on a scenario where scenarios are blocks, its single
runs where they are strata. What is drawn needs contenders that have every scenario; the captions say who is
left out, and what the test says first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.results.aggregate import Aggregate
from harness.results.ranking import Ranking
from harness.results.tables import words
from harness.statistics import friedman, performance_profile, probability_of_improvement, rank_groups
from leaderboards.site.figures import GREY, PALETTE, Spec, Variant, aggregate_plot, label_text, significant

FEWEST_SCENARIOS = 4
"""Blocks below which mean ranks say next to nothing."""
FEWEST_RUNS = 6
MOST_CONTENDERS = 20
"""Rows of the table of who beats whom that can be read."""

Runs = Mapping[str, Sequence[Sequence[float]]]
"""Per contender and scenario the figures of its seeds, larger is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagram:
    """A picture with its title and the sentence that belongs under it."""

    name: str
    title: str
    caption: str
    variants: list[Variant]


def over_scenarios(rankings: Sequence[Ranking], together: Aggregate) -> list[Diagram]:
    """Return what can be drawn over the scenarios of one board, contenders in the order of the aggregate."""
    newest = list({ranking.scenario: ranking for ranking in rankings}.values())
    runs = _runs(newest, [row.strategy for row in together.rows])
    found = []
    if together.scenarios:
        caption = (
            "Mean over scenarios of the first metric, scaled seed by seed between the bounds; 95 % "
            "interval over seeds."
        )
        found.append(
            Diagram(
                name="aggregate",
                title="Scaled aggregate",
                caption=caption,
                variants=[Variant("", aggregate_plot(together))],
            )
        )
    if len(newest) >= FEWEST_SCENARIOS and len(runs) > 2:
        found.append(
            _mean_ranks(newest, runs, [row.strategy for row in together.rows if row.strategy not in runs])
        )
    if len(runs) > 1 and min(sum(map(len, of)) for of in runs.values()) >= FEWEST_RUNS:
        found += [_beats(runs), *_profile(newest, runs)]
    return found


def _runs(rankings: Sequence[Ranking], contenders: Sequence[str]) -> Runs:
    """Return the runs of the contenders that have at least one on every scenario."""
    found: dict[str, list[list[float]]] = {}
    for ranking in rankings:
        sign = 1 if ranking.primary.better == "higher" else -1
        for row in ranking.rows:
            if row.role == "contender" and row.seeds:
                found.setdefault(row.strategy, []).append(
                    [sign * value for value in row.figures[ranking.primary.name].values()]
                )
    return {label: found[label] for label in contenders if len(found.get(label, ())) == len(rankings)}


def _mean_ranks(rankings: Sequence[Ranking], runs: Runs, lacking: Sequence[str]) -> Diagram:
    """Return mean ranks as dots, and a bar beside every group of neighbours that the critical difference
    cannot part.
    """
    means = {label: [sum(own) / len(own) for own in of] for label, of in runs.items()}
    ranked, test = rank_groups(means), friedman(means)
    order = list(ranked.ranks)[::-1]
    place = {label: at for at, label in enumerate(order)}
    groups = [group for group in ranked.groups if len(group) > 1]
    last = max(ranked.ranks.values())
    lane = 0.06 * last
    shapes: list[Spec] = [
        {
            "type": "line",
            "x0": at,
            "x1": at,
            "y0": place[group[0]] + 0.25,
            "y1": place[group[-1]] - 0.25,
            "line": {"color": "text", "width": 4},
        }
        for at, group in ((last + lane * (2 + number), group) for number, group in enumerate(groups))
    ]
    bar = {
        "type": "line",
        "y0": -1.1,
        "y1": -1.1,
        "x0": 1,
        "x1": 1 + ranked.critical_difference,
        "line": {"color": GREY, "width": 4},
    }
    note = {
        "x": 1,
        "y": -1.1,
        "text": f"critical difference {ranked.critical_difference:.2f}",
        "showarrow": False,
        "xanchor": "left",
        "yanchor": "top",
    }
    spec: Spec = {
        "data": [
            {
                "type": "scatter",
                "mode": "markers",
                "x": [significant(ranked.ranks[label]) for label in order],
                "y": list(range(len(order))),
                "text": [label_text(label) for label in order],
                "marker": {"color": PALETTE[0], "size": 10},
                "hovertemplate": "%{text}: mean rank %{x:.3~g}<extra></extra>",
            }
        ],
        "layout": {
            "height": 130 + 24 * len(order),
            "hovermode": "closest",
            "shapes": [*shapes, bar],
            "annotations": [note],
            "xaxis": {
                "title": {"text": "mean rank, 1 is best"},
                "tickmode": "array",
                "tickvals": _ranks(len(order)),
                "range": [0.8, max(last + lane * (3 + len(groups)), 1 + ranked.critical_difference)],
            },
            "yaxis": _names(order, below=2.2),
        },
    }
    decided = (
        "rejects that all rank alike"
        if test.f_p <= 0.05
        else "cannot reject that all rank alike, so the groups decide nothing"
    )
    p = f"p = {test.f_p:.2g}" if test.f_p >= 0.001 else "p < 0.001"
    caption = (
        f"Ranks of the means within each of {len(rankings)} scenarios. Bars at the right join contenders "
        "whose mean ranks lie within "
        f"Nemenyi's critical difference (5 %). Friedman's test {decided} ({p})."
    )
    caption += f" Without {', '.join(lacking)}: no figure on some scenario." if lacking else ""
    return Diagram(name="ranks", title="Critical difference", caption=caption, variants=[Variant("", spec)])


def _beats(runs: Runs) -> Diagram:
    labels = list(runs)[:MOST_CONTENDERS]
    table = [
        [
            None if one == other else significant(100 * probability_of_improvement(runs[one], runs[other]))
            for other in labels
        ]
        for one in labels
    ]
    places = list(range(len(labels)))
    ticks = {
        "tickmode": "array",
        "tickvals": places,
        "ticktext": [label_text(label) for label in labels],
        "showgrid": False,
        "zeroline": False,
    }
    trace: Spec = {
        "type": "heatmap",
        "z": table,
        "x": places,
        "y": places,
        "zmin": 0,
        "zmax": 100,
        "zmid": 50,
        "colorscale": "Cividis",
        "xgap": 1,
        "ygap": 1,
        "hoverongaps": False,
        "colorbar": {"thickness": 12, "outlinewidth": 0},
        "text": [[label_text(other) for other in labels] for _ in labels],
        "hovertemplate": "beats %{text} in %{z:.3~g} % of pairs of runs<extra></extra>",
        **({"texttemplate": "%{z:.0f}"} if len(labels) <= 12 else {}),
    }
    layout = {
        "height": 260 + 26 * len(labels),
        "xaxis": {**ticks, "tickangle": -90},
        "yaxis": {**ticks, "autorange": "reversed"},
    }
    caption = (
        "Probability of improvement, per cent: how often a run of the row beats one of the column, "
        "mean over scenarios; 50 is even."
    )
    return Diagram(
        name="beats",
        title="Who beats whom",
        caption=caption,
        variants=[Variant("", {"data": [trace], "layout": layout})],
    )


def _profile(rankings: Sequence[Ranking], runs: Runs) -> list[Diagram]:
    """Return the performance profile, where all scenarios rank by the same share."""
    primaries = {(ranking.primary.name, ranking.primary.better) for ranking in rankings}
    values = [value for of in runs.values() for own in of for value in own]
    if len(primaries) > 1 or next(iter(primaries))[1] != "higher" or min(values) < 0 or max(values) > 1:
        return []
    taus = np.linspace(0, 1, 101)
    traces: list[Spec] = []
    for number, (label, of) in enumerate(runs.items()):
        share = performance_profile(of, taus).share
        own: dict[str, Any] = {
            "name": label_text(label),
            "meta": {"strategy": label},
            "visible": True if number < len(PALETTE) else "legendonly",
        }
        traces.append(
            {
                **own,
                "type": "scatter",
                "mode": "lines",
                "x": [significant(100 * tau) for tau in taus],
                "y": [significant(100 * s) for s in share],
                "line": {
                    "color": PALETTE[number % len(PALETTE)],
                    "width": 2,
                    "shape": "hv",
                    "dash": "solid" if number < len(PALETTE) else "dash",
                },
                "hovertemplate": "%{y:.3~g} % of runs above %{x:.3~g}",
            }
        )
    layout = {
        "height": 420,
        "hovermode": "closest",
        "xaxis": {"title": {"text": f"{words(rankings[0].primary.name)} %"}},
        "yaxis": {"title": {"text": "% of runs above"}},
    }
    caption = (
        "Performance profile: the share of runs above every figure, mean over scenarios; a line "
        "further up and to the right is better."
    )
    return [
        Diagram(
            name="profile",
            title="Profiles",
            caption=caption,
            variants=[Variant("", {"data": traces, "layout": layout})],
        )
    ]


def _ranks(count: int) -> list[int]:
    return list(range(1, count + 1)) if count <= 10 else [1, *range(5, count + 1, 5)]


def _names(labels: Sequence[str], *, below: float = 0.7) -> Spec:
    return {
        "tickmode": "array",
        "tickvals": list(range(len(labels))),
        "ticktext": [label_text(label) for label in labels],
        "range": [-below, len(labels) - 0.3],
        "showgrid": False,
        "zeroline": False,
    }


__all__ = ["FEWEST_SCENARIOS", "Diagram", "over_scenarios"]
