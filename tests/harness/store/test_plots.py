"""Pictures of a cell: what is drawn is what was scored, and none is larger than it may be, whatever there is
to show.
"""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from harness.contracts import Axes, Scores
from harness.store import canvas, line_plots, matrix_plots, plots

SCORES = Scores(
    final={},
    per_stage={"all": [1.0, 0.8], "old": [np.nan, 0.9], "new": [1, 0.4]},
    probes={"all": [(0, 5, 0.3), (0, 9, 0.6)]},
    matrices={"accuracy": np.array([[1.0, np.nan], [0.9, 0.4]])},
)


def test_a_cell_gets_its_matrix_its_curve_and_its_stages(tmp_path: Path) -> None:
    made = plots.draw(SCORES, tmp_path, title="a cell")
    assert sorted(path.name for path in made) == ["accuracy_matrix.png", "all_curve.png", "stages.png"]
    for path in made:
        with Image.open(path) as image:
            assert min(image.size) > 100


def test_stage_lines_draw_the_first_five_figures_of_every_run_or_those_named() -> None:
    many = {f"f{number}": [0.1 * number] * 3 for number in range(7)}
    panels = line_plots.stage_lines([many, many], ["one", "two"], title="").axes
    assert [len(panel.lines) for panel in panels] == [5, 5]
    assert [panel.get_title() for panel in panels] == ["one", "two"]
    (panel,) = line_plots.stage_lines([SCORES.per_stage], [""], title="a cell", names=["new"]).axes
    np.testing.assert_array_equal(panel.lines[0].get_ydata(), [1.0, 0.4])


def test_a_strip_shows_every_case_as_it_is_with_its_caption() -> None:
    cases = np.random.default_rng(0).random((2, 3, 4, 5))
    drawn = matrix_plots.strip(cases, ["brick: best", "brick: worst"], title="a cell").axes
    assert len(drawn) == 6
    np.testing.assert_array_equal(drawn[4].images[0].get_array(), cases[1, 1])
    assert [axes.get_title() for axes in drawn[:3]] == ["image", "mask", "map"]
    assert [drawn[row].get_ylabel() for row in (0, 3)] == ["brick: best", "brick: worst"]


# --- both themes --------------------------------------------------------------------------------------------


