"""The pages as a person meets them: in Chromium, without a network, by mouse and by keyboard, on a desk and
on a phone.

Screenshots are left in `.pytest_cache/pages` for a look.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from checkout import ROOT
from PIL import Image
from site_records import BOARDS, HOSTILE, hostile_records

from harness.studies.ablation.page import write_report
from leaderboards.publishing.ablation_on_board import board_report
from leaderboards.publishing.board import read_board
from leaderboards.site import build_boards, page_of_records, write_index, write_page

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"
)
PAGES = ("ncd", "noisy-stream", "hostile")
SHOTS = ROOT / ".pytest_cache" / "pages"
PHONE = 320

ORDER = "Array.from(document.querySelectorAll('#table-1 tbody tr.line'), (row) => row.dataset.strategy)"
SHOWN = "Array.from(document.querySelectorAll('#table-1 tbody tr.line:not([hidden])'), (row) => row.dataset.strategy)"
HEADING = "document.querySelector('#table-1 thead [data-column=\"{}\"]').parentNode.getAttribute('aria-sort')"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two committed boards, one of them with curves and matrices, a page of records with failures and hostile
    labels, and the report of an ablation.
    """
    out = tmp_path_factory.mktemp("site")
    list(build_boards([BOARDS / "ncd"], out, curves=False))
    list(build_boards([BOARDS / "noisy-stream"], out))
    write_page(page_of_records(hostile_records(), name="hostile", title="Hostile <labels>"), out / "hostile")
    write_index(out)
    ablation = board_report(read_board(BOARDS / "cr-kd-ablation"))
    assert ablation is not None
    write_report(ablation, out / "study")
    return out


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def _page(site: Path, name: str) -> Path:
    lone = {"index": site / "index.html", "study": site / "study" / "effects.html"}
    return lone.get(name, site / name / "index.html")


def _share_of_white(screenshot: Path) -> float:
    """Return the share of a screenshot's pixels that are white or nearly so; text on a dark page is not."""
    with Image.open(screenshot) as image:
        return float((np.asarray(image.convert("RGB")).min(axis=2) >= 250).mean())


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_page_draws_every_picture_without_a_request_or_a_complaint(
    site: Path, browser: Browser, name: str, dark: bool
) -> None:
    browser.open(_page(site, name), dark=dark)
    browser.draw_all()
    browser.screenshot(SHOTS / f"{name}-{'dark' if dark else 'light'}.png", whole=True)
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith(("data:", "blob:"))] == [
        _page(site, name).as_uri()
    ]
    assert browser.ask("document.querySelectorAll('[data-picture] svg.main-svg').length") > 0
    ground = browser.ask("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(19, 22, 26)" if dark else "rgb(255, 255, 255)")
    white = _share_of_white(SHOTS / f"{name}-{'dark' if dark else 'light'}.png")
    assert white < 0.001 if dark else white > 0.5


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_picture_of_a_study_stands_on_the_page_in_its_colours(
    site: Path, browser: Browser, dark: bool
) -> None:
    browser.open(_page(site, "study"), dark=dark)
    shot = SHOTS / f"study-{'dark' if dark else 'light'}.png"
    browser.screenshot(shot, whole=True)
    fills = "Array.from(document.querySelectorAll('.drawn text'), (text) => getComputedStyle(text).fill)"
    assert set(browser.ask(fills)) == {browser.ask("getComputedStyle(document.body).color")}
    assert _share_of_white(shot) < 0.001 if dark else _share_of_white(shot) > 0.5
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [_page(site, "study").as_uri()]


@pytest.mark.parametrize("name", [*PAGES, "index", "study"])
def test_a_theme_that_is_chosen_is_kept_on_every_page_until_the_system_is_asked_again(
    site: Path, browser: Browser, name: str
) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    browser.open(_page(site, "index"))
    for theme, colour in (("dark", "rgb(19, 22, 26)"), ("system", "rgb(255, 255, 255)")):
        browser.choose("#theme", theme)
        assert browser.ask(ground) == colour
        browser.go(_page(site, name))
        assert browser.ask("document.getElementById('theme').value") == theme
        assert browser.ask(ground) == colour


