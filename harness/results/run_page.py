"""What a run came to, as files: a page with tables and curves, the tables in LaTeX, and a row per cell in CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from harness.contracts import Status
from harness.results import learning
from harness.results.latex import latex
from harness.results.plain_page import PlainSection, drawn, plain_page
from harness.results.ranking import Ranking, rankings
from harness.results.tables import csv_of, failures_table, ranking_notes, ranking_table
from harness.results.write_files import write_page
from harness.store.canvas import canvas, png, spread, svg, ticks

if TYPE_CHECKING:
    from harness.store.mlflow_store import Store
    from harness.store.record import Record

FOLDER, PAGE = "pages", "index.html"
_MOST_PANELS = 6
Curves = Mapping[str, Mapping[str, Mapping[int, float]]]
"""By run, by the name of a figure, by stage."""


def write_run(store: Store, records: Sequence[Record], title: str, folder: Path) -> Path:
    """Write `index.html`, `curves.png`, `tables.tex` and `cells.csv` into a folder; return the path of the page.

    Raises:
        UserError: the folder cannot be written, or a scenario is not installed.
    """
    found = rankings(records)
    stages = store.stages_of(records)
    curves = {record.run_id: own for record, own in zip(records, stages, strict=True)}
    plot = _plot(found, records, curves)
    sections = [
        PlainSection(
            ranking.scenario,
            [f"protocol {ranking.protocol_hash}", *ranking_notes(ranking)],
            [("", ranking_table(ranking))],
        )
        for ranking in found
    ]
    pictures = {}
    for ranking in found:
        if measured := _measured(store, records, ranking):
            figure = learning.plot(measured, ranking.scenario)
            pictures[f"learning-{ranking.protocol_hash}.png"] = png(figure)
            table = learning.how_it_learns(measured)
            heading = f"How it learns: {ranking.scenario}"
            sections.append(PlainSection(heading, [learning.READING], [("", table)], drawn(svg(figure))))
    if (failures := failures_table(found)).rows:
        sections.append(PlainSection("Cells without a result", [], [("", failures)]))
    files: dict[str, str | bytes] = {
        "curves.png": png(plot),
        **pictures,
        "tables.tex": latex(found),
        "cells.csv": _cells(records, curves),
    }
    files[PAGE] = plain_page(
        title,
        f"{len(records)} cells on {len(found)} {'protocol' if len(found) == 1 else 'protocols'}",
        picture=svg(plot),
        alt="Figures of every strategy, by stage or by seed",
        notes=[],
        sections=sections,
        files=list(files),
    )
    write_page(files, folder)
    return folder / PAGE


def _measured(store: Store, records: Sequence[Record], ranking: Ranking) -> learning.Measured:
    """Return what probes measured of the cells of a protocol, by strategy in the order of the ranking."""
    own = [record for record in _done(records) if record.protocol_hash == ranking.protocol_hash]
    curves = list(zip(own, store.probes_of(own), strict=True))
    found = {
        row.strategy: [one for record, one in curves if record.strategy == row.strategy and one]
        for row in ranking.rows
    }
    return {strategy: seeds for strategy, seeds in found.items() if seeds}


def _done(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if record.status in (Status.DONE, Status.CACHED)]


def _cells(records: Sequence[Record], curves: Curves) -> str:
    """Return a row per cell and stage that has figures, stage empty for the figures of the whole cell."""
    whole = list(dict.fromkeys(name for record in records for name in record.metrics))
    by_stage = list(dict.fromkeys(name for record in records for name in curves.get(record.run_id, {})))
    rows = []
    for record in records:
        named = [record.scenario, record.strategy, str(record.seed), str(record.status)]
        figures = [_number(record.metrics.get(name, math.nan)) for name in whole]
        rows.append([*named, "", *figures, *[""] * len(by_stage)])
        own = curves.get(record.run_id, {})
        for stage in sorted({stage for curve in own.values() for stage in curve}):
            after = [_number(own.get(name, {}).get(stage, math.nan)) for name in by_stage]
            rows.append([*named, str(stage), *[""] * len(whole), *after])
    header = ["scenario", "strategy", "seed", "status", "stage", *whole]
    return csv_of([*header, *(f"{name} after stage" for name in by_stage)], rows)


def _number(value: float) -> str:
    return "" if math.isnan(value) else repr(value)


def _plot(found: Sequence[Ranking], records: Sequence[Record], curves: Curves) -> Any:
    """Return a figure with a panel per protocol: means over seeds after every stage, or the figures of all seeds."""
    drawn, title = spread(list(found), _MOST_PANELS, "", "protocols")
    figure = canvas(1.5 + 3.6 * max(1, len(drawn)), 3.0, layout="constrained")
    panels = figure.subplots(1, max(1, len(drawn)), squeeze=False)[0]
    for axes, ranking in zip(panels, drawn, strict=False):
        own = [record for record in _done(records) if record.protocol_hash == ranking.protocol_hash]
        labels = [row.strategy for row in ranking.rows]
        name = _first_curve(own, curves)
        if name:
            _draw_curves(axes, own, labels, name, curves)
        else:
            _draw_seeds(axes, own, labels, ranking.primary.name)
        axes.set_title(ranking.scenario, fontsize=8)
    if title:
        figure.suptitle(title, fontsize=8)
    return figure


def _first_curve(own: Sequence[Record], curves: Curves) -> str:
    """Return the first figure that has several stages; empty where none has."""
    every = (item for record in own for item in curves.get(record.run_id, {}).items())
    return next((name for name, curve in every if len(curve) > 1), "")


def _draw_curves(axes: Any, own: Sequence[Record], labels: Sequence[str], name: str, curves: Curves) -> None:
    most = 0
    for label in labels:
        runs = [curves.get(record.run_id, {}).get(name, {}) for record in own if record.strategy == label]
        stages = sorted(set.intersection(*map(set, runs))) if runs else []
        means = [fmean(curve[stage] for curve in runs) for stage in stages]
        axes.plot(stages, means, marker="o", markersize=3, label=label)
        most = max([most, *(stage + 1 for stage in stages)])
    axes.set(xlabel="after stage", ylabel=name.replace("_", " "), xticks=ticks(most))
    axes.legend(fontsize=6)


def _draw_seeds(axes: Any, own: Sequence[Record], labels: Sequence[str], name: str) -> None:
    for place, label in enumerate(labels):
        figures = [record.metrics.get(name, math.nan) for record in own if record.strategy == label]
        axes.plot([place] * len(figures), figures, "o", markersize=3)
    axes.set(ylabel=name.replace("_", " "), xticks=range(len(labels)))
    axes.set_xticklabels(labels, rotation=30, ha="right", fontsize=6)


__all__ = ["FOLDER", "PAGE", "write_run"]
