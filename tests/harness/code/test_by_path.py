"""Plugins by path find their neighbours, each its own, as they are on disk now."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import SUPPORT
from runs import BLOBS, Owb, Run

from harness.contracts import Status
from harness.errors import UserError
from harness.execution.execute import Limits, execute
from harness.execution.machine import Machine
from harness.execution.plan import plan
from harness.plugins import find
from harness.protocol.cells import cells, contenders, protocols
from harness.store.mlflow_store import Store

ASKING = """
import numpy as np
from worlds import Means
{imports}

class Mine(Means):
    '''Answers what its helper says.'''
    def said(self):
        {lazily}
        return {value}
"""
WAYS = {
    "bare": ("import helper", "pass", "helper.VALUE"),
    "from": ("from helper import VALUE", "pass", "VALUE"),
    "star": ("from helper import *", "pass", "VALUE"),
    "relative": ("from .helper import VALUE", "pass", "VALUE"),
    "from here": ("from . import helper", "pass", "helper.VALUE"),
    "lazily": ("", "import helper", "helper.VALUE"),
    "lazily, relative": ("", "from .helper import VALUE", "VALUE"),
    "through another": ("import other", "pass", "other.helper.VALUE"),
    "in a package": ("import pack.deep", "pass", "pack.deep.VALUE"),
    "as": ("import pack.deep as below", "pass", "below.VALUE"),
    "of a package": ("from pack import deep", "pass", "deep.VALUE"),
    "guarded": (
        "try:\n    import no_such_module\nexcept ImportError:\n    import helper",
        "pass",
        "helper.VALUE",
    ),
}


def _write(folder: Path, way: str, value: int) -> str:
    imports, lazily, said = WAYS[way]
    (folder / "pack").mkdir(parents=True, exist_ok=True)
    (folder / "mine.py").write_text(ASKING.format(imports=imports, lazily=lazily, value=said))
    (folder / "other.py").write_text("import helper\n")
    (folder / "helper.py").write_text(f"VALUE = {value}\n")
    (folder / "pack" / "deep.py").write_text("from helper import VALUE\n")
    return f"{folder}/mine.py:Mine"


@pytest.mark.parametrize("way", WAYS)
def test_neighbours_are_those_of_the_folder_and_of_this_moment(way: str, tmp_path: Path) -> None:
    one, two = (find("strategy", _write(tmp_path / str(value), way, value)).cls() for value in (1, 2))
    assert (one.said(), two.said(), one.said()) == (1, 2, 1)
    changed = find("strategy", _write(tmp_path / "1", way, 3)).cls()
    assert (changed.said(), two.said()) == (3, 2)


def test_what_did_not_change_is_not_loaded_again(tmp_path: Path) -> None:
    name = _write(tmp_path, "bare", 1)
    cls = find("strategy", name).cls
    assert find("strategy", name).cls is cls
    assert find("strategy", name, source=(tmp_path / "mine.py").read_text()).cls is cls


def test_a_bare_folder_hides_no_library(tmp_path: Path) -> None:
    (tmp_path / "numpy").mkdir()
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "__init__.py").touch()
    assert find("strategy", _write(tmp_path, "bare", 1)).cls().said() == 1


def test_a_text_that_was_sent_without_its_file_has_no_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A submission could write a module to its scratch folder and import it past the scan of its source."""
    _write(tmp_path, "bare", 1)
    source = (tmp_path / "mine.py").read_text()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="does not import: ModuleNotFoundError: No module named 'helper'"):
        find("strategy", "elsewhere.py:Mine", source=source)


def test_an_error_of_a_neighbour_is_told_and_can_be_mended(tmp_path: Path) -> None:
    name = _write(tmp_path, "bare", 1)
    (tmp_path / "helper.py").write_text("VALUE = 1 +\n")
    with pytest.raises(UserError, match="does not import: SyntaxError"):
        find("strategy", name)
    (tmp_path / "helper.py").write_text("VALUE = 1\n")
    assert find("strategy", name).cls().said() == 1


def test_what_is_pickled_here_is_read_by_a_process_that_has_loaded_nothing(tmp_path: Path) -> None:
    name = _write(tmp_path, "bare", 5)
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).said())"
    path = {"PYTHONPATH": str(SUPPORT)}
    said = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(find("strategy", name).cls()),
        capture_output=True,
        env=path,
    )
    assert said.stdout == b"5\n", said.stderr


