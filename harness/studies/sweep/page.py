"""The report as files: `sweep.md`, `sweep.csv`, `sweep.tex`, `sensitivity.png` and a page, `sweep.html`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.results.plain_page import PlainSection, plain_page
from harness.results.write_files import way_back, write_page
from harness.store.canvas import png, svg
from harness.studies.sweep.files import csv_text, latex, markdown
from harness.studies.sweep.plot import sensitivity_figure
from harness.studies.sweep.report import Report
from harness.studies.sweep.text import Titled, failures_table, notes, sentences, tables


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write all files, each whole; return their paths.

    Raises:
        UserError: the folder cannot be written.
    """
    plot = sensitivity_figure(report)
    files: dict[str, str | bytes] = {
        "sweep.md": markdown(report),
        "sweep.csv": csv_text(report),
        "sweep.tex": latex(report),
        "sensitivity.png": png(plot),
    }
    files["sweep.html"] = html(report, plot, files=list(files), home=way_back(folder))
    write_page(files, folder)
    return [folder / name for name in files]


def html(report: Report, plot: Any, *, files: Sequence[str] = (), home: str = "") -> str:
    """Return the page, with the plot in it; `files` and `home` are those of `plain_page`."""
    sections = [
        PlainSection(
            part.label,
            [*([f"protocol {part.protocol}"] if part.protocol else []), *sentences(part)],
            tables(part),
        )
        for part in report.parts
    ]
    if report.failures:
        sections.append(
            PlainSection(
                "Cells without a figure", [], [Titled("what ended without one", failures_table(report))]
            )
        )
    lead = f"{report.seeds} seeds, 95 % intervals"
    return plain_page(
        f"Sensitivity: {report.title}",
        lead,
        picture=svg(plot),
        alt="Figures against parameters",
        notes=notes(report),
        sections=sections,
        files=files,
        home=home,
    )


__all__ = ["html", "write_report"]
