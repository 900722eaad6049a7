"""`owb data check`: counts, what is there twice or looks alike, the contact sheet, and one document of JSON."""

from __future__ import annotations

import base64
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import own_formats as own
import pytest
from PIL import Image
from runs import Owb

SIDE, NAMES, GAP = 64, 160, 2


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OWB_DATA", raising=False)
    monkeypatch.setenv("OWB_CACHE", str(tmp_path / "cache"))


def test_images_that_look_alike_on_both_sides_of_the_split_are_named(tmp_path: Path, call_owb: Owb) -> None:
    lot = own.pictures(tmp_path / "pictures")
    with Image.open(lot.files[5]) as photograph:
        photograph.save(lot.files[-1].with_suffix(".webp"), lossless=True)
    lot.files[-1].unlink()
    text = f"folder[root={tmp_path / 'pictures'}]"
    said = call_owb("data", "check", text)
    assert said.code == 0
    again = lot.files[-1].with_suffix(".webp")
    assert "images that look alike, pairs of the test with others: 1" in said.out
    assert f"  {again} is like {lot.files[5]}" in said.out
    document = call_owb("data", "check", text, "--json").json
    assert document["alike"] == [[str(lot.files[5]), str(again)]]
    assert document["counts"]["dog"] == {"train": 8, "test": 3}
    assert document["card"]["items"] == 44
    assert len(document["card"]["digest"]) == 64
    assert document["problems"] == []


def test_what_is_wrong_is_in_the_document_too(tmp_path: Path, call_owb: Owb) -> None:
    lot = own.pictures(tmp_path / "pictures")
    lot.files[3].write_bytes(b"no picture")
    said = call_owb("data", "check", f"folder[root={tmp_path / 'pictures'}]", "--json")
    assert said.code == 1
    assert f"cannot read the image {lot.files[3]}" in said.out
    assert said.out.startswith("{")


def test_given_labels_are_counted(tmp_path: Path, call_owb: Owb) -> None:
    rows = [(0.5 * row, "ab"[row % 2], "ab"[row % 2 if row > 2 else 0]) for row in range(10)]
    path = own.table(tmp_path / "t.csv", rows, ("x", "y", "z"))
    said = call_owb("data", "check", f"table[path={path},features=x,label=y,given=z]")
    assert "1 given labels are not the true ones" in said.out


def _plain(root: Path) -> str:
    """Write two classes of pictures of one colour each, one of them higher than wide."""
    for name, colour in (("<ant>", (200, 10, 10)), ("蜂", (10, 10, 200))):
        (root / name).mkdir(parents=True)
        for item in range(12):
            Image.new("RGB", (8, 16), colour).save(root / name / f"{item}.png")
    return f"folder[root={root}]"


def test_a_contact_sheet_shows_some_of_every_class(tmp_path: Path, call_owb: Owb) -> None:
    text = _plain(tmp_path / "plain")
    said = call_owb("data", "check", text, "--sheet", str(tmp_path / "sheet.png"))
    assert f"contact sheet: {tmp_path / 'sheet.png'}" in said.err
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    step = SIDE + GAP
    assert sheet.shape == (2 * step, NAMES + 8 * step, 3)
    for line, colour in enumerate(((200, 10, 10), (10, 10, 200))):
        for place in range(8):
            left, top = NAMES + place * step, line * step
            assert (sheet[top : top + SIDE, left : left + SIDE // 2] == colour).all()  # twice as high as wide
            assert (sheet[top : top + SIDE, left + SIDE // 2 : left + step] == 255).all()
    call_owb("data", "check", text, "--sheet", str(tmp_path / "sheet.html"))
    page = (tmp_path / "sheet.html").read_text(encoding="utf-8")
    assert re.findall("<th>(.*?)</th>", page) == ["&lt;ant&gt;", "蜂"]
    strips = [Image.open(BytesIO(base64.b64decode(found))) for found in re.findall('base64,([^"]+)', page)]
    assert [strip.size for strip in strips] == [(8 * step, SIDE)] * 2


@pytest.mark.parametrize(
    ("dataset", "file", "sentence"),
    [
        ("digits", "sheet.gif", "a contact sheet is called *.png or *.html, not sheet.gif"),
        ("digits", "none/sheet.png", "cannot write"),
        ("clinc150", "sheet.png", "a contact sheet shows images of 1 or 3 channels"),
    ],
)
def test_a_sheet_that_cannot_be_made_is_refused(
    dataset: str, file: str, sentence: str, tmp_path: Path, call_owb: Owb
) -> None:
    said = call_owb("data", "check", dataset, "--sheet", str(tmp_path / file))
    assert said.code == 2
    assert sentence in said.err
    assert not [*tmp_path.glob("*sheet*")]
