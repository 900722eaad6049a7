"""The command `owb`: one file per verb. A user's mistake ends here in one sentence and exit code 2."""

from __future__ import annotations

from harness.cli.app import main

__all__ = ["main"]
