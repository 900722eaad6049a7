"""`owb run --preset`: the published tables that can be run by name, and what a run came to beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.cli import console

if TYPE_CHECKING:
    from harness.protocol.cells import Suite
    from harness.store.record import Record


def suite_of(name: str, *, smoke: bool, plan: bool) -> Suite:
    """Return the suite of the preset called `name`, or that of its smoke run.

    Raises:
        UserError: no such preset.
    """
    from leaderboards.papers.preset import preset, tried, without_weights

    paper = preset(name)
    if (weights := paper.missing) and (smoke or plan):
        instead = (
            "a small network of fresh weights stands in"
            if smoke
            else "planned without it; its cells will have other keys"
        )
        console.note(
            f"OWB_DATA/weights/{weights.file} ({weights.of}) is not there: {instead}. Get it from {weights.publisher}"
        )
    if smoke:
        return tried(paper, small=paper.missing is not None)
    return without_weights(paper) if plan and paper.missing else paper.suite


def show_presets(*, as_json: bool) -> None:
    """List every preset with its title, its data set, and whether data and weights are on this disk."""
    from leaderboards.papers.preset import is_here, names, preset

    papers = {name: preset(name) for name in names()}
    found = {data: is_here(data) for data in {paper.data for paper in papers.values()}}
    if as_json:
        console.dump(
            {
                name: {
                    "title": paper.title,
                    "source": paper.source,
                    "data": paper.data,
                    "data_found": found[paper.data],
                    "weights": paper.weights.file if paper.weights else None,
                    "weights_found": bool(paper.weights and not paper.missing),
                }
                for name, paper in papers.items()
            }
        )
        return
    rows = [
        [
            name,
            paper.title,
            paper.data,
            "yes" if found[paper.data] else "no",
            *([paper.weights.file, "no" if paper.missing else "yes"] if paper.weights else ["none", ""]),
        ]
        for name, paper in papers.items()
    ]
    console.grid(
        ["preset", "what it is", "data set", "found", "weights below OWB_DATA/weights", "found"], rows
    )


def show_comparison(name: str, records: Sequence[Record], *, as_json: bool) -> None:
    """Print the rankings of a preset's run and, beside the published figures, ours."""
    from harness.cli.tables import show
    from harness.results.aggregate import aggregate
    from harness.results.ranking import rankings
    from harness.results.tables import json_ready
    from leaderboards.papers import beside
    from leaderboards.papers.preset import preset

    paper = preset(name)
    found = beside.lines(paper, records)
    if as_json:
        ranked = rankings(records)
        together = json_ready(aggregate(ranked)) if len(ranked) > 1 else None
        console.dump(
            {"rankings": json_ready(ranked), "aggregate": together, "published": beside.json_ready(found)}
        )
        return
    show(records, as_json=False)
    console.grid(
        beside.HEADER,
        beside.table(found),
        title=f"\n{paper.title}: published ({paper.source}; {paper.runs}) and ours, in per cent",
    )
    console.say(f"  tolerance: {paper.tolerance.why}")
    for text in paper.differs:
        console.say(f"  not as published: {text}")
