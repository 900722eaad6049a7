"""What probes give for the cells of a run: kept by cell, asked for later, and never learned twice where that helps."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from runs import BLOBS, Run
from watched import HERE

from harness.cell.looks import Shown
from harness.contracts import Status
from harness.execution.execute import plan
from harness.execution.probing import Probing, probing_of
from harness.protocol.cells import cells, contenders, protocols
from harness.store.mlflow_store import Store
from harness.store.probe_figures import Ledger

SHOWS = f"{HERE}:Shows"


def probing(*names: str, at: str = "every=10", keep_features: bool = False) -> Probing:
    found = probing_of([f"{HERE}:{name}" for name in names], at, keep_features=keep_features)
    assert found is not None
    return found


def test_a_ledger_gives_back_figures_and_features_of_the_same_moments(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "key", "every=5")
    ledger.add(
        {"one": {"a@asked": [(0, 0, 1.5), (0, 5, math.nan)], "b@asked": [(0, 0, math.inf)]}, "two": {}}
    )
    assert ledger.identities() == {"one", "two"}
    ((name, rows),) = ledger.curves({"one"}).items()
    assert (name, rows[0]) == ("a@asked", (0, 0, 1.5)) and math.isnan(rows[1][2])
    assert Ledger(tmp_path, "key", "every=6").identities() == set()
    shown = Shown(
        group="train",
        items=3,
        stage=1,
        step=4,
        total=9,
        ids=np.arange(3),
        given=np.array([0, -1, 2]),
        features=np.ones((3, 2), dtype=np.float16),
    )
    ledger.keep([shown])
    (back,) = ledger.shown()
    assert (back.group, back.stage, back.step, back.logits) == ("train", 1, 4, None)
    np.testing.assert_array_equal(back.features, shown.features)  # type: ignore[arg-type]
    assert ledger.drawn() == {("train", 3)}
    ledger.note("run", {"one"})
    assert (ledger.recorded("run"), ledger.recorded("other")) == ({"one"}, set())


@pytest.mark.slow
def test_figures_are_recorded_kept_and_asked_for_later_without_a_byte_of_a_prediction(
    tiny_run: Run, tmp_path: Path
) -> None:
    def open_cells(asked: Probing | None) -> int:
        todo = cells(protocols([BLOBS]), contenders([SHOWS]), 1)
        return len(plan(todo, Store(str(tmp_path / "store")), probing=asked).open)

    (plain,) = tiny_run([SHOWS])
    first = probing("Counts", "Loss")
    assert open_cells(first) == 1
    (record,) = tiny_run([SHOWS], probing=first)
    assert record.status is Status.DONE
    assert (record.key, record.digest, record.run_id == plain.run_id) == (plain.key, plain.digest, False)
    store = Store(str(tmp_path / "store"))
    (curves,) = store.probes_of([record])
    assert set(curves) == {"n@asked", "n_true@asked", "n_given@asked", "loss@train"}
    assert [row[:2] for row in curves["n@asked"]] == [
        (stage, step) for stage in range(3) for step in (0, 10, 20)
    ]
    assert curves["n@asked"][0][2] == 120
    assert not any(name.startswith("probe/") for name in record.metrics)
    assert (open_cells(first), open_cells(None)) == (0, 0)
    assert open_cells(probing("Counts", at="every=5")) == 1

    (kept,) = tiny_run([SHOWS], probing=probing("Counts[items=64]", keep_features=True))
    assert kept.run_id != record.run_id
    (curves,) = store.probes_of([kept])
    assert {"n items-64@asked", "n@asked", "loss@train"} <= set(curves)  # with those of the run before
    later = probing("Counts[items=64,factor=2]", "Counts[items=64,of=known]")
    assert open_cells(later) == 0
    (same,) = tiny_run([SHOWS], probing=later)
    assert same.run_id == kept.run_id
    (curves,) = store.probes_of([same])
    assert curves["n items-64 factor-2.0@asked"][0][2] == 128
    assert curves["n items-64@known"][0][2] < 64
    assert open_cells(probing("Counts[items=65]")) == 1


def test_what_another_run_left_of_a_cell_is_cleared_where_its_looks_were_others(tmp_path: Path) -> None:
    keep = tmp_path / "cell"
    keep.mkdir()
    (keep / "state.pt").write_text("of a run without probes")
    probing("Counts").settle(keep)
    assert not (keep / "state.pt").exists()
    (keep / "state.pt").write_text("of this run")
    probing("Counts").settle(keep)
    assert (keep / "state.pt").exists()
    probing("Counts", at="every=5").settle(keep)
    assert not (keep / "state.pt").exists()
