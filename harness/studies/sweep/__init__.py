"""How figures depend on the parameters that a sweep varied: curves, main effects, correlations, the best
setting and its limits.
"""

from __future__ import annotations

from harness.studies.sweep.best import Best
from harness.studies.sweep.curves import Curve, Effect, Heat, Move, Scatter
from harness.studies.sweep.definition import Definition
from harness.studies.sweep.files import csv_text, latex, markdown
from harness.studies.sweep.report import Failure, Part, Report, View, report_of
from harness.studies.sweep.request import MOST_SETTINGS, definition_of
from harness.studies.sweep.text import notes, sentences, tables

__all__ = [
    "MOST_SETTINGS",
    "Best",
    "Curve",
    "Definition",
    "Effect",
    "Failure",
    "Heat",
    "Move",
    "Part",
    "Report",
    "Scatter",
    "View",
    "csv_text",
    "definition_of",
    "latex",
    "markdown",
    "notes",
    "report_of",
    "sentences",
    "tables",
]
