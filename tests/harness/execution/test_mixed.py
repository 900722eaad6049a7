"""Cells that ran with other libraries than their keys name are marked, and done for runs with `--mixed` alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from runs import BLOBS, Owb, world

from harness.contracts import Scores, Status
from harness.execution.others import Others
from harness.execution.plan import plan, renewed
from harness.protocol.cells import Cell, cells, contenders, protocols
from harness.store.leases import Leases, roster_of
from harness.store.mlflow_store import Store
from harness.store.record import Ending

DIFFERS = "timm 1.0.31 instead of 0.0.1"
MARKED = {"libraries": {"timm": "1.0.31"}, "mixed": DIFFERS}


@pytest.fixture
def todo() -> list[Cell]:
    """Return two cells."""
    return cells(protocols([BLOBS]), contenders([world("Means")]), 2)


def _ran(store: Store, cell: Cell, environment: dict[str, object]) -> None:
    run = store.begin(cell, experiment="test", environment=environment)
    store.end(run, Ending(status=Status.DONE), scores=Scores(final={"average_accuracy": 0.5}))


def test_what_ran_with_other_libraries_is_done_for_those_alone_that_allow_it(
    tmp_path: Path, todo: list[Cell]
) -> None:
    store = Store(str(tmp_path / "store"))
    before = plan(todo, store)
    _ran(store, todo[0], MARKED)
    _ran(store, todo[1], {})
    assert plan(todo, store).open == renewed(before, store).open == [todo[0]]
    allowed = plan(todo, store, mixed=True)
    assert [allowed.cached[cell.key].mixed for cell in todo] == [DIFFERS, ""]
    assert renewed(plan(todo, store, mixed=True, again=False), store).open == []
    _ran(store, todo[0], {})
    assert plan(todo, store).open == [], "run anew with the libraries of its key, it is done"


@pytest.mark.parametrize("mixed", [False, True])
def test_the_record_of_another_driver_is_taken_over_where_its_libraries_may_be_others(
    tmp_path: Path, todo: list[Cell], mixed: bool
) -> None:
    store = Store(str(tmp_path / "store"))
    with Leases(roster_of(store)) as mine:
        others = Others(mine, store, again=False, mixed=mixed, meet=lambda _: None)
        with Leases(roster_of(store)) as other:
            other.claim([todo[0].key])
            assert others.claim(todo[:1]) == ([], {})
            _ran(store, todo[0], MARKED)
        assert others.freed() == todo[:1]
        ours, ended = others.claim(todo[:1])
    assert (ours, [*ended]) == (([], [todo[0].key]) if mixed else (todo[:1], []))


def test_it_is_shown(tmp_path: Path, todo: list[Cell], call_owb: Owb) -> None:
    store = Store(str(tmp_path / "store"))
    _ran(store, todo[0], MARKED)
    _ran(store, todo[1], {})
    where = ("--store", str(tmp_path / "store"))
    shown = call_owb("show", "test", *where).out
    assert f"1 of 2 cells ran with other libraries than their keys name ({DIFFERS})" in shown.splitlines()
    assert f"libraries     not those of its key ({DIFFERS})" in call_owb("show", todo[0].key, *where).out
    found = json.loads(call_owb("show", "test", "--cells", "--json", *where).out)
    assert {each["seed"]: each["mixed"] for each in found} == {0: DIFFERS, 1: ""}
