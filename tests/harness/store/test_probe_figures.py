"""What is kept of probes beside a cell's record."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.store.probe_figures import FOLDER, Ledger


@pytest.mark.parametrize("text", ["", "{", "[]", '{"figures": {}}', '{"figures": [], "runs": {}}', "\x00"])
def test_a_damaged_file_is_none_and_what_is_added_is_there_again(tmp_path: Path, text: str) -> None:
    ledger = Ledger(tmp_path, "key", "epochs=1")
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "key.json").write_text(text, encoding="utf-8")
    assert ledger.identities() == set()
    assert ledger.recorded("run") == set()
    ledger.add({"dse": {"dse@asked": [(0, 1, 0.5), (0, 2, float("nan"))]}})
    ledger.note("run", ["dse"])
    again = Ledger(tmp_path, "key", "epochs=1")
    assert again.identities() == {"dse"} and again.recorded("run") == {"dse"}
    assert again.curves(["dse"])["dse@asked"][0] == (0, 1, 0.5)
