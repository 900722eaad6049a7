"""Asking the gate as a person does, and what it said."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from leaderboards.cli.verify import verify

APP = typer.Typer()
APP.command()(verify)


@dataclass(frozen=True)
class Said:
    """How `owb verify` ended, and its report."""

    code: int
    report: dict[str, Any]
    text: str


Verify = Callable[..., Said]


def asked(folder: Path, boards: Path, *options: str) -> Said:
    """Call `owb verify FOLDER --json`."""
    result = CliRunner().invoke(APP, [str(folder), "--root", str(boards), "--json", *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Said(result.exit_code, json.loads(result.stdout), result.stdout)
