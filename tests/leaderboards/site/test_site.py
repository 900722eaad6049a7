"""A page says what the ranking says, in every format; what a board calls its strategies stays text; the same
board gives the same bytes.
"""

from __future__ import annotations

import base64
import csv
import doctest
import hashlib
import io
import json
import math
import re
import runpy
import shlex
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from checkout import ROOT
from runs import BLOBS, Run
from site_records import BOARDS, HOSTILE, hostile_records, records_of
from typer.testing import CliRunner

from harness.cli.app import app
from harness.errors import UserError
from harness.results import latex
from harness.results.latex import MOST_METRICS
from harness.results.ranking import Ranking
from harness.results.tables import ranking_table
from harness.store.mlflow_store import Store
from leaderboards.site import (
    build_boards,
    figures,
    page_of_records,
    report_of_board,
    report_of_records,
    reproduce,
    tables,
    write_index,
    write_page,
)
from leaderboards.site.figures import PALETTE, pareto_front
from leaderboards.site.pages import CSV, HTML, LATEX, MARKDOWN, SUMMARY, files_of
from leaderboards.site.report import Report
from leaderboards.site.tables import in_short, short_names


class _Tables(HTMLParser):
    """The cells of every table: their text and what they are sorted by; and the text of every script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[tuple[str, str | None]]]] = {}
        self.scripts: list[str] = []
        self.elements: list[str] = []
        self.links: list[str] = []
        self._table, self._in_cell, self._in_script = "", False, False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        self.elements.append(tag)
        self.links += [
            value or "" for name, value in attrs if name in ("src", "href", "action", "srcset", "style")
        ]
        if tag == "table":
            self._table = said.get("id") or ""
            self.tables[self._table] = []
        elif tag == "tr" and self._table:
            self.tables[self._table].append([])
        elif tag in ("td", "th") and self._table:
            self._in_cell = True
            self.tables[self._table][-1].append(("", said.get("data-sort")))
        elif tag == "script":
            self._in_script = True
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False
        elif tag == "table":
            self._table = ""
        elif tag == "script":
            self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data
        elif self._in_cell and self._table:
            text, sort = self.tables[self._table][-1][-1]
            self.tables[self._table][-1][-1] = (text + data, sort)


@pytest.fixture(scope="module")
def ncd() -> Report:
    return report_of_board(BOARDS / "ncd", curves=False)


@pytest.fixture(scope="module")
def stream() -> Report:
    """A board with curves over stages, curves in between, and matrices."""
    return report_of_board(BOARDS / "noisy-stream")


@pytest.fixture(scope="module")
def hostile() -> dict[str, str]:
    return page_of_records(hostile_records(), name="hostile", title="<h1>&\\end{document}")


# --- the same numbers everywhere ----------------------------------------------------------------------------


def test_the_tables_of_the_page_hold_the_numbers_of_the_ranking(ncd: Report) -> None:
    tables = _Tables(files_of(ncd)[HTML]).tables
    for number, ranking in enumerate(ncd.rankings, start=1):
        _, *lines = tables[f"table-{number}"]
        texts = [[" ".join(text.split()) for text, _ in line] for line in lines]
        assert texts == ranking_table(ranking).rows
        for row, line in zip(ranking.rows, lines, strict=True):
            for metric, (_, sort) in zip(ranking.metrics, line[3:], strict=False):
                mean = row.intervals[metric.name].mean
                assert (float(sort) == mean) if sort else math.isnan(mean)


def test_csv_reads_back_as_the_ranking(ncd: Report) -> None:
    rows = list(csv.DictReader(io.StringIO(files_of(ncd)[CSV])))
    for ranking in ncd.rankings:
        for row in ranking.rows:
            own = [
                one for one in rows if (one["scenario"], one["strategy"]) == (ranking.scenario, row.strategy)
            ]
            assert [one["metric"] for one in own] == [metric.name for metric in ranking.metrics]
            assert float(own[0]["mean"]) == pytest.approx(row.intervals[ranking.primary.name].mean)


def _plain(latex: str) -> str:
    """Undo the escapes by their names, in an order of its own."""
    named = {
        r"\textbackslash{}": "\0",
        r"\textasciicircum{}": "^",
        r"\textasciitilde{}": "~",
        r"\textless{}": "<",
        r"\textgreater{}": ">",
        r"\textbar{}": "|",
        r"\textquotedbl{}": '"',
        r"\textasciigrave{}": "`",
        r"$\pm$": "±",
        r"$\uparrow$": "↑",
        r"$\downarrow$": "↓",
    }
    for name, letter in named.items():
        latex = latex.replace(name, letter)
    latex = re.sub(r"^(.*?)\\textbf\{(.*)\}$", r"\1\2", latex)
    return re.sub(r"\\([{}$&#%_])", r"\1", latex).replace("\0", "\\")


def _latex_tables(text: str) -> list[list[list[str]]]:
    bodies = re.findall(r"\\toprule\n(.*?)\\bottomrule", text, re.DOTALL)
    lines = [
        [line.removesuffix(r" \\") for line in body.splitlines() if not line.startswith(r"\midrule")]
        for body in bodies
    ]
    return [[[_plain(cell) for cell in re.split(r" & ", line)] for line in table] for table in lines]


def _shown(ranking: Ranking) -> list[list[str]]:
    table = ranking_table(ranking, metrics=[metric.name for metric in ranking.metrics[:MOST_METRICS]])
    return [table.header, *table.rows]


def test_latex_reads_back_as_the_ranking(ncd: Report) -> None:
    assert _latex_tables(files_of(ncd)[LATEX]) == [_shown(ranking) for ranking in ncd.rankings]


def test_markdown_of_records_reads_back_as_the_ranking() -> None:
    records = records_of({"replay": [0.8, 0.81], "fine-tune": [0.1, 0.2], "joint": [0.9, 0.91]})
    text = page_of_records(records, name="mine")[MARKDOWN]
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    (ranking,) = report_of_records(records, name="mine").rankings
    table = ranking_table(ranking)
    assert lines[0] == table.header
    assert [[cell.strip() for cell in line][:3] for line in lines[2:]] == [row[:3] for row in table.rows]


def test_the_markdown_of_a_board_is_its_readme(ncd: Report) -> None:
    assert files_of(ncd)[MARKDOWN] == (BOARDS / "ncd" / "README.md").read_text(encoding="utf-8")


# --- what comes from a board stays text ---------------------------------------------------------------------


def test_a_label_never_becomes_an_element_or_a_script(hostile: dict[str, str]) -> None:
    parsed = _Tables(hostile[HTML])
    assert len(parsed.scripts) == 4  # theme, data, plotly, page
    assert not any(
        "alert" in script and "json" not in script and "{" not in script for script in parsed.scripts
    )
    assert "<script>alert" not in hostile[HTML]
    assert "<b>more" not in hostile[HTML]
    assert [text for line in parsed.tables["table-1"] for text, _ in line if "alert" in text] == [HOSTILE[0]]
    assert parsed.elements.count("h1") == 1


def test_the_data_in_the_page_has_no_bracket_and_is_what_was_meant(hostile: dict[str, str]) -> None:
    data = next(script for script in _Tables(hostile[HTML]).scripts if script.startswith("{"))
    assert not set("<>&") & set(data)
    cells = dict(json.loads(data)["cells"][0]["strategies"])
    assert set(HOSTILE) < set(cells)
    assert [row[1] for row in cells[HOSTILE[1]]["rows"]] == ["done", "done", "timeout"]


def test_plotly_gets_labels_without_tags(hostile: dict[str, str]) -> None:
    data = json.loads(next(script for script in _Tables(hostile[HTML]).scripts if script.startswith("{")))
    ticks = data["pictures"]["intervals-1"][0]["layout"]["yaxis"]["ticktext"]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in ticks
    assert not any("<" in tick for tick in ticks)


def test_a_label_never_becomes_a_latex_command(hostile: dict[str, str]) -> None:
    text = hostile[LATEX]
    assert r"\input" not in text
    assert r"\end{document}" not in text
    assert r"\textbackslash{}input\{/etc/passwd\}" in text
    labels = {row[2] for table in _latex_tables(text) for row in table}
    assert {" ".join(label.split()) for label in HOSTILE} < labels
    assert {line for line in text.splitlines() if "%" in line.replace(r"\%", "")} == {text.splitlines()[0]}


def test_only_scripts_that_are_named_by_digest_may_run_and_nothing_may_be_fetched(
    hostile: dict[str, str],
) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', hostile[HTML])
    assert policy
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].replace("&#39;", "'").split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data: blob:"
    assert not {"connect-src", "font-src", "frame-src"} & set(rules)
    allowed = set(re.findall(r"'sha256-([^']+)'", rules["script-src"]))
    assert "unsafe" not in rules["script-src"]
    theme, _, _, page = _Tables(hostile[HTML]).scripts
    assert {
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in (theme, page)
    } < allowed
    assert len(allowed) == 3


def test_no_address_leads_out_of_the_site(hostile: dict[str, str], ncd: Report) -> None:
    for page in (hostile[HTML], files_of(ncd)[HTML]):
        assert not [link for link in _Tables(page).links if "//" in link or link.startswith("javascript")]


def test_the_gallery_shows_every_kind_of_picture_of_a_page(
    stream: Report, ncd: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs/pictures")
    shown = set(runpy.run_path(str(ROOT / "docs/pictures/gallery.py"))["PAGE"])
    drawn = set()
    for page in (files_of(stream)[HTML], files_of(ncd)[HTML]):
        data = next(script for script in _Tables(page).scripts if script.startswith("{"))
        drawn |= {re.sub(r"-\d+$", "-1", name) for name in json.loads(data)["pictures"]}
    assert len(drawn) >= 7
    assert drawn <= shown


# --- pictures -----------------------------------------------------------------------------------------------


def test_plotly_itself_accepts_every_picture(stream: Report, hostile: dict[str, str]) -> None:
    graph_objects: Any = pytest.importorskip("plotly.graph_objects")
    for page in (files_of(stream)[HTML], hostile[HTML]):
        pictures = json.loads(next(script for script in _Tables(page).scripts if script.startswith("{")))[
            "pictures"
        ]
        assert pictures
        for variants in pictures.values():
            for variant in variants:
                assert graph_objects.Figure(data=variant["data"], layout=variant["layout"]).data


def test_the_interval_plot_holds_the_means_of_the_ranking(ncd: Report) -> None:
    data = json.loads(
        next(script for script in _Tables(files_of(ncd)[HTML]).scripts if script.startswith("{"))
    )
    (trace,) = data["pictures"]["intervals-1"][0]["data"]
    rows = list(ncd.rankings[0].rows)[::-1]
    assert trace["text"] == [row.strategy for row in rows]
    assert trace["x"] == pytest.approx([100 * row.intervals["novel_train"].mean for row in rows], rel=1e-4)
    assert trace["error_x"]["array"] == pytest.approx(
        [100 * row.intervals["novel_train"].half_width for row in rows], rel=1e-4
    )


def test_the_front_holds_contenders_that_nobody_beats_in_both() -> None:
    """Seconds grow with the length of a label: a 21, bb 31, ccc 41, dddd 51."""
    records = records_of(
        {"a": [0.5, 0.51], "bb": [0.4, 0.41], "ccc": [0.7, 0.71], "dddd": [0.71, 0.7], "joint": [0.9, 0.9]}
    )
    assert [row.strategy for row in pareto_front(report_of_records(records, name="x").rankings[0])] == [
        "a",
        "ccc",
    ]


def test_colours_of_strategies_are_readable_on_white_and_on_the_dark_ground() -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour in PALETTE:
        assert 1.05 / (luminance(colour) + 0.05) >= 3
        assert (luminance(colour) + 0.05) / (luminance("#13161a") + 0.05) >= 3


def test_the_last_row_of_the_accuracy_matrix_averages_to_the_ranked_figure() -> None:
    """R[T, j] over stages j is what class-incremental learning calls the average accuracy."""
    report = report_of_board(BOARDS / "class-incremental")
    section = report.sections[0]
    assert section.remark == ""
    for row in section.ranking.rows:
        matrix = section.curves.matrices["accuracy"][row.strategy]
        assert np.mean(matrix[-1]) == pytest.approx(row.intervals["average_accuracy"].mean)


def test_a_curve_ends_at_the_figure_after_the_last_stage(stream: Report) -> None:
    (section,) = stream.sections
    for row in section.ranking.rows:
        curve = section.curves.stages["accuracy"][row.strategy]
        assert curve.intervals[-1].mean == pytest.approx(row.intervals["last_accuracy"].mean)
        assert curve.x == [1.0, 2.0, 3.0, 4.0, 5.0]


# --- cells again --------------------------------------------------------------------------------------------


def test_the_command_of_a_cell_selects_that_cell(ncd: Report, tmp_path: Path) -> None:
    cells = json.loads(
        next(script for script in _Tables(files_of(ncd)[HTML]).scripts if script.startswith("{"))
    )["cells"]
    own = dict(cells[0]["strategies"])["cr-kd[alpha=0.02]"]
    words = shlex.split(own["one"].replace("{seeds}", "3"))
    assert words[:2] == ["owb", "run"]
    planned = CliRunner().invoke(app, [*words[1:], "--plan", "--json", "--store", str(tmp_path / "none")])
    rows = json.loads(planned.stdout)
    assert [(row["strategy"], row["seed"]) for row in rows] == [
        ("cr-kd[alpha=0.02]", seed) for seed in range(3)
    ]
    assert {row["protocol"] for row in rows} == {ncd.rankings[0].protocol_hash}


def test_an_experiment_is_rendered_straight_from_the_store(tiny_run: Run, tmp_path: Path) -> None:
    tiny_run(["joint", "fine-tune"], seeds=2)
    done = CliRunner().invoke(
        app,
        [
            "board",
            "build",
            "--store",
            str(tmp_path / "store"),
            "--name",
            "test",
            "--out",
            str(tmp_path / "out"),
        ],
    )
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "out" / "test").iterdir()) == sorted(
        [HTML, CSV, MARKDOWN, LATEX, SUMMARY]
    )
    records = Store(str(tmp_path / "store")).records("test")
    report = report_of_records(records, name="test", store=Store(str(tmp_path / "store")))
    (section,) = report.sections
    assert section.ranking.scenario == BLOBS
    assert {strategy: [line.key for line in lines] for strategy, lines in section.cells.items()} == {
        label: [
            record.key
            for record in sorted(records, key=lambda record: record.seed)
            if record.strategy == label
        ]
        for label in ("fine-tune", "joint")
    }
    assert set(section.curves.matrices["accuracy"]) == {"fine-tune", "joint"}
    assert report.environments[0]["threads_per_worker"] == 1


def test_an_experiment_without_records_is_named() -> None:
    with pytest.raises(UserError, match="experiment 'nothing' has no records"):
        report_of_records([], name="nothing")


# --- the site -----------------------------------------------------------------------------------------------


def test_the_same_board_gives_the_same_bytes(ncd: Report) -> None:
    assert files_of(ncd) == files_of(report_of_board(BOARDS / "ncd", curves=False))


def test_the_index_lists_every_page_and_leads_to_it(tmp_path: Path, hostile: dict[str, str]) -> None:
    boards = [BOARDS / "ncd", BOARDS / "cgcd-unknown-k"]
    assert [folder.name for folder in build_boards(boards, tmp_path, curves=False)] == [
        "ncd",
        "cgcd-unknown-k",
    ]
    write_page(hostile, tmp_path / "hostile")
    page = write_index(tmp_path).read_text(encoding="utf-8")
    parsed = _Tables(page)
    links = [link for link in parsed.links if link.endswith("/index.html")]
    assert links == ["cgcd-unknown-k/index.html", "hostile/index.html", "ncd/index.html"]
    assert all((tmp_path / link).is_file() for link in links)
    assert "<script>alert" not in page
    assert len(parsed.scripts) == 2


def test_a_board_that_is_not_there_is_named(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["board", "build", "ncdd", "--root", str(BOARDS), "--out", str(tmp_path)])
    assert "ncd" in str(found.exception)
    assert isinstance(found.exception, UserError)


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"a": [0.8, 0.81, 0.8]}, "a is the only contender."),
        ({"a": [0.8], "b": [0.7]}, "a has the best bare figure; one seed cannot decide."),
        (
            {"a": [0.8, 0.81, 0.8], "b": [0.1, 0.2, 0.15], "c": [0.1, 0.2]},
            "a leads, significantly better than all other contenders; 1 lacks seeds.",
        ),
        (
            {"a": [0.8, 0.81, 0.8], "b": [0.8, 0.79, 0.81], "c": [0.1, 0.2, 0.15]},
            "a leads; statistically indistinguishable from it: b; 1 is worse.",
        ),
        (
            {"a": [0.8, 0.9], "b": [0.7, 0.8, math.nan]},
            "a has the best bare figure; no contender has every seed.",
        ),
    ],
)
def test_who_leads_is_said_in_a_sentence(figures: dict[str, list[float]], said: str) -> None:
    (ranking,) = report_of_records(records_of(figures), name="mine").rankings
    assert in_short(ranking) == said


def test_names_that_cannot_be_read_stay_whole() -> None:
    labels = ["a[x=[1]", "a[x=2]"]
    assert short_names(labels) == {"a[x=[1]": "a[x=[1]", "a[x=2]": "a, x=2"}


@pytest.mark.parametrize("module", [figures, latex, reproduce, tables])
def test_examples_in_docstrings_hold(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0
