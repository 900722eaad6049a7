"""The harness from Python: run cells, load what was recorded, look at results as rankings and data frames."""

DEFAULT_SCENARIO = "class-incremental"
"""What strategies run on where no scenario is named."""

__all__ = ["DEFAULT_SCENARIO"]
