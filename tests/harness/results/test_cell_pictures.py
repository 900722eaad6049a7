"""Pictures of a cell are drawn when somebody looks at it, once, from what it answered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from runs import BLOBS, Owb, Run, world

from harness.errors import UserError
from harness.results.cell_pictures import add_pictures
from harness.store import plots
from harness.store.mlflow_store import Store
from harness.store.record import Record

RECORDED = {"cell.json", "log.txt", "predictions.npz"}


def _recorded(run: Run, folder: Path) -> tuple[Store, Record]:
    """Run a cell; return its store, and its record as it is read there."""
    (record,) = run([world("Means")])
    store = Store(str(folder / "store"))
    return store, store.by_key(record.key)


def _files(store: Store, record: Record) -> set[str]:
    return {file.path for file in store.client.list_artifacts(record.run_id)}


def test_a_cell_is_drawn_when_it_is_shown_and_not_again(
    tiny_run: Run, tmp_path: Path, call_owb: Owb, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, record = _recorded(tiny_run, tmp_path)
    assert _files(store, record) == RECORDED
    shown = call_owb("show", record.key, "--store", str(tmp_path / "store"))
    assert (shown.code, shown.err) == (0, "")
    assert _files(store, record) == RECORDED | {"accuracy_matrix.png", "stages.png"}

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it was drawn before")

    monkeypatch.setattr(plots, "draw", refuse)
    assert add_pictures(store, record) == []


def test_what_cannot_be_drawn_is_said_and_the_rest_is_drawn(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_much(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(plots, "heat_map", too_much)
    store, record = _recorded(tiny_run, tmp_path)
    (problem,) = add_pictures(store, record)
    assert problem.startswith("accuracy_matrix.png could not be drawn: MemoryError")
    assert _files(store, record) == RECORDED | {"stages.png"}


def test_figures_of_another_deal_are_not_drawn(tiny_run: Run, tmp_path: Path) -> None:
    store, record = _recorded(tiny_run, tmp_path)
    with pytest.raises(UserError, match=f"^this installation deals {BLOBS} otherwise than when it was run$"):
        add_pictures(store, replace(record, protocol_hash="another"))
