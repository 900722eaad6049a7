"""The feed of a board is Atom (RFC 4287), says what the list of accepted versions says, and is the same every
time.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from xml.etree import ElementTree

from site_records import BOARDS, HOSTILE

from leaderboards.publishing.accepted import Accepted, Moved, Version
from leaderboards.publishing.board import Board, read_board
from leaderboards.site.feed import feed

ATOM = "{http://www.w3.org/2005/Atom}"


def _version(number: int, name: str = "Nearest mean", label: str = "mine.py:Mine") -> Version:
    places = (
        Moved(scenario="ncd", strategy=label, before="", after="1-2"),
        Moved(scenario="ncd", strategy="uno", before="1", after="1-2"),
        Moved(scenario="ncd", strategy="old", before="3", after=""),
    )
    day = date(2026, 3, number)
    return Version(name=name, revision=number, digest=f"{number:064x}", label=label, day=day, moved=places)


def _board(*versions: Version) -> Board:
    return replace(read_board(BOARDS / "ncd"), accepted=Accepted(versions=versions))


def _text(element: ElementTree.Element, name: str) -> str:
    return element.findtext(f"{ATOM}{name}") or ""


def test_it_has_what_atom_asks_for_and_the_newest_comes_first() -> None:
    root = ElementTree.fromstring(feed(_board(_version(1), _version(2))))
    assert root.tag == f"{ATOM}feed"
    assert root.findtext(f"{ATOM}author/{ATOM}name")
    assert _text(root, "updated") == "2026-03-02T00:00:00Z"
    entries = root.findall(f"{ATOM}entry")
    assert [_text(entry, "title") for entry in entries] == [
        "Nearest mean, revision 2",
        "Nearest mean, revision 1",
    ]
    assert [_text(entry, "updated")[:10] for entry in entries] == ["2026-03-02", "2026-03-01"]
    names = [_text(each, "id") for each in (root, *entries)]
    assert len(set(names)) == 3
    assert all(re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", name) for name in names)


def test_an_entry_says_which_places_moved() -> None:
    (entry,) = ElementTree.fromstring(feed(_board(_version(1)))).findall(f"{ATOM}entry")
    assert _text(entry, "content").splitlines() == [
        "mine.py:Mine was accepted.",
        "ncd | mine.py:Mine: place 1-2, new",
        "ncd | uno: place 1-2, was 1",
        "ncd | old: no longer there, was 3",
    ]


def test_it_is_the_same_every_time_and_an_entry_keeps_its_id_when_others_follow() -> None:
    assert feed(_board(_version(1))) == feed(_board(_version(1)))
    first, later = (ElementTree.fromstring(feed(_board(*map(_version, days)))) for days in ((1,), (1, 2)))
    assert _text(first.findall(f"{ATOM}entry")[0], "id") == _text(later.findall(f"{ATOM}entry")[1], "id")


def test_what_a_submission_is_called_stays_text() -> None:
    for number, name in enumerate(HOSTILE, start=1):
        said = feed(_board(_version(number, name=name.replace("\n", " "), label=name)))
        root = ElementTree.fromstring(said)
        assert name in _text(root.findall(f"{ATOM}entry")[0], "content")
        assert "<script" not in said