LOADER = """
class Loader:
    def __init__(self, items):
        self.items, self.shape = items, items.shape
    def __len__(self):
        return len(self.items)
    def __getitem__(self, index):
        return self.items[index]
"""
LOADED = """
from dataclasses import replace
from worlds import Blobs
from loading import Loader
class Loaded(Blobs):
    '''Blobs behind a loader.'''
    def data_digests(self):
        return {}
    def deal(self, seed):
        deal = super().deal(seed)
        return replace(deal, inputs=Loader(deal.inputs))
"""
ANSWERING = """
import numpy as np
from harness.contracts import Prediction, Strategy
class Mine(Strategy):
    '''Answers one class, where it can read its items.'''
    def setup(self): ...
    def learn(self, stage):
        assert stage.inputs[np.arange(len(stage.ids))].shape == stage.inputs.shape
    def predict(self, query):
        import helper
        return Prediction(classes=np.full(len(query.ids), helper.ANSWER))
"""


def test_through_the_command_line_and_the_real_pool(tmp_path: Path, call_owb: Owb, warm_ray: None) -> None:
    """A changed helper runs again, and is what runs; the items of a loader reach it. By hand: a sixth of the
    items is of class 0.
    """
    for name, text in {"mine": ANSWERING, "loading": LOADER, "loaded": LOADED}.items():
        (tmp_path / f"{name}.py").write_text(text)
    strategy, scenario, store = (
        f"{tmp_path}/mine.py:Mine",
        f"{tmp_path}/loaded.py:Loaded",
        str(tmp_path / "store"),
    )

    def ran(answer: int) -> tuple[bool, float]:
        """Return whether the cell was there before, and its accuracy."""
        (tmp_path / "helper.py").write_text(f"ANSWER = {answer}\n")
        was_there = bool(plan(cells(protocols([scenario]), contenders([strategy]), 1), Store(store)).cached)
        said = call_owb(
            "run",
            strategy,
            "-s",
            scenario,
            "--seeds",
            "1",
            "--no-bounds",
            "--workers",
            "1",
            "--store",
            store,
            "--json",
        )
        return was_there, said.json["rankings"][0]["rows"][0]["figures"]["average_accuracy"]["0"]

    assert [ran(0), ran(0), ran(9)] == [
        (False, pytest.approx(1 / 6)),
        (True, pytest.approx(1 / 6)),
        (False, 0),
    ]


def test_a_helper_that_changes_after_planning_is_not_run_under_the_old_key(
    tiny_run: Run, tmp_path: Path
) -> None:
    """The cells are planned, the helper changes, the run begins: they fail with a sentence and are not kept."""
    name = _write(tmp_path, "bare", 1)
    todo = cells(protocols([BLOBS]), contenders([name]), 1)
    opened = Store(str(tmp_path / "late"))
    planned = plan(todo, opened)
    (tmp_path / "helper.py").write_text("VALUE = 2\n")
    (record,) = execute(planned, opened, experiment="late", machine=Machine(workers=1), limits=Limits())
    assert record.status is Status.FAILED
    assert (
        record.reason
        == "mine.py:Mine, or a module that it imports, changed after the run began: run the same command again"
    )
    (again,) = tiny_run([name], store="late")
    assert again.status is Status.DONE


def test_libraries_that_a_file_imports_are_loaded_ahead_and_its_neighbours_are_not(tmp_path: Path) -> None:
    text = _write(tmp_path, "bare", 1)
    (tmp_path / "mine.py").write_text(
        "import os\nfrom sklearn import cluster\nimport scipy.stats as s\nfrom harness import seeds\n"
        + (tmp_path / "mine.py").read_text()
    )
    assert find("strategy", text).loaded_ahead == ("sklearn.cluster", "scipy.stats", "numpy")


def test_two_plugins_of_one_folder_do_not_unload_each_other(tmp_path: Path) -> None:
    first = find("strategy", _write(tmp_path, "bare", 1)).cls
    (tmp_path / "second.py").write_text((tmp_path / "mine.py").read_text())
    second = find("strategy", f"{tmp_path}/second.py:Mine").cls
    assert find("strategy", f"{tmp_path}/mine.py:Mine").cls is first is not second


def test_a_learner_and_a_component_from_files_run_until_the_component_changes(
    tiny_run: Run, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(
        "from strategies.class_incremental.fine_tune import FineTune\nclass Mine(FineTune):\n    '''Mine.'''\n"
    )
    (tmp_path / "calm.py").write_text(
        "from strategies.components.rate import RateMatched\nclass Calm(RateMatched):\n    '''Calm.'''\n"
    )
    name = f"{tmp_path}/mine.py:Mine[components={tmp_path}/calm.py:Calm+rate]"
    todo = cells(protocols([BLOBS]), contenders([name]), 1)
    opened = Store(str(tmp_path / "late"))
    planned = plan(todo, opened)
    (record,) = tiny_run([name])
    assert (record.status, record.reason) == (Status.DONE, "")
    (tmp_path / "calm.py").write_text((tmp_path / "calm.py").read_text() + "    more = 1\n")
    (record,) = execute(planned, opened, experiment="late", machine=Machine(workers=1), limits=Limits())
    assert (
        record.reason
        == "calm.py:Calm, or a module that it imports, changed after the run began: run the same command again"
    )
