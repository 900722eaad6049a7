"""In the sandbox of the gate, the folders that others keep things in are empty, and so is what holds the
submission.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from site_records import BOARDS
from tries import SILENCED, run_attack, run_source, source_of

from harness import sandbox
from harness.contracts import Status
from harness.sandbox import launch
from leaderboards.gate.surroundings import hidden


@pytest.mark.skipif(not launch.walls_here().namespaces, reason="this machine lends no namespaces")
def test_what_lies_in_the_folders_of_all_in_the_home_folder_and_beside_the_submission_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, checkout = tmp_path / "home", tmp_path / "checkout"
    folder, boards = checkout / "submissions" / "mine", checkout / "boards"
    for place in (home / ".config", folder, boards):
        place.mkdir(parents=True)
    (checkout / ".git").mkdir()
    monkeypatch.setenv("HOME", str(home))
    with (
        tempfile.NamedTemporaryFile(dir="/var/tmp") as shared,
        tempfile.NamedTemporaryFile(dir="/dev/shm") as memory,
        tempfile.NamedTemporaryFile() as temporary,
    ):
        labels = [shared.name, memory.name, temporary.name]
        for place in (home / "labels", home / ".config" / "labels", checkout / "labels", folder / "labels"):
            place.write_text("labels")
            labels.append(str(place))
        attack = f"""
{SILENCED}
seen = [number for number, name in enumerate({labels!r}) if Path(name).exists()]
seen += [97] if list(Path("/run").iterdir()) else []
seen += [98] if list(Path("/dev/shm").iterdir()) else []
Path({memory.name!r}).write_text("written")  # in a folder of its own
for name in (*{[name for name in labels if name != memory.name]!r}, "/tmp/outside", "/var/tmp/outside", "/run/outside"):
    try:
        Path(name).write_text("written")
        seen.append(99)
    except OSError:
        pass
self.predict = lambda query: Prediction(classes=np.resize(seen or [-1], len(query.ids)))
"""
        bounds = sandbox.Bounds(timeout_s=60, hidden=hidden(folder, boards))
        result = run_attack(attack, bounds=bounds)
        assert (result.status, result.reason) == (Status.DONE, "")
        assert np.unique(result.answers[0].arrays["classes"]).tolist() == [-1]
        assert (home / "labels").read_text() == "labels"
        assert Path(memory.name).read_text() == ""


@pytest.mark.skipif(not launch.walls_here().namespaces, reason="this machine lends no namespaces")
def test_what_submissions_are_written_with_is_there_where_the_boards_lie_in_this_checkout(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "submissions" / "mine"
    folder.mkdir(parents=True)
    imports = "from openworld import Strategy\nfrom strategies.toolkit.classifier import Classifier\n"
    bounds = sandbox.Bounds(timeout_s=60, hidden=hidden(folder, BOARDS / "class-incremental"))
    result = run_source(imports + source_of("pass"), bounds)
    assert (result.status, result.reason, result.violations) == (Status.DONE, "", ())