def test_a_drawing_has_no_ground_and_its_text_the_colour_of_the_page() -> None:
    figure = line_plots.panel({"all": [(0, 5, 0.3), (0, 9, 0.6)]}, title="<b>a cell</b>")
    drawn = canvas.svg(figure)
    root = ElementTree.fromstring(drawn)
    assert root.get("fill") == "currentColor"
    assert "#000000" not in drawn
    assert "#ffffff" not in drawn
    assert "<b>a cell</b>" in {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert canvas.svg(line_plots.panel({"all": [(0, 5, 0.3), (0, 9, 0.6)]}, title="<b>a cell</b>")) == drawn


def test_text_on_a_coloured_cell_keeps_its_colour() -> None:
    drawn = canvas.svg(matrix_plots.heat_map(np.array([[0.07, 0.93]]), title="", quantity=""))
    found = re.findall(r'style="([^"]*)"[^>]*>(7|93)</text>', drawn)
    assert [("fill: #ffffff" in style, "fill: #101010" in style) for style, _ in found] == [
        (True, False),
        (False, True),
    ]


# --- bounds -------------------------------------------------------------------------------------------------


def scores_of(stages: int) -> Scores:
    """Return everything that grows with the number of stages: matrices, some of them narrow or named, panels,
    curves, lines and strips.
    """
    rng = np.random.default_rng(0)
    names = [f"class {number}" for number in range(stages)]
    curves = {
        name: [(stage, step, float(rng.random())) for stage in range(stages) for step in (1, 2)]
        for name in "abc"
    }
    matrices = {
        "accuracy": rng.random((stages, stages)),
        "wide": rng.random((3, stages)),
        "tall": rng.random((stages, 2)),
    }
    return Scores(
        final={},
        per_stage={"all": rng.random(stages).tolist()},
        probes=curves,
        panels={"both": ["a", "b"]},
        matrices=matrices,
        axes={"accuracy": Axes("row", "column", names, names)},
        strips={"cases": (rng.random((stages, 3, 8, 8)), names)},
        histograms={"losses": {"right": rng.random(stages), "wrong": rng.random(stages)}},
    )


def _check_size(picture: Any) -> None:
    width, height = picture
    assert 100 < min(width, height) <= max(width, height) <= canvas.LONGEST_SIDE
    assert width * height <= canvas.MOST_PIXELS


def test_the_examples_run() -> None:
    assert doctest.testmod(canvas).failed == 0


@pytest.mark.parametrize("stages", [3, 30, 200, 1000])
def test_no_picture_is_larger_than_it_may_be(stages: int, tmp_path: Path) -> None:
    made = plots.draw(scores_of(stages), tmp_path, title="a cell", say=pytest.fail)
    assert {path.stem for path in made} == {
        "accuracy_matrix",
        "wide_matrix",
        "tall_matrix",
        "both_panel",
        "c_curve",
        "losses_histogram",
        "cases_strip",
        "stages",
    }
    for path in made:
        with Image.open(path) as image:
            _check_size(image.size)


@pytest.mark.parametrize("size", [(3, 2), (30, 30), (1000, 5), (9, 800), (1000, 1000)])
def test_a_canvas_is_as_large_as_asked_where_it_may_be(size: tuple[int, int]) -> None:
    for dpi in (90, 110):
        found = canvas.canvas(*size, dpi=dpi).get_size_inches()
        _check_size(np.floor(found * dpi))
        if max(size) * dpi <= canvas.LONGEST_SIDE and size[0] * size[1] * dpi**2 <= canvas.MOST_PIXELS:
            assert tuple(found) == size


def test_diagrams_and_comparisons_are_bounded_too() -> None:
    values = [float(value) for value in range(300)]
    shares = {"a": np.ones((300, 300)), "b": np.zeros((300, 300))}
    diagram = matrix_plots.phase_diagram(
        shares, rows=values, columns=values, title="", row_name="", column_name=""
    )
    many = line_plots.stage_lines([SCORES.per_stage] * 50, [str(run) for run in range(50)], title="runs")
    assert [axes.get_title() for axes in many.axes] == ["0", "8", "16", "24", "33", "41", "49"]
    assert many.get_suptitle() == "runs (7 of 50 runs)"
    for figure in (diagram, many):
        _check_size(figure.get_size_inches() * figure.dpi)


def test_what_is_left_out_is_said_and_first_and_last_are_shown() -> None:
    curves = {"a": [(stage, 1, 0.5) for stage in range(200)]}
    drawn = line_plots.panel(curves, title="a cell")
    labels = [axes.get_xlabel() for axes in drawn.axes]
    assert (labels[0], labels[-1], len(labels)) == ("epoch of stage 0", "epoch of stage 199", 7)
    assert drawn.get_suptitle() == "a cell (7 of 200 stages)"
    assert line_plots.panel({"a": curves["a"][:7]}, title="a cell").get_suptitle() == "a cell"
    rows = matrix_plots.strip(np.zeros((40, 3, 4, 4)), [str(row) for row in range(40)], title="a cell")
    assert (rows.axes[0].get_ylabel(), rows.axes[-3].get_ylabel(), rows.get_suptitle()) == (
        "0",
        "39",
        "a cell (18 of 40 rows)",
    )


def test_a_matrix_of_many_rows_keeps_its_values_and_names_the_rows_that_it_marks() -> None:
    matrix = np.random.default_rng(0).random((200, 4))
    (axes, _) = matrix_plots.heat_map(
        matrix, Axes("class", "kind", [f"c{row}" for row in range(200)]), title="", quantity=""
    ).axes
    np.testing.assert_array_equal(axes.images[0].get_array(), matrix)
    assert [text.get_text() for text in axes.get_yticklabels()] == [f"c{row}" for row in range(0, 200, 10)]


def test_a_picture_that_fails_is_one_line_and_the_others_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_much(*_: object, **__: object) -> None:
        raise MemoryError("no room for a matrix")

    monkeypatch.setattr(plots, "heat_map", too_much)
    said: list[str] = []
    made = plots.draw(SCORES, tmp_path, title="a cell", say=said.append)
    assert (
        sorted(path.name for path in made)
        == sorted(path.name for path in tmp_path.iterdir())
        == ["all_curve.png", "stages.png"]
    )
    (line,) = said
    assert line.startswith("accuracy_matrix.png could not be drawn: MemoryError: no room for a matrix")


def test_pictures_of_500_stages_take_little_memory(tmp_path: Path) -> None:
    """3.7 GB went for 200 stages when every cell had its half inch."""
    code = f"""
import resource, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from harness.store import plots
from test_plots import SCORES, scores_of
plots.draw(SCORES, Path({str(tmp_path)!r}), title="")
scores = scores_of(500)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
plots.draw(scores, Path({str(tmp_path)!r}), title="")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert float(said) < 200, "MiB"
