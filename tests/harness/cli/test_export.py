"""Exported files hold what the store does: every cell, its figures, and its parameters as numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from runs import BLOBS, Owb, world

from harness.api.running import load
from harness.contracts import Scores, Status
from harness.protocol.cells import Cell, cells, contenders, protocols
from harness.store.mlflow_store import Store
from harness.store.record import Ending

MEANS = world("Means")


def _figure(cell: Cell) -> float:
    return 0.5 + 0.1 * cell.seed + cell.contender.params["offset"] / 100


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Return a store with two settings under two seeds, the last of which failed."""
    folder = tmp_path_factory.mktemp("kept")
    kept = Store(str(folder / "owb-store"))
    todo = cells(protocols([BLOBS]), contenders([f"{MEANS}[offset=[0,2]]"]), 2)
    for cell in todo:
        run = kept.begin(cell, experiment="shift" if cell.seed else "runs", environment={})
        curve = [1.0, math.nan, _figure(cell)]
        scores = Scores(final={"average_accuracy": _figure(cell)}, per_stage={"seen_accuracy": curve})
        if cell is todo[-1]:
            kept.end(run, Ending(status=Status.FAILED, reason="a, b"))
        else:
            kept.end(run, Ending(status=Status.DONE, seconds=2.0), scores=scores, stages=range(3))
    return kept


def _read(path: Path) -> pd.DataFrame:
    readers = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".json": pd.read_json}
    return readers[path.suffix](path)  # type: ignore[operator]


@pytest.mark.parametrize("kind", ["csv", "parquet", "json"])
def test_a_file_has_a_row_a_cell_with_figures_and_parameters(
    store: Store, call_owb: Owb, tmp_path: Path, kind: str
) -> None:
    out = tmp_path / f"mine.{kind}"
    said = call_owb("export", str(store.folder), "--format", kind, "--out", str(out))
    assert (said.code, said.out.split(":")[1].split(",")[0]) == (0, " 4 cells")
    frame = _read(out)
    assert frame["strategy.offset"].tolist() == [0, 2, 0, 2]
    assert frame["seed"].tolist() == [0, 0, 1, 1]
    expected = [0.5 + 0.1 * seed + offset / 100 for seed, offset in [(0, 0), (0, 2), (1, 0)]]
    assert frame["average_accuracy"].tolist()[:3] == pytest.approx(expected)
    assert frame["status"].tolist() == ["done"] * 3 + ["failed"]
    assert frame["average_accuracy"].isna().tolist() == [False, False, False, True]
    assert frame["reason"].tolist()[3] == "a, b"
    assert frame["scenario.items"].tolist() == [20] * 4
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_file_of_stages_has_the_curves_of_the_results(store: Store, call_owb: Owb, tmp_path: Path) -> None:
    out = tmp_path / "stages.csv"
    assert call_owb("export", str(store.folder), "--stages", "--out", str(out)).code == 0
    frame, curves = pd.read_csv(out), load(str(store.folder)).curves()
    assert frame["stage"].tolist() == [0, 1, 2] * 3
    assert frame["seen_accuracy"].tolist()[::3] == [1.0] * 3
    assert frame["seen_accuracy"].isna().tolist() == [False, True, False] * 3
    assert [*frame.columns] == [*curves.columns]
    assert frame["seen_accuracy"].fillna(-1).tolist() == curves["seen_accuracy"].fillna(-1).tolist()


def test_two_stores_are_told_apart_and_one_experiment_is_chosen(
    store: Store, call_owb: Owb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store.folder.parent)
    out = tmp_path / "both.json"
    words = ("export", "owb-store", str(store.folder), "--name", "shift", "-f", "json", "-o", str(out))
    assert call_owb(*words).code == 0
    rows = json.loads(out.read_text())
    assert [(row["store"], row["seed"]) for row in rows] == [("owb-store", 1)] * 2 + [
        (str(store.folder), 1)
    ] * 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--format", "parqet"), "unknown format 'parqet'; did you mean 'parquet'?"),
        (("owb-stor",), "unknown store 'owb-stor'; did you mean 'owb-store'?"),
        (("--name", "shif"), "unknown experiment 'shif'; did you mean 'shift'?"),
        (("--out", "owb-store"), "owb-store is a folder"),
        (("--out", "owb-store/mlflow.db/x.csv"), "cannot write to"),
    ],
)
def test_what_is_not_there_is_named_with_its_nearest(
    store: Store, call_owb: Owb, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(store.folder.parent)
    found = call_owb("export", *words)
    assert found.code == 2
    assert said in found.err
    assert [path.name for path in Path().iterdir()] == ["owb-store"]
