"""The report as files: `sweep.md`, `sweep.csv`, `sweep.tex`, `sensitivity.png` and a page, `sweep.html`."""

from __future__ import annotations

from pathlib import Path

from harness.results.plain_page import PlainSection, plain_page
from harness.results.write_files import write_page
from harness.studies.sweep.files import csv_text, latex, markdown
from harness.studies.sweep.plot import sensitivity_png
from harness.studies.sweep.report import Report
from harness.studies.sweep.text import Titled, failures_table, notes, sentences, tables


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write all files, each whole; return their paths.

    Raises:
        UserError: the folder cannot be written.
    """
    plot = sensitivity_png(report)
    files: dict[str, str | bytes] = {
        "sweep.md": markdown(report),
        "sweep.csv": csv_text(report),
        "sweep.tex": latex(report),
        "sensitivity.png": plot,
        "sweep.html": html(report, plot),
    }
    write_page(files, folder)
    return [folder / name for name in files]


def html(report: Report, plot: bytes) -> str:
    """Return the page, with the plot in it."""
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
        picture=plot,
        alt="Figures against parameters",
        notes=notes(report),
        sections=sections,
    )


__all__ = ["html", "write_report"]