@pytest.mark.parametrize("name", [*PAGES, "study"])
def test_every_page_leads_back_to_the_index(site: Path, browser: Browser, name: str) -> None:
    browser.open(_page(site, name))
    browser.click("header a")
    browser.wait_for("document.getElementById('search')")
    assert browser.ask("location.href") == _page(site, "index").as_uri()


@pytest.mark.parametrize("name", ["hostile", "index", "study"])
def test_every_control_is_reached_by_tab_shows_its_focus_and_has_a_name(
    site: Path, browser: Browser, name: str
) -> None:
    browser.open(_page(site, name))
    browser.draw_all()
    controls = (
        "Array.from(document.querySelectorAll('a[href], button, select, input, summary, [tabindex=\"0\"]'))"
        ".filter((one) => one.checkVisibility())"
    )
    waiting = browser.ask(f"(window.controls = {controls}).length")
    assert waiting > 5
    seen, hidden = set(), []
    for _ in range(2 * waiting):
        browser.press("Tab")
        at, line = browser.ask(
            "[window.controls.indexOf(document.activeElement), getComputedStyle(document.activeElement).outlineStyle]"
        )
        if at in seen:
            break
        if at >= 0:
            seen.add(at)
            hidden += [at] if line != "solid" else []
    assert seen == set(range(waiting))
    assert hidden == []
    assert browser.nameless_controls() == []


def test_pictures_are_drawn_when_frames_come_late(site: Path, browser: Browser) -> None:
    browser.open(_page(site, "ncd"))
    browser.hold_frames(1.5)
    browser.draw_all()
    assert browser.complaints == []


@pytest.mark.parametrize("name", [*PAGES, "index", "study"])
def test_a_phone_never_scrolls_sideways(site: Path, browser: Browser, name: str) -> None:
    browser.open(_page(site, name), width=PHONE, height=700)
    browser.draw_all()
    browser.screenshot(SHOTS / f"{name}-phone.png", whole=True)
    assert browser.ask("document.documentElement.scrollWidth") == PHONE
    assert browser.complaints == []


def test_columns_sort_by_click_and_say_so(site: Path, browser: Browser) -> None:
    browser.open(_page(site, "ncd"))
    by_place = browser.ask(ORDER)
    seconds = (
        "Array.from(document.querySelectorAll('#table-1 tbody tr.line'), (row) => "
        "Number(row.cells[row.cells.length - 2].dataset.sort))"
    )
    column = browser.ask("document.querySelector('#table-1 thead tr').cells.length - 2")
    browser.click(f"#table-1 thead [data-column='{column}']")
    assert browser.ask(HEADING.format(column)) == "ascending"
    assert browser.ask(seconds) == sorted(browser.ask(seconds))
    browser.click(f"#table-1 thead [data-column='{column}']")
    assert browser.ask(HEADING.format(column)) == "descending"
    assert browser.ask(seconds) == sorted(browser.ask(seconds), reverse=True)
    browser.click("#table-1 thead [data-column='0']")
    assert browser.ask(ORDER) == by_place
    assert browser.ask(HEADING.format(column)) is None


def test_the_first_click_on_a_figure_puts_the_best_on_top(site: Path, browser: Browser) -> None:
    browser.open(_page(site, "ncd"))
    browser.click("#table-1 thead [data-column='3']")
    assert browser.ask(HEADING.format(3)) == "descending"
    assert browser.ask(ORDER)[0] == "joint-novel"


def test_everything_works_by_keyboard(site: Path, browser: Browser) -> None:
    browser.open(_page(site, "ncd"))
    browser.press("Tab")
    assert browser.ask("document.activeElement.textContent") == "Skip to the content"
    browser.press("Enter")
    browser.ask("document.querySelector('[data-filter=\"table-1\"]').focus()")
    browser.type("cr-kd")
    assert browser.ask(SHOWN) == ["cr-kd[alpha=0.02]", "cr-kd"]
    assert browser.ask("document.querySelector('[data-count=\"table-1\"]').textContent") == "2 of 10 rows"
    for _ in range(3):  # past the button for all columns and the table that scrolls, to the first heading
        browser.press("Tab")
    assert browser.ask("document.activeElement.dataset.column") == "0"
    assert browser.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("Enter")
    assert browser.ask(HEADING.format(0)) == "descending"
    assert browser.ask(SHOWN) == ["cr-kd", "cr-kd[alpha=0.02]"]


