"""What a submission states is refused with its key where it cannot be true, is too much, or steers a terminal."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forgeries
import pytest
from asking import Verify
from forgeries import edit, problems_of, rekey, sign, stages_that_refuse

Change = Callable[[dict[str, Any]], Any]


def cell(**stated: Any) -> Change:
    return lambda entry: entry["cells"][0].update(stated)


def environment(**stated: Any) -> Change:
    return lambda entry: entry["environments"][0].update(stated)


def library(**stated: Any) -> Change:
    return lambda entry: entry["environments"][0]["libraries"].update(stated)


FORGED: dict[str, tuple[Change, str]] = {
    "negative seconds": (
        cell(seconds=-5.0),
        r"cells\.0\.seconds: input should be greater than or equal to 0",
    ),
    "negative memory": (
        cell(peak_mib=-1.0),
        r"cells\.0\.peak_mib: input should be greater than or equal to 0",
    ),
    "learned beside nobody": (
        cell(together=0),
        r"cells\.0\.together: input should be greater than or equal to 1",
    ),
    "a story as a reason": (cell(reason="x" * 301), r"cells\.0\.reason: string should have at most 300"),
    "a version of the future": (
        library(torch="99.0"),
        r"environments\.0\.libraries\.torch: version 99\.0 is not one of 2\.6 to 3\.\*",
    ),
    "a version of the past": (
        library(numpy="1.26.4"),
        r"environments\.0\.libraries\.numpy: version 1\.26\.4 is not one of 2\.0 to 3\.\*",
    ),
    "a version that is none": (
        library(torch="best"),
        r"environments\.0\.libraries\.torch: 'best' is no version",
    ),
    "a library that is none": (
        library(magic="1.0"),
        r"environments\.0\.libraries\.magic\.\[key\]: input should be",
    ),
    "without torch": (
        lambda entry: entry["environments"][0]["libraries"].pop("torch"),
        r"environments\.0\.libraries\.torch: is missing",
    ),
    "another Python": (
        environment(python="2.7.18"),
        r"environments\.0\.python: version 2\.7\.18 is not one of 3\.11",
    ),
    "no cores": (
        environment(cores=-2),
        r"environments\.0\.cores: input should be greater than or equal to 1",
    ),
    "a large environment": (
        environment(machine="x" * 200_000),
        r"environments\.0\.machine: string should have at most",
    ),
    "an environment with more in it": (
        environment(notes="x"),
        r"environments\.0\.notes: extra inputs are not permitted",
    ),
    "environments of nobody": (
        lambda entry: entry["environments"].append({**entry["environments"][0], "cores": 64}),
        r"environments\.1: is the environment of no cell",
    ),
    "a large configuration": (
        lambda entry: entry["params"].update(power="1" * 20_000),
        r"params: takes 20\d{3} bytes, more than 16384",
    ),
    "letters that turn": (
        cell(reason="fine \u202eenif"),
        r"cells\.0\.reason: holds the character U\+202E, which steers what shows it",
    ),
    "a key that steers": (
        lambda entry: entry["params"].update({"po\x1b[2Jwer": 1}),
        r"a key of params: holds the character U\+001B",
    ),
    "an unseen letter": (
        environment(system="Li\u200bnux"),
        r"environments\.0\.system: holds the character U\+200B",
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_what_an_entry_states_is_refused_with_its_key(gate: Verify, folder: Path, name: str) -> None:
    change, sentence = FORGED[name]
    edit(folder / "entry.yaml", change)
    if name not in UNREADABLE:
        rekey(folder)
    sign(folder)
    said = gate(folder, "--no-rerun")
    assert (said.code, stages_that_refuse(said.report)) == (3, ["schema"])
    assert any(re.search(f"^entry.yaml: .*{sentence}", problem) for problem in problems_of(said.report)), (
        said.text
    )


UNREADABLE = {
    "negative seconds",
    "negative memory",
    "learned beside nobody",
    "a story as a reason",
    "letters that turn",
    "a key that steers",
    "an unseen letter",
}
"""Those that the reader of a board refuses as well; they change nothing that a key is made of."""


@pytest.mark.parametrize("letter", ["\x7f", "\x9b", "\u202e", "\u2066", "\u200b", "\ufeff"], ids=ascii)
def test_who_hands_in_cannot_steer_what_shows_the_name(gate: Verify, folder: Path, letter: str) -> None:
    edit(folder / "submission.yaml", lambda content: content.update(name=f"A good{letter} name"))
    said = gate(folder, "--no-rerun")
    assert (said.code, stages_that_refuse(said.report)) == (3, ["schema"])
    sentence = f"submission.yaml: name: holds the character U+{ord(letter):04X}, which steers what shows it"
    assert list(problems_of(said.report)) == [sentence]


@pytest.mark.parametrize("file", ["submission.yaml", "entry.yaml"])
def test_a_key_that_is_said_twice_is_refused_with_its_name(gate: Verify, folder: Path, file: str) -> None:
    path = folder / file
    text = path.read_text()
    key = text.partition(":")[0]
    path.write_text(f"{text}{key}: again\n")
    if file == "entry.yaml":
        sign(folder)
    said = gate(folder, "--no-rerun")
    assert (said.code, stages_that_refuse(said.report)) == (3, ["schema"])
    assert any(f"says '{key}' twice" in problem for problem in problems_of(said.report))


def test_a_source_that_reads_otherwise_than_it_runs_is_refused(gate: Verify, folder: Path) -> None:
    """CVE-2021-42574: letters that turn the direction of writing show another program than the one that runs."""
    source = (folder / "strategy.py").read_text()
    forgeries.with_source(folder, source + "# \u202e } \u2066 if True: \u2069 \u2066 begin\n")
    said = gate(folder, "--no-rerun")
    line = source.count("\n") + 1
    assert (said.code, stages_that_refuse(said.report)) == (3, ["form", "schema"])
    assert f"strategy.py: line {line}: holds the character U+202E, which steers what shows it" in said.text
