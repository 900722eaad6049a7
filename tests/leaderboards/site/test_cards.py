"""The card of a data set on the page of a board, by its name with or without parameters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from site_records import BOARDS

from harness.contracts import Card
from harness.selection import configured
from leaderboards.publishing.board import read_board
from leaderboards.site.cards import card_of_protocol


def _card(dataset: str, digest: str = "0") -> Card | None:
    protocol = read_board(BOARDS / "class-incremental").header.protocols[0]
    said = protocol.model_copy(update={"content": {**protocol.content, "data": {dataset: digest}}})
    (line,) = card_of_protocol(said).data
    assert (line.name, line.digest) == (dataset, digest)
    return line.card


def test_parameters_in_brackets_hide_no_card() -> None:
    plain = _card("cifar100")
    assert plain is not None
    assert plain.items == 60_000
    assert _card("cifar100[root=elsewhere]") == plain


def test_data_of_ones_own_have_their_sizes_while_they_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWB_DATA", str(tmp_path))
    name = "arrays[path=points.npz]"
    np.savez(tmp_path / "points.npz", inputs=np.zeros((6, 4), np.float32), labels=np.arange(6) % 3)
    digest = configured("dataset", name).card.digest
    found = _card(name, digest)
    assert found is not None
    assert (found.items, found.classes) == (6, 3)
    assert _card(name, "of other points") is None
    (tmp_path / "points.npz").unlink()
    assert _card(name, digest) is None


@pytest.mark.parametrize("name", ["nobody", "nobody[root=x]", "odd[", ""])
def test_what_is_not_installed_has_no_card(name: str) -> None:
    assert _card(name) is None
