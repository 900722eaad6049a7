"""A class of a notebook is written out whole: with what it uses, under a name that follows what it does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from notebooks import Notebook

from harness.api.naming import selection_of
from harness.api.notebook import text_of, written_out
from harness.errors import UserError
from harness.plugins import find
from harness.protocol.cells import contenders
from strategies.class_incremental.replay import Replay

IMPORTS = """
import numpy as np
import torch.nn.functional as F
from collections import Counter as Counts
from typing import Literal
from torch import relu
from openworld import Prediction, Query, Stage, Strategy, param
"""
MEANS = '''
class Means(Strategy):
    """Predict the class whose mean is nearest."""

    power: float = param(2.0, "power of the distance", gt=0)

    def setup(self) -> None:
        self.means: dict[int, np.ndarray] = {}

    def learn(self, stage: Stage) -> None:
        for label in np.unique(stage.labels):
            self.means[int(label)] = stage.inputs[np.flatnonzero(stage.labels == label)].mean(axis=0)

    def predict(self, query: Query) -> Prediction:
        far = [(abs(query.inputs - mean) ** self.power).sum(axis=1) for mean in self.means.values()]
        return Prediction(classes=np.array(list(self.means))[np.argmin(far, axis=0)])
'''


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    """Return a notebook with its imports made."""
    notebook = Notebook(monkeypatch)
    notebook(IMPORTS)
    return notebook


def _made(cls: type, store: Path) -> Any:
    """Return the class as a worker would find it in the file that it was written to."""
    return find("strategy", f"{written_out(cls, store)}:{cls.__name__}").cls


def test_what_a_class_uses_comes_with_it_and_nothing_else(cell: Notebook, tmp_path: Path) -> None:
    cell("SIZES = {'small': [8, 1.5], 'none': None}\nunused = object()\nWIDTH = 3")
    cell("def half(x):\n    return relu(F.softplus(x)) / 2\n\ndef quarter(x):\n    return half(half(x))")
    cell(MEANS)
    cell(
        "class Mine(Means):\n"
        "    kind: Literal['small', 'none'] = param('small')\n"
        "    width: int = param(WIDTH)\n\n"
        "    def learn(self, stage: 'Unheard') -> None:\n"
        "        self.sizes, self.counts = SIZES[self.kind], Counts([quarter(stage)])\n"
    )
    made = _made(cell["Mine"], tmp_path)(kind="none")
    assert (made.kind, made.width, made.power) == ("none", 3, 2.0)
    made.learn(torch.zeros(1))
    assert made.sizes is None
    once = torch.log(torch.tensor(2.0)) / 2
    assert next(iter(made.counts)) == pytest.approx(float(torch.log1p(once.exp()) / 2))
    assert {"unused", "Query"}.isdisjoint(vars(sys.modules[type(made).__module__]))
    assert "from openworld import Strategy\n" in text_of(cell["Mine"])


def test_a_class_without_a_method_is_found_in_the_newest_cell(cell: Notebook, tmp_path: Path) -> None:
    cell(MEANS)
    for power in (1.0, 3.0):
        cell(f"class Mine(Means):\n    power: float = param({power})")
    assert _made(cell["Mine"], tmp_path)().power == 3.0


def test_comments_and_docstrings_and_other_cells_change_neither_file_nor_key(
    cell: Notebook, tmp_path: Path
) -> None:
    cell(MEANS)
    before = written_out(cell["Means"], tmp_path)
    cell("other = 1")
    cell(MEANS.replace("is nearest", "is the nearest").replace("far = [", "# distances\n        far = ["))
    assert written_out(cell["Means"], tmp_path) == before
    cell(MEANS.replace("** self.power", "** (self.power + 1)"))
    after = written_out(cell["Means"], tmp_path)
    assert after != before
    assert after.name == before.name == "means.py"
    codes = [contenders([f"{path}:Means"])[0].code for path in (before, after)]
    assert codes[0] != codes[1]


def test_a_value_of_the_notebook_that_changes_makes_another_class(cell: Notebook, tmp_path: Path) -> None:
    cell("POWER = 2.0")
    cell(MEANS.replace("param(2.0", "param(POWER"))
    before = written_out(cell["Means"], tmp_path)
    cell("POWER = 3.0")
    assert written_out(cell["Means"], tmp_path) != before


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["net = object()", MEANS.replace("self.means:", "net; self.means:")], "uses net, a object"),
        ([MEANS.replace("self.means:", "nte; self.means:")], "uses nte, which the notebook does not define"),
        (["f = lambda x: x", MEANS.replace("self.means:", "f; self.means:")], "uses f, a function"),
        ([MEANS, "class Mean(Means):\n    pass", MEANS, "Means = Mean"], "made from a Means that"),
        (["def make():\n    " + MEANS.replace("\n", "\n    ") + "\n    return Means", "Means = make()"], "inside"),
        (["Means = type('Means', (Strategy,), {})"], "text of Means is not known"),
    ],
)  # fmt: skip
def test_what_a_worker_could_not_have_is_named(
    cell: Notebook, tmp_path: Path, cells: list[str], said: str
) -> None:
    for text in cells:
        cell(text)
    with pytest.raises(UserError, match=said):
        written_out(cell["Means"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_class_stands_for_its_name_and_an_instance_for_its_parameters_too(
    cell: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cell(MEANS)
    name = selection_of("strategy", cell["Means"], tmp_path / "store")
    assert name.startswith("store/classes/")
    assert selection_of("strategy", cell["Means"](power=3), tmp_path / "store") == f"{name}[power=3.0]"
    assert selection_of("strategy", Replay(memory=7), tmp_path) == "replay[memory=7]"
    assert selection_of("strategy", "replay", tmp_path) == "replay"
    (found,) = contenders([f"{name}[power=3.0]"])
    assert found.plugin.cls(**found.params).power == 3.0
