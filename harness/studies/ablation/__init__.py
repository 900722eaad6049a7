"""What the components of a strategy contribute, by the records of an ablation: figures, text, a forest plot,
a page.
"""

from __future__ import annotations

from harness.studies.ablation.definition import definition_of, report_of
from harness.studies.ablation.effects import Cost, Effect, Part, Report, report
from harness.studies.ablation.measured import Measured, arranged
from harness.studies.ablation.text import (
    csv_text,
    effects_table,
    latex,
    markdown,
    metrics_table,
    notes,
    words,
)

__all__ = [
    "Cost",
    "Effect",
    "Measured",
    "Part",
    "Report",
    "arranged",
    "csv_text",
    "definition_of",
    "effects_table",
    "latex",
    "markdown",
    "metrics_table",
    "notes",
    "report",
    "report_of",
    "words",
]
