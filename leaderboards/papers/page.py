"""The table "published, ours, run by" of the documentation, as the presets' files say it: nothing is claimed
that was not run.
"""

from __future__ import annotations

from leaderboards.papers.preset import PREFIX, Paper, Row, names, preset

HEADER = (
    "| preset | case | published, in per cent | from | ours | run by |\n| --- | --- | --- | --- | --- | --- |"
)


def table() -> str:
    """Return the table in Markdown, a line for every row of every preset."""
    lines = [
        _line(name, paper, row) for name in names() for paper in (preset(name),) for row in paper.published
    ]
    return "\n".join([HEADER, *lines])


def _line(name: str, paper: Paper, row: Row) -> str:
    published = ", ".join(
        f"`{metric}` {_as_text(value, row.spread.get(metric))}" for metric, value in row.figures.items()
    )
    ours = (
        ", ".join(f"`{metric}` {value:.2f}" for metric, value in row.ours.figures.items()) if row.ours else ""
    )
    by = f"{row.ours.by}, {row.ours.seeds} seeds" if row.ours else f"not run: needs `{paper.data}` and a GPU"
    paper_named = paper.source.partition(", arXiv")[0]
    return (
        f"| `{name.removeprefix(PREFIX)}` | {row.case} | {published} | {paper_named}: {row.cell} "
        f"({row.certainty}) | {ours} | {by} |"
    )


def _as_text(value: float, spread: float | None) -> str:
    return f"{value:.2f}" if spread is None else f"{value:.2f} ± {spread:g}"
