"""The world of the forgeries, its gate, and a submission that a test may spoil."""

from __future__ import annotations

from pathlib import Path

import forgeries
import pytest
from asking import Said, Verify, asked


@pytest.fixture(scope="session")
def made() -> forgeries.World:
    return forgeries.world()


@pytest.fixture
def gate(made: forgeries.World) -> Verify:
    """Return a function that calls `owb verify FOLDER --json`."""

    def call(folder: Path, *options: str) -> Said:
        return asked(folder, made.boards, *options)

    return call


@pytest.fixture
def folder(made: forgeries.World, tmp_path: Path) -> Path:
    """Return a copy of an honest submission that a test may spoil."""
    return forgeries.copies(made.submissions["first"], tmp_path / "submission")
