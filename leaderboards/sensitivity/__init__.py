"""How figures depend on the parameters that a sweep varied: curves, main effects, correlations, the best setting and its limits."""

from __future__ import annotations

from leaderboards.sensitivity.asked import MOST_SETTINGS, definition_of
from leaderboards.sensitivity.best import Best
from leaderboards.sensitivity.curves import Curve, Effect, Heat, Move, Scatter
from leaderboards.sensitivity.definition import Definition
from leaderboards.sensitivity.files import csv_text, latex, markdown
from leaderboards.sensitivity.report import Failure, Part, Report, View, report_of
from leaderboards.sensitivity.text import notes, sentences, tables

__all__ = [
    "MOST_SETTINGS", "Best", "Curve", "Definition", "Effect", "Failure", "Heat", "Move", "Part", "Report", "Scatter", "View", "csv_text",
    "definition_of", "latex", "markdown", "notes", "report_of", "sentences", "tables",
]  # fmt: skip
