"""Whatever a submission makes its reader trip over is a finding, never the end of the gate."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from asking import Verify
from forgeries import predictions, problems_of, sign, stages_that_refuse

from leaderboards.gate.examine import examine

ODD: list[Any] = [None, [], {}, -1, 10**40, "", "\n", "[[[,=", math.inf, True, {"a": {"b": []}}, ["x"] * 3]


@pytest.mark.parametrize("header", ["{'descr': '<f8', 'shape': (", "{", "(" * 9000])
def test_a_header_of_an_array_that_is_no_python_is_refused(gate: Verify, folder: Path, header: str) -> None:
    text = header.encode().ljust(118)
    with zipfile.ZipFile(predictions(folder), "w") as archive:
        archive.writestr("0.classes.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    sign(folder)
    said = gate(folder)
    assert (said.code, "form" in stages_that_refuse(said.report)) == (3, True)
    assert any("seed-0.npz: is not an archive of arrays (" in problem for problem in problems_of(said.report))


def _places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value, of lists to the first alone."""
    if path:
        yield path
    inside = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content[:1])
        if isinstance(content, list)
        else ()
    )
    for key, value in inside:
        yield from _places(value, (*path, key))


@pytest.mark.parametrize("file", ["submission.yaml", "entry.yaml"])
def test_an_odd_value_in_any_place_is_refused_or_does_not_matter(made: Any, folder: Path, file: str) -> None:
    honest = yaml.safe_load((folder / file).read_text())
    refused = 0
    places = list(_places(honest))
    for number, path in enumerate(places):
        odd = ODD[number % len(ODD)]
        content = yaml.safe_load(yaml.safe_dump(honest))
        inner = content
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = odd
        (folder / file).write_text(yaml.safe_dump(content, sort_keys=False))
        refused += examine(folder, made.boards, rerun=False).refused
    assert refused >= len(places) - 2  # a reason and a session of a cell that is done may be anything
