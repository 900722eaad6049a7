"""What a store's runs look like to somebody who reads them with MLflow alone."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from checkout import ROOT
from runs import Owb

from harness.contracts import Scores, Status
from harness.errors import UserError
from harness.protocol.cells import cells, contenders, protocols
from harness.results.ranking import rankings
from harness.results.run_page import write_run
from harness.store.mlflow_store import Store
from harness.store.record import Ending, Record

FIGURES = {"replay": (0.5, 0.7), "ewc": (0.2, 0.3)}
CURVE = [1.0, 0.8, 0.6]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a store with two cells of two strategies, recorded and not learned."""
    store = Store(str(tmp_path_factory.mktemp("recorded") / "store"))
    todo = cells(protocols(["class-incremental"]), contenders(list(FIGURES)), 2)
    for cell in todo:
        figure = FIGURES[cell.contender.label][cell.seed]
        scores = Scores(final={"average_accuracy": figure}, per_stage={"seen_accuracy": CURVE})
        run_id = store.begin(cell, experiment="runs", environment={})
        store.end(run_id, Ending(status=Status.DONE, digest="d"), scores=scores, stages=(0, 1, 2))
    return store.folder


@pytest.fixture
def store(recorded: Path, tmp_path: Path) -> Store:
    """Return a copy of that store."""
    return Store(str(shutil.copytree(recorded, tmp_path / "store")))


def test_a_run_says_what_it_is_of_and_where_it_comes_from(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = ["-c", "user.name=A", "-c", "user.email=a@b"]
    for words in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["/some/where/owb", "run", "replay[memory=5]"])
    (cell,) = cells(protocols(["class-incremental"]), contenders(["replay[memory=5]"]), 1)
    store.begin(cell, experiment="runs", environment={})
    *earlier, run = store.search("", "runs")
    assert run.info.run_name == "replay[memory=5] | class-incremental | seed 0"
    assert run.data.tags["mlflow.source.name"] == "owb run 'replay[memory=5]'"
    assert run.data.tags["mlflow.source.git.commit"] == head.stdout.strip()
    assert run.info.user_id == run.data.tags["mlflow.user"]
    (given,) = run.inputs.dataset_inputs
    ((name, digest),) = cell.protocol.content["data"].items()
    assert (given.dataset.name, given.dataset.digest) == (name, digest[:36])
    assert all(value for each in (*earlier, run) for value in each.data.tags.values()), "no tag is empty"


def test_a_store_has_no_experiment_but_ours_which_opens_on_its_runs(store: Store) -> None:
    (experiment,) = store.client.search_experiments()
    assert (experiment.name, experiment.tags["mlflow.experimentKind"]) == ("runs", "custom_model_development")


def test_the_lines_of_the_docs_rebuild_the_means_of_a_ranking(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "run.md").read_text(), flags=re.DOTALL)
    (block,) = [block for block in blocks if "search_runs" in block]
    assert len([line for line in block.splitlines() if line and not line.startswith("import")]) == 4
    known: dict[str, object] = {}
    before = mlflow.get_tracking_uri()
    try:
        exec(block.replace("sqlite:///owb-store/mlflow.db", store.uri), known)
    finally:
        mlflow.set_tracking_uri(before)
    board = known["board"].droplevel(0).to_dict()  # type: ignore[attr-defined]
    assert board == pytest.approx({name: sum(figures) / 2 for name, figures in FIGURES.items()})


def test_the_page_of_a_run_has_every_figure_beside_it(store: Store, tmp_path: Path) -> None:
    records = store.records("runs")
    page = write_run(store, records, "<mine>", tmp_path / "page")
    header, *rows = [line.split(",") for line in (page.parent / "cells.csv").read_text().splitlines()]
    whole = {
        (row[1], int(row[2])): float(row[header.index("average_accuracy")]) for row in rows if not row[4]
    }
    assert whole == {(name, seed): value for name, both in FIGURES.items() for seed, value in enumerate(both)}
    after = header.index("seen_accuracy after stage")
    for record in records:
        own = [
            float(row[after]) for row in rows if row[1:3] == [record.strategy, str(record.seed)] and row[4]
        ]
        assert own == CURVE
    text = page.read_text()
    assert "&lt;mine&gt;" in text
    assert all(row.strategy in text for row in rankings(records)[0].rows)
    assert (page.parent / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert r"\begin{tabular}" in (page.parent / "tables.tex").read_text()


# --- renamed and forgotten ----------------------------------------------------------------------------------


def _files(records: list[Record], store: Store) -> list[Path]:
    return [store.file(record, "cell.json") for record in records]


def test_an_experiment_gets_another_name_and_is_forgotten_with_its_files(
    store: Store, call_owb: Owb, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = ("--store", str(store.folder))
    files = _files(store.records("runs"), store)
    assert call_owb("rename", "runs", "first", *there).code == 0
    assert store.experiments() == ["first"]
    refused = call_owb("rename", "frist", "second", *there)
    assert refused.err == "error: unknown experiment 'frist'; did you mean 'first'? (all: owb show)\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert call_owb("forget", "first", *there).code == 1
    assert len(store.records()) == 4
    assert call_owb("forget", "first", "--yes", *there).code == 0
    assert (store.experiments(), store.records()) == ([], [])
    assert not any(file.exists() for file in files)
    (cell,) = cells(protocols(["class-incremental"]), contenders(["replay"]), 1)
    Store(str(store.folder)).begin(cell, experiment="first", environment={})
    assert store.experiments() == ["first"], "the name is free again"


def test_a_cell_is_forgotten_with_every_record_of_its_key(store: Store, call_owb: Owb) -> None:
    (cell, _) = cells(protocols(["class-incremental"]), contenders(["replay"]), 2)
    store.end(store.begin(cell, experiment="again", environment={}), Ending(status=Status.DONE))
    assert call_owb("forget", cell.key[:12], "--yes", "--store", str(store.folder)).code == 0
    assert cell.key not in {record.key for record in store.records()}
    assert len(store.records()) == 3


def test_show_says_what_there_is(store: Store, tmp_path: Path, call_owb: Owb) -> None:
    there = ("--store", str(store.folder))
    assert "did you mean 'runs'? (all: owb show)" in call_owb("show", "rums", *there).err
    assert "nothing is recorded in" in call_owb("show", "demo", "--store", str(tmp_path / "none")).err
    assert "--log takes the key of a cell" in call_owb("show", "runs", "--log", *there).err
    record = store.records()[0]
    store.add_text(record.run_id, "log.txt", "line one\nline two\n")
    assert call_owb("show", record.key, "--log", *there).out == "line one\nline two\n"
    with pytest.raises(UserError, match="no cells begin with 'ffffff'"):
        store.by_key("ffffff")
