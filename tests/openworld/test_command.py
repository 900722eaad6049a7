"""The command, and `import openworld`, begin where they can say that another distribution owns `harness`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from checkout import ROOT

from openworld.command import foreign


@pytest.fixture
def shadow(tmp_path: Path) -> Path:
    """Return a folder with a distribution `plans` that installs `harness`."""
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "__init__.py").touch()
    info = tmp_path / "plans-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plans\nVersion: 1.0\n")
    (info / "top_level.txt").write_text("harness\n")
    return tmp_path


def _said(code: str, path: str, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", *more, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_another_harness_in_front_of_ours_is_named_in_one_sentence(shadow: Path) -> None:
    path = os.pathsep.join([str(shadow), str(ROOT)])
    sentence = f"{shadow / 'harness'} of plans is imported as 'harness' in place of {ROOT / 'harness'}: uninstall that"
    module, name = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["owb"].split(
        ":"
    )
    said = _said(f"import sys; sys.argv = ['owb', 'list']; from {module} import {name}; {name}()", path)
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith(f"error: {sentence}")
    assert said.stderr.count("\n") == 1
    said = _said("from openworld import Strategy", path)
    assert said.stderr.splitlines()[-1].startswith(f"ImportError: {sentence}")


def test_a_harness_that_is_not_there_is_said(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "openworld", tmp_path / "openworld")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from openworld.command import foreign; print(foreign())"
    said = _said(code, "", "-S")  # without anything that was installed
    assert said.stdout.startswith(f"there is no {tmp_path / 'harness'}: install openworld-bench again")


def test_ours_is_found_beside_the_command() -> None:
    assert foreign() == ""
