"""Another distribution with a package of one of our names is named in one sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from checkout import ROOT
from runs import Owb

from harness.cli import packages


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a distribution `plans` that installs `strategies`, first on the search path."""
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "__init__.py").touch()
    info = tmp_path / "plans-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plans\nVersion: 1.0\n")
    (info / "top_level.txt").write_text("strategies\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "strategies"]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def test_what_is_ours_is_found_here() -> None:
    assert packages.foreign() == packages.shared() == []


def test_a_package_that_lies_in_front_of_ours_stops_every_verb(place: Path, call_owb: Owb) -> None:
    said = call_owb("list", "strategies")
    assert said.code == 2
    assert said.err.startswith(
        f"error: {place / 'strategies'} of plans is imported as 'strategies' in place of {ROOT / 'strategies'}"
    )
    assert said.err.count("\n") == 1


def test_a_distribution_over_the_same_files_is_named(place: Path) -> None:
    (said,) = packages.shared()
    assert said.startswith("plans also installs a package 'strategies', over the same files: uninstall that")
