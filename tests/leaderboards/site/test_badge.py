"""A badge says what the board says, to eyes and to screen readers, and its texts fit in any font."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from browser import CHROMIUM, Browser
from site_records import BOARDS, hostile_records, records_of
from typer.testing import CliRunner

from harness.cli.app import app
from harness.errors import UserError
from harness.results.aggregate import aggregate
from harness.results.formats import figure
from harness.results.ranking import Ranking, rankings
from leaderboards.publishing.board import read_board
from leaderboards.site.badge import badge, badges

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def board() -> list[Ranking]:
    return read_board(BOARDS / "class-incremental").rankings()


def texts(picture: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(picture).iter(f"{SVG}text")]


def test_it_says_the_place_and_the_interval_of_a_scenario(board: list[Ranking]) -> None:
    ranking = board[0]
    row = next(row for row in ranking.rows if row.strategy == "der")
    contenders = sum(row.role == "contender" for row in ranking.rows)
    value = figure(row.intervals["average_accuracy"], 100)
    assert texts(badge(board, "class-incremental", "der", ranking.scenario)) == [
        f"class-incremental: {ranking.scenario}",
        f"place {row.place} of {contenders} | average accuracy {value} %",
    ]


def test_over_several_scenarios_it_says_the_scaled_mean(board: list[Ranking]) -> None:
    row = next(row for row in aggregate(board).rows if row.strategy == "der")
    assert texts(badge(board, "class-incremental", "der")) == [
        "class-incremental",
        f"place {row.place} of {len(aggregate(board).rows)} | scaled mean {figure(row.mean, 1)}",
    ]


def test_a_bound_has_no_place(board: list[Ranking]) -> None:
    _, said = texts(badge(board, "class-incremental", "joint", board[0].scenario))
    assert said.startswith("upper bound | average accuracy ")
    with pytest.raises(UserError, match="'joint' bounds the board"):
        badge(board, "class-incremental", "joint")
    assert "joint.svg" not in badges(board, "class-incremental")
    assert set(badges(board, "class-incremental")) >= {"der.svg", "replay.svg"}


def test_names_that_are_not_there_are_answered_with_the_nearest(board: list[Ranking]) -> None:
    with pytest.raises(UserError, match="unknown strategy 'dre'; did you mean 'der'"):
        badge(board, "class-incremental", "dre")
    with pytest.raises(
        UserError, match=r"unknown scenario .* did you mean 'class-incremental.dataset=digits.'"
    ):
        badge(board, "class-incremental", "der", "class-incremental[dataset=digit]")


def test_a_screen_reader_hears_all_of_it(board: list[Ranking]) -> None:
    root = ElementTree.fromstring(badge(board, "class-incremental", "der"))
    (title,) = root.iter(f"{SVG}title")
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == title.get("id")
    assert title.text is not None
    assert title.text.startswith("der on class-incremental: place ")


def test_it_asks_nobody_for_anything_and_what_a_label_holds_is_text() -> None:
    found = rankings(hostile_records())
    for picture in badges(found[:1], "hostile").values():
        root = ElementTree.fromstring(picture)
        assert {element.tag for element in root.iter()} == {
            f"{SVG}{name}" for name in ("svg", "title", "rect", "text")
        }
        assert not re.search(r"(?:href|src|url\()", re.sub(r"<(?:title|text)[^>]*>[^<]*", "", picture))


def test_white_on_its_grounds_can_be_read(board: list[Ranking]) -> None:
    """Contrast after WCAG 2.1, at least 4.5 for small text."""

    def luminance(colour: str) -> float:
        shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        return sum(weight * share for weight, share in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    root = ElementTree.fromstring(badge(board, "class-incremental", "der"))
    for ground in root.iter(f"{SVG}rect"):
        assert 1.05 / (luminance(ground.get("fill", "")) + 0.05) > 4.5


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")
def test_texts_lie_in_their_fields_whatever_the_font(board: list[Ranking], tmp_path: Path) -> None:
    records = records_of({"m" * 60: [0.8, 0.81, 0.8], "漢字と仮名": [0.1, 0.2, 0.15], "i.l": [0.3, 0.2, 0.1]})
    pictures = [badge(board, "class-incremental", "der"), *badges(rankings(records), "board").values()]
    ask = (
        "JSON.stringify(Array.from(document.querySelectorAll('svg'), (svg) => { const fields = svg.querySelectorAll('rect');"
        "return Array.from(svg.querySelectorAll('text'), (text, at) => { const own = text.getBBox(), field = fields[at].getBBox();"
        "return own.x >= field.x && own.x + own.width <= field.x + field.width && own.y >= 0 && own.y + own.height <= 20; }); }))"
    )
    with Browser(tmp_path / "profile") as browser:
        for font in ("DejaVu Sans", "serif", "monospace"):
            page = tmp_path / "page.html"
            drawn = "".join(pictures).replace("Verdana, DejaVu Sans, Geneva, sans-serif", font)
            page.write_text(f"<!doctype html><meta charset='utf-8'><body>{drawn}", encoding="utf-8")
            browser.open(page)
            assert "false" not in browser.ask(ask)
            assert browser.ask(ask).count("true") == 2 * len(pictures)


def test_the_verb_writes_it_under_the_name_of_the_strategy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    call = ["board", "badge", "class-incremental", "der", "--root", str(BOARDS)]
    assert CliRunner().invoke(app, call).exit_code == 0
    first = (tmp_path / "der.svg").read_bytes()
    assert CliRunner().invoke(app, [*call, "--out", "again.svg"]).exit_code == 0
    assert (tmp_path / "again.svg").read_bytes() == first
