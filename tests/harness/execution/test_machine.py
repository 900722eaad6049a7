"""The machine's options as one value."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from worlds import Blobs

from harness.cell.run import settings_of
from harness.execution.machine import Machine


def test_a_cell_computes_as_the_machine_does_and_keeps_what_the_protocol_says() -> None:
    plain = settings_of(Blobs(), 3)
    said = Machine(workers=7, threads=2, device="cuda:1", precision="bfloat16", compile=True)
    assert said.computing(plain) == replace(plain, device="cuda:1", precision="bfloat16", compile=True)
    assert Machine().computing(plain) == plain


@pytest.mark.parametrize(("cores", "threads", "processes"), [(8, 1, 8), (8, 3, 2), (2, 4, 1), (None, 1, 1)])
def test_workers_are_as_many_as_the_cores_have_room_for(
    cores: int | None, threads: int, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert Machine(threads=threads).processes == processes
    assert Machine(threads=threads, workers=5).processes == 5