def test_a_row_opens_to_its_cells_and_commands(site: Path, browser: Browser) -> None:
    browser.open(_page(site, "ncd"))
    browser.ask("document.querySelector('#table-1 button.more').focus()")
    browser.press("Space")
    assert (
        browser.ask("document.querySelector('#table-1 button.more').getAttribute('aria-expanded')") == "true"
    )
    shown = browser.ask("document.querySelector('#table-1 tr.opened').innerText")
    assert (
        "owb run 'cr-kd[alpha=0.02]' --scenario 'ncd[preset=digits]' --seeds 5 --no-bounds --timeout 1200"
        in shown
    )
    browser.click("#table-1 tr.opened tbody tr:nth-child(2) button")
    assert "--seeds 2 --no-bounds" in browser.ask("document.querySelector('#table-1 tr.opened').innerText")
    browser.press("Space")


def test_names_switch_lines_off_and_pictures_follow_the_theme(site: Path, browser: Browser) -> None:
    browser.open(_page(site, "noisy-stream"))
    browser.draw_all()
    visible = (
        "document.querySelector('[data-picture=\"curves-1\"]').data.filter((trace) => trace.visible "
        "!== false).length"
    )
    before = browser.ask(visible)
    browser.click("[data-legend='curves-1'] .chip")
    browser.wait_for(f"{visible} < {before}")
    assert (
        browser.ask("document.querySelector('[data-legend=\"curves-1\"] .chip').getAttribute('aria-pressed')")
        == "false"
    )
    browser.choose("#theme", "dark")
    assert browser.ask("getComputedStyle(document.body).backgroundColor") == "rgb(19, 22, 26)"
    browser.wait_for("document.querySelector('[data-picture=\"curves-1\"]').layout.font.color === '#e9ecf0'")
    assert browser.complaints == []


def test_another_picture_is_chosen_from_the_list(site: Path, browser: Browser) -> None:
    browser.open(_page(site, "noisy-stream"))
    browser.draw_all()
    title = "document.querySelector('[data-picture=\"intervals-1\"]').layout.xaxis.title.text"
    before = browser.ask(title)
    browser.choose("[data-choose='intervals-1']", "1")
    browser.wait_for(f"{title} !== {before!r}")
    assert browser.ask(title) not in ("", before)


def test_hostile_labels_are_shown_and_do_nothing(site: Path, browser: Browser) -> None:
    browser.open(_page(site, "hostile"))
    browser.draw_all()
    assert set(HOSTILE) < set(browser.ask(ORDER))
    for number in range(1, len(HOSTILE) + 1):
        browser.click(f"#table-1 tbody tr.line:nth-of-type({number}) button.more")
        browser.click(f"#table-1 tbody tr.line:nth-of-type({number}) button.more")
    assert browser.ask("document.querySelectorAll('script').length") == 5  # its own four, and plotly unpacked
    assert browser.complaints == []


def test_a_script_that_got_in_would_not_run_and_nothing_can_be_fetched(site: Path, browser: Browser) -> None:
    browser.open(_page(site, "hostile"))
    browser.ask(
        "(() => { const one = document.createElement('script'); one.textContent = 'window.hacked = 1'; "
        "document.body.append(one); })()"
    )
    assert browser.ask("window.hacked") is None
    assert browser.ask("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')") == "refused"
    assert any("Content Security Policy" in complaint for complaint in browser.complaints)


def test_the_index_searches(site: Path, browser: Browser) -> None:
    browser.open(_page(site, "index"))
    shown = (
        "Array.from(document.querySelectorAll('.boards > li:not([hidden]) code'), (code) => code.textContent)"
    )
    assert browser.ask(shown) == ["hostile", "ncd", "noisy-stream"]
    browser.ask("document.getElementById('search').focus()")
    browser.type("chars47 cr-kd")
    assert browser.ask(shown) == ["ncd"]
    assert browser.ask("document.getElementById('found').textContent") == "1 of 3 boards"
    assert browser.complaints == []
