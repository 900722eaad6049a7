"""The report as files: `effects.md`, `effects.csv`, `effects.tex`, `forest.png` and a page, `effects.html`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.results.plain_page import PlainSection, plain_page
from harness.results.tables import Table
from harness.results.write_files import way_back, write_page
from harness.store.canvas import png, svg
from harness.studies.ablation.effects import Part, Report
from harness.studies.ablation.forest import forest_figure
from harness.studies.ablation.text import (
    csv_text,
    effects_table,
    failures_table,
    latex,
    markdown,
    metrics_table,
    notes,
    reference_line,
)


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write all files, each whole; return their paths.

    Raises:
        UserError: the folder cannot be written.
    """
    forest = forest_figure(report)
    files: dict[str, str | bytes] = {
        "effects.md": markdown(report),
        "effects.csv": csv_text(report),
        "effects.tex": latex(report),
        "forest.png": png(forest),
    }
    files["effects.html"] = html(report, forest, files=list(files), home=way_back(folder))
    write_page(files, folder)
    return [folder / name for name in files]


def html(report: Report, forest: Any, *, files: Sequence[str] = (), home: str = "") -> str:
    """Return the page, with the plot in it; `files` and `home` are those of `plain_page`."""
    ablation = report.ablation
    sections = [
        PlainSection(
            part.label,
            [*([f"protocol {part.protocol}"] if part.protocol else []), reference_line(report, part)],
            _tables(part),
        )
        for part in report.parts
    ]
    if report.failures:
        sections.append(PlainSection("Cells without a figure", [], [("", failures_table(report))]))
    lead = f"{ablation.design}, {len(ablation.arms)} arms, {report.seeds} seeds"
    return plain_page(
        f"What the parts of {ablation.strategy} contribute",
        lead,
        picture=svg(forest),
        alt="Differences with their intervals",
        notes=notes(report),
        sections=sections,
        files=files,
        home=home,
    )


def _tables(part: Part) -> list[tuple[str, Table]]:
    return [
        ("", effects_table(part)),
        *([("in every metric", metrics_table(part))] if len(part.effects) > 1 else []),
    ]


__all__ = ["html", "write_report"]
